//! Who is meant by the client. The server's log tells it with each refusal, so what is asked for here is never there.

use std::net::IpAddr;

use tailwater_e2e::{Connection, Request, Server, eventually};

use super::{DEADLINE, PROXY, STRANGER, SUBJECT, connect, send, serve};

const LOGGED: (&str, &str) = ("RUST_LOG", "tailwater=debug");

/// The clients of all refusals so far, in their order.
fn clients(server: &Server) -> Vec<String> {
    let said = server.stderr();
    let refusals = said.lines().filter(|line| line.contains("a request was refused"));
    refusals
        .filter_map(|line| line.split_once("client=")?.1.split_once(" code="))
        .map(|(client, _)| client.to_owned())
        .collect()
}

/// Asks for a stream that is not there, and answers as whom the server refuses it.
#[track_caller]
fn client(server: &Server, connection: &mut Connection, headers: &[(&str, &str)]) -> String {
    let before = clients(server).len();
    let mut request = Request::new("GET", &server.path("nothing"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    connection.send(&request).expect(404);
    eventually("the refusal is logged", || {
        clients(server).into_iter().nth(before)
    })
}

#[test]
fn a_trusted_proxy_says_who_its_clients_are() {
    let server = serve(&[LOGGED]);
    // One connection carries the requests of many clients.
    let mut proxy = connect(&server, PROXY);
    for (headers, expected) in [
        (&[][..], "address 127.0.0.2"),
        (&[("X-Forwarded-For", "192.0.2.7")], "address 192.0.2.7"),
        (
            &[(SUBJECT, "ada"), ("X-Forwarded-For", "192.0.2.7")],
            "subject ada",
        ),
        (
            &[("X-Forwarded-For", "10.9.9.9, 192.0.2.7, 127.0.0.2")],
            "address 192.0.2.7",
        ),
        (
            &[("X-Forwarded-For", "10.9.9.9"), ("X-Forwarded-For", "192.0.2.8")],
            "address 192.0.2.8",
        ),
        (&[("X-Forwarded-For", "2001:db8::7")], "address 2001:db8::7"),
        (&[("X-Forwarded-For", "192.0.2.7, mischief")], "address 127.0.0.2"),
        (
            &[("Forwarded", "for=\"[2001:db8::8]:80\";proto=https")],
            "address 2001:db8::8",
        ),
        (&[("Forwarded", "for=\", for=192.0.2.9")], "address 192.0.2.9"),
        (
            &[("Forwarded", "for=unknown"), ("X-Forwarded-For", "192.0.2.7")],
            "address 127.0.0.2",
        ),
        (&[(SUBJECT, "bob")], "subject bob"),
        (&[], "address 127.0.0.2"),
    ] {
        assert_eq!(client(&server, &mut proxy, headers), expected, "{headers:?}");
    }
    server.stop();
}

#[test]
fn nobody_else_is_believed_or_refused_for_what_it_says() {
    let server = serve(&[LOGGED]);
    let mut stranger = connect(&server, STRANGER);
    for headers in [
        &[][..],
        &[(SUBJECT, "ada")],
        &[(SUBJECT, ""), (SUBJECT, "not visible")],
        &[(DEADLINE, "1"), (DEADLINE, "mischief")],
        &[("X-Forwarded-For", "127.0.0.2"), ("Forwarded", "for=127.0.0.2")],
    ] {
        assert_eq!(
            client(&server, &mut stranger, headers),
            "address 127.0.0.3",
            "{headers:?}"
        );
    }
    server.stop();
}

#[test]
fn without_the_setting_nobody_is_a_proxy() {
    let server = Server::start_with(&[LOGGED, ("DS_PROXY__TRUSTED", "")]);
    let headers = [
        (SUBJECT, "ada"),
        (DEADLINE, "1"),
        ("X-Forwarded-For", "192.0.2.7"),
    ];
    assert_eq!(
        client(&server, &mut connect(&server, PROXY), &headers),
        "address 127.0.0.2"
    );
    server.stop();
}

/// A server that listens on IPv6 and IPv4 at once sees clients of IPv4 at mapped addresses.
#[test]
fn a_proxy_is_the_same_where_the_server_listens_on_ipv6_too() {
    let server = serve(&[LOGGED, ("DS_SERVER__BIND_ADDRESS", "[::]:0")]);
    let address = (IpAddr::from([127, 0, 0, 1]), server.address().port()).into();
    let headers = [("X-Forwarded-For", "::ffff:192.0.2.7")];
    let mut proxy = Connection::open_from(PROXY, address);
    assert_eq!(client(&server, &mut proxy, &headers), "address 192.0.2.7");
    let mut stranger = Connection::open_from(STRANGER, address);
    assert_eq!(client(&server, &mut stranger, &headers), "address 127.0.0.3");
    server.stop();
}

#[test]
fn a_subject_that_cannot_be_meant_is_refused_everywhere() {
    let server = serve(&[]);
    let stream = server.stream("there").create();
    let metrics = Request::new("GET", "/metrics");
    let too_long = "a".repeat(257);
    for subjects in [
        &[""][..],
        &["ada lovelace"],
        &["j\u{f6}"],
        &[&too_long],
        &["ada", "ada"],
    ] {
        for request in [stream.reading("-1", ""), stream.appending("1"), metrics.clone()] {
            let request = subjects
                .iter()
                .fold(request, |request, subject| request.header(SUBJECT, subject));
            let refused = send(&server, PROXY, &request).expect(400);
            assert_eq!(refused.problem(), "invalid_header", "{subjects:?}");
            assert_eq!(refused.json()["header"], "x-tailwater-subject");
            let detail = refused.json()["detail"].to_string();
            assert!(detail.contains("of a trusted proxy"), "{detail}");
            let served = send(&server, STRANGER, &request).status();
            assert!(matches!(served, 200 | 204), "{served}: {request:?}");
        }
    }
    let longest = stream.reading("-1", "").header(SUBJECT, &too_long[1..]);
    send(&server, PROXY, &longest).expect(200);
    server.stop();
}

#[test]
fn the_headers_of_subject_and_deadline_can_have_other_names() {
    let server = serve(&[
        LOGGED,
        ("DS_PROXY__SUBJECT_HEADER", "X-User"),
        ("DS_PROXY__DEADLINE_HEADER", "X-Until"),
    ]);
    let mut proxy = connect(&server, PROXY);
    let own = [("x-user", "ada"), (SUBJECT, "bob"), (DEADLINE, "1")];
    assert_eq!(client(&server, &mut proxy, &own), "subject ada");
    let over = Request::new("GET", "/healthz").header("x-until", "1");
    proxy.send(&over).expect(401);
    server.stop();
}
