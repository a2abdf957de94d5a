//! Documents, listings and refusals.

use serde_json::{Value, json};
use tailwater_e2e::{Request, Server};

use super::client::{code, pull, send, send_with};

const SMALL: [(&str, &str); 3] = [
    ("DS_SUBSCRIPTIONS__MAX_SUBSCRIPTIONS", "3"),
    ("DS_SUBSCRIPTIONS__MAX_NAMED_STREAMS", "2"),
    ("DS_SUBSCRIPTIONS__MAX_BODY_BYTES", "1KiB"),
];

/// A subscription whose leases outlast the test.
fn long(pattern: &str) -> Value {
    let mut config = pull(pattern);
    config["lease_ttl_ms"] = json!(600_000);
    config
}

#[test]
fn a_listing_tells_how_each_subscription_stands() {
    let server = Server::start();
    server.stream("wakes").of_type("application/json").create();
    server.stream("jobs/a").create();
    for id in ["b", "a", "c"] {
        let made = send(&server, "PUT", &format!("subscriptions/{id}"), &long("jobs/*")).expect(201);
        let location = made.expect_header("location");
        assert!(
            location.ends_with(&format!("/__ds/subscriptions/{id}")),
            "{location}"
        );
    }
    server.stream("jobs/a").append("12345");
    let claimed = send(
        &server,
        "POST",
        "subscriptions/b/claim",
        &json!({ "worker": "w" }),
    )
    .expect(200)
    .json();
    let page = send(&server, "GET", "subscriptions?limit=2", &Value::Null)
        .expect(200)
        .json();
    assert_eq!(page["after"], "b");
    let listed = page["subscriptions"].as_array().expect("a list");
    let ids: Vec<_> = listed
        .iter()
        .map(|one| one["id"].as_str().expect("a text"))
        .collect();
    assert_eq!(ids, ["a", "b"]);
    let held = &listed[1];
    assert_eq!((&held["state"], &held["holder"]), (&json!("held"), &json!("w")));
    assert_eq!(held["lag"], json!({ "streams": 1, "bytes": 6 }));
    assert_eq!(held["status"], "active");
    assert_eq!(held["streams"], Value::Null, "a listing has no streams");
    let rest = send(&server, "GET", "subscriptions?after=b", &Value::Null)
        .expect(200)
        .json();
    assert_eq!(
        (&rest["after"], &rest["subscriptions"][0]["id"]),
        (&Value::Null, &json!("c"))
    );

    let one = send(&server, "GET", "subscriptions/b", &Value::Null)
        .expect(200)
        .json();
    assert_eq!(
        one["streams"],
        json!([{
            "path": "jobs/a", "link_type": "glob", "acked_offset": "0000000000000000_0000000000000000",
        }])
    );
    assert_eq!(
        (&one["webhook"], &one["wake_stream"]),
        (&Value::Null, &json!("wakes"))
    );
    assert_eq!(claimed["lease_ttl_ms"], 600_000);
    server.stop();
}

/// The streams of a subscription were all in one answer, however many there were.
#[test]
fn the_streams_of_a_subscription_come_in_pages() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_LIST_ENTRIES", "3")]);
    server.stream("wakes").of_type("application/json").create();
    let names = ["jobs/a", "jobs/b", "jobs/c", "jobs/d", "jobs/e", "jobs/f"];
    for name in names {
        server.stream(name).create();
    }
    let made = send(&server, "PUT", "subscriptions/s", &pull("jobs/*"))
        .expect(201)
        .json();
    assert_eq!(made["streams"].as_array().map(Vec::len), Some(3));
    assert_eq!(made["streams_after"], "jobs/c");
    for limit in 1..=7_usize {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut query = format!("limit={limit}");
            if let Some(after) = &after {
                query.push_str(&format!("&after={after}"));
            }
            let page = send(&server, "GET", &format!("subscriptions/s?{query}"), &Value::Null)
                .expect(200)
                .json();
            let streams = page["streams"].as_array().expect("a list").iter();
            let streams: Vec<_> = streams
                .map(|one| one["path"].as_str().expect("a name").to_owned())
                .collect();
            assert!(streams.len() <= limit.min(3) && !streams.is_empty(), "{page}");
            found.extend(streams);
            assert!(found.len() <= names.len(), "in pages of {limit}: {found:?}");
            match page["streams_after"].as_str() {
                Some(last) => after = Some(last.to_owned()),
                None => break,
            }
        }
        assert_eq!(found, names, "in pages of {limit}");
    }
    let refused = send(&server, "GET", "subscriptions/s?after=a//b", &Value::Null).expect(400);
    assert_eq!(code(&refused), "INVALID_REQUEST");
    let refused = send(&server, "GET", "subscriptions/s?limit=0", &Value::Null).expect(400);
    assert_eq!(refused.problem(), "invalid_query");
    server.stop();
}

