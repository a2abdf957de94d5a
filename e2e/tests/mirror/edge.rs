//! The whole path: clients append through Envoy, the mirror reads through it with a token of its own, `psql` finds rows.

use tailwater_e2e::{Edge, eventually};

use crate::rig::Rig;

#[test]
fn what_clients_append_through_envoy_becomes_rows_through_it_and_a_token_that_is_refused_is_waited_for() {
    let settings = [
        ("DS_SYNC__STREAMS", "runs/**"),
        ("DS_SYNC__DELETE_AFTER_SYNC", "true"),
    ];
    let rig = Rig::with("file-durable", &[("DS_PROXY__TRUSTED", "127.0.0.1")], &settings);
    let edge = Edge::before(rig.server.address());
    let put_token = |token: &str| rig.postgres.file("token", token);
    let rights = ["--read", "runs/", "--write", "runs/", "--lifetime", "3600"];
    let token = edge.token(&[&["--subject", "mirror"][..], &rights].concat());
    let (token_path, ca_path) = (put_token(&token), edge.file("certificate.pem"));
    let client_token = edge.token(&rights);
    let client = edge.caller(&client_token);
    client.create("runs/42");
    client.append("runs/42", "[0,1]");
    rig.server.stream("secret").create().append("1");

    let mirror = rig.mirror_with(&[
        ("DS_SYNC__SOURCE_URL", &format!("{}/v1/stream", edge.origin())),
        ("DS_SYNC__SOURCE_CA_PATH", &ca_path.display().to_string()),
        ("DS_SYNC__SOURCE_TOKEN_FILE", &token_path.display().to_string()),
    ]);
    rig.expect_mirrored("runs/42");
    let _ = put_token("a.wrong.token");
    let mut appended = 2;
    eventually("the token is refused", || {
        client.append("runs/42", &appended.to_string());
        appended += 1;
        let retries = |what| mirror.metric(&format!("tailwater_sync_retries_total{{what=\"{what}\"}}"));
        (retries("feed") >= Some(1.0) || retries("read") >= Some(1.0)).then_some(())
    });
    let _ = put_token(&token);
    rig.expect_mirrored("runs/42");
    assert_eq!(
        rig.ask("SELECT stream, count(*), bool_and(payload = to_jsonb(index)) FROM tailwater.events GROUP BY stream"),
        format!("runs/42|{appended}|t")
    );

    rig.server.stream("runs/42").close();
    rig.expect(
        "SELECT closed AND deleted_at IS NOT NULL FROM tailwater.streams WHERE name = 'runs/42'",
        "t",
    );
    client.send("HEAD", "runs/42").expect(404);
    mirror.stop();
}
