//! `tailwater health`, as containers run it.

use std::net::TcpListener;

use tailwater_e2e::Server;
use tailwater_e2e::mirror::Mirror;

use crate::commands::{outcome, tailwater, url};

#[test]
fn a_server_that_takes_requests_is_healthy_by_its_streams_url_and_by_its_origin() {
    let server = Server::start();
    for url in [url(&server), server.origin(), format!("{}/", server.origin())] {
        for arguments in [&["health"][..], &["health", "--alive"]] {
            let mut command = tailwater(arguments);
            command.env("TAILWATER_URL", &url);
            assert_eq!(outcome(command), (Some(0), String::new()), "{arguments:?} {url}");
        }
    }
}

#[test]
fn a_server_that_is_gone_is_not_healthy() {
    let server = Server::start();
    let url = url(&server);
    server.stop();
    let (code, said) = outcome(tailwater(&["health", "--url", &url]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no server answered at"), "{said}");
}

#[test]
fn a_server_that_does_not_answer_in_time_is_not_healthy() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("it is bound"));
    let (code, said) = outcome(tailwater(&["health", "--timeout", "1", "--url", &url]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("within 1 s"), "{said}");
    let (code, said) = outcome(tailwater(&["health", "--timeout", "0", "--url", &url]));
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = outcome(tailwater(&["health", "--url", "ftp://h"]));
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn a_mirror_without_servers_is_alive_and_not_ready() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let mirror = Mirror::start(&[
        ("DS_SYNC__SOURCE_URL", &format!("http://{nobody}/v1/stream")),
        (
            "DS_SYNC__POSTGRES_URL",
            &format!("postgres://me@{nobody}/db?sslmode=disable"),
        ),
    ]);
    let url = format!("http://{}", mirror.address());
    let health = |arguments: &[&str]| outcome(tailwater(&[arguments, &["--url", &url]].concat()));
    assert_eq!(health(&["health", "--alive"]), (Some(0), String::new()));
    let (code, said) = health(&["health"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot be ready"), "{said}");
}