#[test]
fn each_refusal_has_its_status_its_code_and_a_word_for_people() {
    let server = Server::start_with(&SMALL);
    server.stream("wakes").of_type("application/json").create();
    server.stream("jobs/a").create();
    let refused = |method: &str, below: &str, body: &Value, status: u16, expected: &str| {
        let answer = send(&server, method, below, body).expect(status);
        assert_eq!(code(&answer), expected, "{method} {below}");
    };
    for (method, below) in [
        ("GET", "subscriptions/none"),
        ("POST", "subscriptions/none/claim"),
        ("DELETE", "subscriptions/none/streams/a"),
    ] {
        refused(
            method,
            below,
            &json!({ "worker": "w" }),
            404,
            "SUBSCRIPTION_NOT_FOUND",
        );
    }
    send(&server, "DELETE", "subscriptions/none", &Value::Null).expect(204);
    refused(
        "PUT",
        "subscriptions/s",
        &json!({ "type": "pull-wake" }),
        400,
        "INVALID_REQUEST",
    );
    refused("PUT", "subscriptions/a%2Fb", &pull("a"), 400, "INVALID_REQUEST");
    let three = json!({ "type": "pull-wake", "streams": ["1", "2", "3"], "wake_stream": "wakes" });
    refused("PUT", "subscriptions/s", &three, 507, "TOO_MANY_STREAMS");
    let own = json!({ "type": "pull-wake", "streams": ["wakes"], "wake_stream": "wakes" });
    refused("PUT", "subscriptions/s", &own, 400, "INVALID_REQUEST");
    let inner = json!({ "type": "webhook", "pattern": "a", "webhook": { "url": "http://localhost:1/" } });
    refused("PUT", "subscriptions/s", &inner, 400, "WEBHOOK_URL_REJECTED");
    for id in ["s", "t", "u"] {
        send(&server, "PUT", &format!("subscriptions/{id}"), &long("jobs/*")).expect(201);
    }
    refused(
        "PUT",
        "subscriptions/v",
        &pull("jobs/*"),
        507,
        "TOO_MANY_SUBSCRIPTIONS",
    );
    refused(
        "PUT",
        "subscriptions/s",
        &pull("jobs/**"),
        409,
        "SUBSCRIPTION_ALREADY_EXISTS",
    );
    refused(
        "POST",
        "subscriptions/s/claim",
        &json!({ "worker": "w" }),
        409,
        "NO_PENDING_WORK",
    );
    refused(
        "POST",
        "subscriptions/s/claim",
        &json!({}),
        400,
        "INVALID_REQUEST",
    );
    refused("POST", "subscriptions/s/ack", &json!({}), 401, "TOKEN_INVALID");
    let long = json!({ "worker": "w".repeat(2_000) });
    let answer = send(&server, "POST", "subscriptions/s/claim", &long).expect(413);
    assert_eq!(answer.problem(), "body_too_large");

    server.stream("jobs/a").append("1");
    let claim = |id: &str| {
        let answer = send(
            &server,
            "POST",
            &format!("subscriptions/{id}/claim"),
            &json!({ "worker": "w" }),
        );
        answer.expect(200).json()
    };
    let (mine, other) = (claim("s"), claim("t"));
    let token = mine["token"].as_str().expect("a token");
    let said = json!({ "wake_id": mine["wake_id"], "generation": mine["generation"] });
    let with = |token: &str, below: &str, body: &Value, status: u16, expected: &str| {
        let answer = send_with(&server, token, below, body).expect(status);
        assert_eq!(code(&answer), expected, "{below}: {body}");
    };
    with(
        other["token"].as_str().expect("a token"),
        "subscriptions/s/ack",
        &said,
        401,
        "TOKEN_INVALID",
    );
    with(token, "subscriptions/s/callback", &said, 401, "TOKEN_INVALID");
    let of_other = json!({ "wake_id": other["wake_id"], "generation": 1 });
    with(token, "subscriptions/s/ack", &of_other, 409, "FENCED");
    let beyond = json!({ "wake_id": mine["wake_id"], "generation": 1, "acks": [
        { "stream": "jobs/a", "offset": "0000000000000000_0000000000000009" },
    ]});
    with(token, "subscriptions/s/ack", &beyond, 409, "INVALID_OFFSET");
    send_with(&server, token, "subscriptions/s/release", &said).expect(204);
    with(token, "subscriptions/s/release", &said, 409, "FENCED");
    server.stop();
}

#[test]
fn methods_that_mean_nothing_are_refused_and_pages_may_ask_beforehand() {
    let server = Server::start();
    for (method, below, allowed) in [
        ("POST", "subscriptions", "GET, HEAD"),
        ("POST", "subscriptions/s", "GET, HEAD, PUT, DELETE"),
        ("GET", "subscriptions/s/streams", "POST"),
        ("GET", "subscriptions/s/streams/a/b", "DELETE"),
        ("GET", "subscriptions/s/claim", "POST"),
        ("POST", "jwks.json", "GET, HEAD"),
    ] {
        let answer = send(&server, method, below, &Value::Null).expect(405);
        assert_eq!(answer.expect_header("allow"), allowed, "{method} {below}");
        let preflight = Request::new("OPTIONS", &server.path(&format!("__ds/{below}")))
            .header("Origin", "https://a.example");
        let answer = server.send(&preflight).expect(204);
        assert!(
            answer
                .expect_header("access-control-allow-headers")
                .contains("authorization")
        );
    }
    // What is hidden is hidden from the operations on streams as well.
    send(&server, "PUT", "subscriptions/s", &pull("a")).expect(201);
    let hidden = server
        .get(&server.path("__ds/subscriptions/s?offset=-1"))
        .expect(200)
        .json();
    assert_eq!(hidden["id"], "s");
    let trim = json!({ "stream": "__ds/subscriptions/s", "before": "0000000000000000_0000000000000000" });
    assert_eq!(
        send(&server, "POST", "trim", &trim).expect(400).problem(),
        "invalid_name"
    );
    let fork = server
        .stream("fork")
        .request("PUT")
        .header("Stream-Forked-From", &server.path("__ds/subscriptions/s"));
    assert_eq!(server.send(&fork).expect(400).problem(), "invalid_name");
    let listed = server.get(&server.path("__ds/streams")).expect(200).json();
    assert_eq!(listed["streams"], json!([]));
    server.stop();
}
