//! What reaches the server: who the caller is, by the token alone. A recorder stands in the server's place.

use tailwater_e2e::issuer::{Signer, claims, now};
use tailwater_e2e::recorder::Recorder;
use tailwater_e2e::{Edge, Request, edge};

const SUBJECT: &str = "x-tailwater-subject";
const DEADLINE: &str = "x-tailwater-deadline";

#[test]
fn the_server_is_told_of_the_caller_by_the_token_alone() {
    let recorder = Recorder::start();
    let edge = Edge::before(recorder.address());
    let mut claims = claims(&["read:runs/", "write:runs/"]);
    let expires = now() + 1_000;
    claims["sub"] = "auth0|alice@example.com".into();
    claims["exp"] = expires.into();
    let token = Signer::of(&edge.file("")).sign(&claims);
    let forged = [
        ("X-Tailwater-Subject", "eve"),
        ("x-tailwater-subject", "mallory"),
        ("X-TAILWATER-DEADLINE", "99999999999"),
        ("x-tailwater-deadline", "1"),
        ("X-Tailwater-Anything", "new"),
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-For", "198.51.100.9, 10.0.0.1"),
        ("X-Forwarded-Host", "elsewhere.example"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Port", "80"),
        ("X-Forwarded-Client-Cert", "Subject=\"CN=admin\""),
        ("Forwarded", "for=203.0.113.7;proto=http"),
        ("X-Real-IP", "203.0.113.7"),
        ("X-Envoy-External-Address", "203.0.113.7"),
        ("X-Envoy-Original-Path", "/v1/stream/secret"),
        ("X-Envoy-Retry-On", "5xx,reset"),
        ("X-Envoy-Max-Retries", "9"),
        ("X-Envoy-Upstream-RQ-Timeout-Ms", "1"),
        ("Connection", "x-tailwater-subject, x-tailwater-deadline"),
    ];
    let caller = edge.caller(&token);
    for (number, method) in ["GET", "PUT", "POST", "HEAD", "DELETE"].into_iter().enumerate() {
        let request = caller.request(method, "runs/1");
        let request = forged
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        edge.send(&request).expect(204);
        let sent = recorder.newest_of(number + 1);
        assert_eq!(sent.line, format!("{method} /v1/stream/runs/1 HTTP/1.1"));
        assert_eq!(sent.values(SUBJECT), ["auth0|alice@example.com"]);
        assert_eq!(sent.values(DEADLINE), [expires.to_string()]);
        assert_eq!(sent.values("x-forwarded-proto"), ["https"]);
        assert_eq!(sent.values("x-forwarded-for").len(), 1);
        assert_eq!(sent.values("host"), ["localhost"]);
        assert_eq!(sent.values("authorization"), [""; 0], "the token goes no further");
        let text = format!("{sent:?}");
        let absent = [
            "eve",
            "mallory",
            "99999999999",
            "203.0.113.7",
            "198.51.100.9",
            "elsewhere.example",
            "anything",
        ];
        for trace in absent.iter().chain(&[
            "real-ip",
            "forwarded-host",
            "forwarded-port",
            "client-cert",
            "original-path",
        ]) {
            assert!(
                !text.to_lowercase().contains(trace),
                "{trace} reached the server: {text}"
            );
        }
        for kept in ["retry-on", "max-retries", "rq-timeout"] {
            assert!(!text.contains(kept), "{kept} reached the server: {text}");
        }
    }
    // Without a token nobody is told of, and `/healthz` is all that can be asked.
    let health = Request::new("GET", "/healthz")
        .header("X-Tailwater-Subject", "eve")
        .header("X-Tailwater-Deadline", "1");
    edge.send(&health).expect(204);
    let sent = recorder.newest_of(6);
    assert!(
        sent.values(SUBJECT).is_empty() && sent.values(DEADLINE).is_empty(),
        "{sent:?}"
    );
    let preflight = Request::new("OPTIONS", "/v1/stream/runs/1")
        .header("Origin", "https://app.example.com")
        .header("Access-Control-Request-Method", "POST")
        .header("X-Tailwater-Subject", "eve");
    edge.send(&preflight).expect(204);
    let sent = recorder.newest_of(7);
    assert!(sent.values(SUBJECT).is_empty(), "{sent:?}");
}

/// A reader of headers that takes `_` for `-`, as CGI does, would see these as ours.
#[test]
fn headers_with_underscores_are_refused() {
    let recorder = Recorder::start();
    let edge = Edge::before(recorder.address());
    let caller = edge.caller(&edge.token(&["--read", "runs/"]));
    for name in [
        "x_tailwater_subject",
        "X_Tailwater-Deadline",
        "x-tailwater_subject",
        "x_forwarded_for",
    ] {
        edge.send(&caller.request("GET", "runs/1").header(name, "eve"))
            .expect(400);
    }
    // White space around a name makes another header of it, or none.
    for line in [
        "X-Tailwater-Subject : eve",
        " X-Tailwater-Subject: eve",
        "X-Tailwater-Subject\t: eve",
    ] {
        let mut bytes = caller.request("GET", "runs/1").encode();
        bytes.truncate(bytes.len() - 2);
        bytes.extend_from_slice(format!("{line}\r\n\r\n").as_bytes());
        let mut connection = edge.connect();
        connection.write(&bytes).expect("the edge reads");
        let answer = connection
            .read_response("GET")
            .expect("an answer")
            .expect("an answer");
        if answer.status() == 204 {
            let sent = recorder.requests().pop().expect("it was let pass");
            // A folded line belongs to the value of the header before it.
            assert_eq!(sent.values(SUBJECT), ["alice"], "{line:?}: {sent:?}");
        } else {
            assert_eq!(answer.status(), 400, "{line:?}: {answer:?}");
        }
    }
}

/// A page's script asks first whether it may send a token. That carries none, and goes no further than that.
#[test]
fn a_page_may_ask_before_it_sends_a_token() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    server.stream("runs/1").create();
    let preflight = |method: &str| {
        Request::new("OPTIONS", "/v1/stream/runs/1")
            .header("Origin", "https://app.example.com")
            .header("Access-Control-Request-Method", method)
            .header("Access-Control-Request-Headers", "authorization")
    };
    for method in ["GET", "POST", "DELETE"] {
        let answer = edge.send(&preflight(method)).expect(204);
        assert!(
            answer
                .listed("access-control-allow-headers")
                .contains("authorization"),
            "{answer:?}"
        );
        assert!(
            answer
                .listed("access-control-allow-methods")
                .contains(&method.to_lowercase()),
            "{answer:?}"
        );
    }
    edge.send(&Request::new("OPTIONS", "/v1/stream/runs/1"))
        .expect(401);
    edge.send(&Request::new("GET", "/v1/stream/runs/1").header("Origin", "https://app.example.com"))
        .expect(401);
    assert_eq!(
        server.stream("runs/1").messages(),
        Vec::<serde_json::Value>::new()
    );
    server.stop();
}
