//! The server alone in a container, hardened as `docker-compose.yml` does it.

use std::os::unix::fs::PermissionsExt as _;

use tailwater_e2e::eventually;

use crate::engine::{Container, HARDENING, Volume, engine, printed, server_image};

#[test]
#[ignore = "needs a container engine; `make test-images` runs it"]
fn a_server_keeps_its_streams_in_a_fresh_volume_through_a_stop_and_a_kill() {
    let volume = Volume::fresh();
    let mount = volume.at("/data");
    let server = Container::run(&server_image(), &[&HARDENING[..], &[&mount]].concat(), &[]);
    server.expect_healthy();
    server.exec(
        &["tailwater", "append", "kept", "--create", "--json"],
        "{\"at\":1}\n",
    );

    assert_eq!(server.stop(), 0, "it stops by itself:\n{}", server.logs());
    server.start();
    server.expect_healthy();
    assert_eq!(server.exec(&["tailwater", "read", "kept"], ""), r#"{"at":1}"#);
    server.exec(&["tailwater", "append", "kept", "--json"], "{\"at\":2}\n");

    server.kill();
    server.start();
    server.expect_healthy();
    let kept = server.exec(&["tailwater", "read", "kept"], "");
    assert_eq!(kept, "{\"at\":1}\n{\"at\":2}");
    assert_eq!(server.stop(), 0);
}

#[test]
#[ignore = "needs a container engine; `make test-images` runs it"]
fn a_server_answers_on_its_published_port_and_ends_its_readers_when_it_stops() {
    let options = [&HARDENING[..], &["--publish=127.0.0.1::4437"]].concat();
    let server = Container::run(&server_image(), &options, &[]);
    server.expect_healthy();
    let address = printed(&mut engine(&["port", server.name(), "4437/tcp"]));
    let url = format!("http://{address}/v1/stream/live");
    let made = ureq::put(&url).content_type("text/plain").send_empty();
    assert_eq!(made.expect("an answer").status(), 201);
    // A reader that would wait for a long time.
    let reader = std::thread::spawn(move || {
        let mut answer = ureq::get(&format!("{url}?offset=-1&live=sse"))
            .call()
            .expect("an answer");
        answer.body_mut().read_to_string()
    });
    eventually("the reader is there", || {
        let answer = ureq::get(&format!("http://{address}/metrics")).call();
        let text = answer.ok()?.body_mut().read_to_string().ok()?;
        text.contains("\ntailwater_live_readers 1\n").then_some(())
    });
    assert_eq!(
        server.stop(),
        0,
        "it lets them go, and nobody has to kill it:\n{}",
        server.logs()
    );
    let read = reader.join().expect("the reader ends");
    assert!(read.is_ok(), "its answer ends as answers do: {read:?}");
}

#[test]
#[ignore = "needs a container engine; `make test-images` runs it"]
fn a_directory_of_somebody_else_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let all_may_pass = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), all_may_pass).expect("it is ours");
    let mount = format!("--volume={}:/data", directory.path().display());
    let server = Container::run(&server_image(), &[&HARDENING[..], &[&mount]].concat(), &[]);
    assert_eq!(server.exit_code(), 1);
    let said = server.logs();
    assert!(said.contains("/data") && said.contains("65532"), "{said}");
}
