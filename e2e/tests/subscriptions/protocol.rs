//! Sentences of PROTOCOL.md §6 and §7 as clients see them: what is compared, what is told, who is believed.

use serde_json::{Value, json};
use tailwater_e2e::{Server, eventually};

use super::client::{code, pull, send, send_with};

/// Lets webhooks go to this machine.
const DEVELOPMENT: (&str, &str) = ("DS_SUBSCRIPTIONS__ALLOW_HTTP_LOCALHOST", "true");

/// A server with a wake stream and a stream of jobs.
fn start(settings: &[(&str, &str)]) -> Server {
    let server = Server::start_with(settings);
    server.stream("wakes").of_type("application/json").create();
    server.stream("jobs/a").create();
    server
}

/// A pull-wake subscription of all jobs whose leases outlast the test.
fn subscribe(server: &Server, id: &str) {
    let mut config = pull("jobs/*");
    config["lease_ttl_ms"] = json!(600_000);
    send(server, "PUT", &format!("subscriptions/{id}"), &config).expect(201);
}

fn claim(server: &Server, id: &str) -> Value {
    let worker = json!({ "worker": "w" });
    let claimed = send(server, "POST", &format!("subscriptions/{id}/claim"), &worker);
    claimed.expect(200).json()
}

fn token(claimed: &Value) -> &str {
    claimed["token"].as_str().expect("a token")
}

/// An ack of all that was claimed.
fn all_of(claimed: &Value, done: bool) -> Value {
    let streams = claimed["streams"].as_array().expect("streams").iter();
    let acks: Vec<_> = streams
        .map(|one| json!({ "stream": one["path"], "offset": one["tail_offset"] }))
        .collect();
    json!({
        "wake_id": claimed["wake_id"], "generation": claimed["generation"], "acks": acks, "done": done,
    })
}

fn cursor(server: &Server, id: &str) -> Value {
    let shown = send(server, "GET", &format!("subscriptions/{id}"), &Value::Null);
    shown.expect(200).json()["streams"][0]["acked_offset"].clone()
}

/// §6.2: what is normalized away does not count, and each of the other fields does.
#[test]
fn a_repeated_request_is_compared_in_every_field() {
    let server = start(&[DEVELOPMENT]);
    let webhook = json!({
        "type": "webhook", "pattern": "jobs/*", "streams": ["b", "a"], "webhook": { "url": "http://localhost:1/x" },
        "lease_ttl_ms": 30_000, "description": "mails",
    });
    let of_pull =
        json!({ "type": "pull-wake", "pattern": "jobs/*", "streams": ["a"], "wake_stream": "wakes" });
    send(&server, "PUT", "subscriptions/hook", &webhook).expect(201);
    send(&server, "PUT", "subscriptions/pull", &of_pull).expect(201);
    let put = |id: &str, config: &Value, changes: &[(&str, Value)]| {
        let mut config = config.clone();
        for (field, value) in changes {
            config[*field] = value.clone();
        }
        send(&server, "PUT", &format!("subscriptions/{id}"), &config)
    };
    for same in [
        vec![],
        vec![("streams", json!(["/a/", "b", "a"]))],
        vec![("pattern", json!("/jobs/*/"))],
        vec![("wake_stream", Value::Null)],
        vec![("later", json!(1))],
    ] {
        let found = put("hook", &webhook, &same).expect(200).json();
        assert_eq!(found["id"], "hook", "{same:?}");
    }
    // What holds if nothing is said is the same said.
    let said = [
        ("lease_ttl_ms", json!(30_000)),
        ("description", Value::Null),
        ("webhook", Value::Null),
    ];
    put("pull", &of_pull, &said).expect(200);
    for other in [
        vec![("type", json!("pull-wake")), ("wake_stream", json!("wakes"))],
        vec![("webhook", json!({ "url": "http://localhost:1/y" }))],
        vec![("pattern", json!("jobs/**"))],
        vec![("pattern", Value::Null)],
        vec![("streams", json!(["a"]))],
        vec![("streams", json!(["a", "b", "c"]))],
        vec![("lease_ttl_ms", json!(30_001))],
        vec![("description", json!("others"))],
        vec![("description", Value::Null)],
    ] {
        let refused = put("hook", &webhook, &other).expect(409);
        assert_eq!(code(&refused), "SUBSCRIPTION_ALREADY_EXISTS", "{other:?}");
    }
    let refused = put("pull", &of_pull, &[("wake_stream", json!("others"))]).expect(409);
    assert_eq!(code(&refused), "SUBSCRIPTION_ALREADY_EXISTS");
    // Streams that are added and removed later are no part of what was asked for.
    send(
        &server,
        "POST",
        "subscriptions/hook/streams",
        &json!({ "streams": ["c"] }),
    )
    .expect(204);
    put("hook", &webhook, &[]).expect(200);
    server.stop();
}

/// §6.2, §6.3: a subscription is told in the protocol's fields, and without anything that signs.
#[test]
fn a_webhook_subscription_is_told_in_the_fields_of_the_protocol_and_without_secrets() {
    let server = start(&[DEVELOPMENT]);
    let tail = server.stream("jobs/a").append("1");
    let webhook = json!({
        "type": "webhook", "pattern": "jobs/*", "streams": ["none"], "webhook": { "url": "http://localhost:1/x" },
        "description": "mails",
    });
    let made = send(&server, "PUT", "subscriptions/s", &webhook)
        .expect(201)
        .json();
    let keys = send(&server, "GET", "jwks.json", &Value::Null).expect(200);
    assert_eq!(keys.expect_header("content-type"), "application/jwk-set+json");
    assert_eq!(keys.expect_header("cache-control"), "public, max-age=300");
    let kid = keys.json()["keys"][0]["kid"].clone();
    // By the host that the client has asked for.
    let jwks_url = format!("http://localhost{}", server.path("__ds/jwks.json"));
    let created_at = made["created_at"].as_str().expect("a time").to_owned();
    assert!(
        created_at.ends_with('Z') && created_at.len() == "2026-05-09T00:00:00.000Z".len(),
        "{created_at}"
    );
    let expected = json!({
        "id": "s", "subscription_id": "s", "type": "webhook", "pattern": "jobs/*",
        "streams": [
            { "path": "jobs/a", "link_type": "glob", "acked_offset": tail },
            { "path": "none", "link_type": "explicit", "acked_offset": "0000000000000000_0000000000000000" },
        ],
        "streams_after": null,
        "webhook": {
            "url": "http://localhost:1/x",
            "signing": { "alg": "ed25519", "kid": kid, "jwks_url": jwks_url },
        },
        "wake_stream": null, "lease_ttl_ms": 30_000, "created_at": created_at, "status": "active",
        "description": "mails",
        "state": "idle", "generation": 0, "holder": null, "lease_ends_at": null,
        "lag": { "streams": 0, "bytes": 0 }, "next_attempt_at": null, "last_error": null,
    });
    assert_eq!(made, expected);
    assert_eq!(
        send(&server, "GET", "subscriptions/s", &Value::Null)
            .expect(200)
            .json(),
        expected
    );
    server.stop();
}

/// §7.2: what stands in the wake stream, and what a worker is answered from its claim to its last word.
#[test]
fn a_worker_is_told_in_the_fields_of_the_protocol() {
    let server = start(&[]);
    subscribe(&server, "s");
    let tail = server.stream("jobs/a").append("1");
    let events = |count: usize| {
        eventually("the wake is written", || {
            let events = server.stream("wakes").messages();
            (events.len() >= count).then_some(events)
        })
    };
    let event = events(1).remove(0);
    let ts = event["ts"].as_u64().expect("milliseconds");
    assert!(ts > 1_700_000_000_000, "{ts}");
    assert_eq!(
        event,
        json!({ "type": "wake", "subscription_id": "s", "stream": "jobs/a", "generation": 1, "ts": ts })
    );
    let claimed = claim(&server, "s");
    let told = json!({
        "path": "jobs/a", "link_type": "glob", "acked_offset": "0000000000000000_0000000000000000",
        "tail_offset": tail, "has_pending": true,
    });
    let wake_id = claimed["wake_id"].as_str().expect("a text");
    assert!(wake_id.starts_with("w_"), "{wake_id}");
    assert_eq!(
        claimed,
        json!({
            "wake_id": wake_id, "generation": 1, "token": token(&claimed), "streams": [told], "lease_ttl_ms": 600_000,
        })
    );
    let other = send(
        &server,
        "POST",
        "subscriptions/s/claim",
        &json!({ "worker": "other" }),
    )
    .expect(409)
    .json();
    assert_eq!(
        (
            &other["error"]["code"],
            &other["error"]["current_holder"],
            &other["error"]["generation"]
        ),
        (&json!("ALREADY_CLAIMED"), &json!("w"), &json!(1)),
        "{other}"
    );
    let ack = |claimed: &Value, said: &Value| {
        send_with(&server, token(claimed), "subscriptions/s/ack", said)
            .expect(200)
            .json()
    };
    let beat = json!({ "wake_id": wake_id, "generation": 1 });
    assert_eq!(ack(&claimed, &beat), json!({ "ok": true, "next_wake": false }));
    server.stream("jobs/a").append("2");
    assert_eq!(
        ack(&claimed, &all_of(&claimed, true)),
        json!({ "ok": true, "next_wake": true })
    );
    assert_eq!(events(2)[1]["generation"], 2, "there is more");
    let second = claim(&server, "s");
    assert_ne!(second["wake_id"], claimed["wake_id"]);
    assert_eq!(
        second["streams"][0]["acked_offset"], tail,
        "what was acknowledged is not told again"
    );
    let said = json!({ "wake_id": second["wake_id"], "generation": 2 });
    let released = send_with(&server, token(&second), "subscriptions/s/release", &said).expect(204);
    assert_eq!(released.text(), "");
    assert_eq!(events(3)[2]["generation"], 3, "it is left to somebody else");
    let third = claim(&server, "s");
    assert_eq!(
        ack(&third, &all_of(&third, true)),
        json!({ "ok": true, "next_wake": false })
    );
    assert_eq!(
        server.stream("wakes").messages().len(),
        3,
        "nobody is woken for nothing"
    );
    server.stop();
}

/// §6.3: what is said of a subscription that was deleted meanwhile fails, also if there is another one of its id.
#[test]
fn what_is_said_of_a_deleted_subscription_fails_and_moves_nothing() {
    let server = start(&[DEVELOPMENT]);
    subscribe(&server, "s");
    server.stream("jobs/a").append("1");
    let claimed = claim(&server, "s");
    let deleted = send(&server, "DELETE", "subscriptions/s", &Value::Null).expect(204);
    assert_eq!(deleted.text(), "");
    let say = |status: u16, expected: &str| {
        for below in ["ack", "release"] {
            let refused = send_with(
                &server,
                token(&claimed),
                &format!("subscriptions/s/{below}"),
                &all_of(&claimed, true),
            );
            assert_eq!(code(&refused.expect(status)), expected, "{below}");
        }
    };
    say(404, "SUBSCRIPTION_NOT_FOUND");
    subscribe(&server, "s");
    let linked_at = cursor(&server, "s");
    let tail = server.stream("jobs/a").append("2");
    say(409, "FENCED");
    let again = claim(&server, "s");
    assert_eq!(again["generation"], 1, "the same number as before");
    say(409, "FENCED");
    assert_eq!(cursor(&server, "s"), linked_at);
    send_with(
        &server,
        token(&again),
        "subscriptions/s/ack",
        &all_of(&again, true),
    )
    .expect(200);
    assert_eq!(cursor(&server, "s"), tail);
    server.stop();
}

/// §7.3, §12.9: token, generation and wake have to be those of now, all of them, for each that a worker may say.
#[test]
fn only_who_shows_the_token_of_the_current_wake_is_believed() {
    let server = start(&[]);
    subscribe(&server, "s");
    server.stream("jobs/a").append("1");
    let first = claim(&server, "s");
    let said = json!({ "wake_id": first["wake_id"], "generation": 1 });
    send_with(&server, token(&first), "subscriptions/s/release", &said).expect(204);
    let current = claim(&server, "s");
    assert_eq!(current["generation"], 2);
    let linked_at = cursor(&server, "s");
    let whole = all_of(&current, true);
    let with = |field: &str, value: &Value| {
        let mut said = whole.clone();
        said[field] = value.clone();
        said
    };
    // One that claims to need no signature, one with the signature of another, one without any, and none at all.
    let parts: Vec<_> = token(&current).split('.').collect();
    let others: Vec<_> = token(&first).split('.').collect();
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1]);
    let exchanged = [parts[0], parts[1], others[2]].join(".");
    let cut = [parts[0], parts[1], ""].join(".");
    for below in ["ack", "release", "callback"] {
        let path = format!("subscriptions/s/{below}");
        let without = send(&server, "POST", &path, &whole).expect(401);
        assert_eq!(code(&without), "TOKEN_INVALID", "{below}");
        for token in [&unsigned, &exchanged, &cut, "x"] {
            let refused = send_with(&server, token, &path, &whole).expect(401);
            assert_eq!(code(&refused), "TOKEN_INVALID", "{below} with {token}");
        }
    }
    for below in ["ack", "release"] {
        let path = format!("subscriptions/s/{below}");
        for (token, said) in [
            (token(&first), &whole),
            (token(&first), &said),
            (token(&current), &said),
            (token(&current), &with("generation", &json!(1))),
            (token(&current), &with("generation", &json!(3))),
            (token(&current), &with("wake_id", &first["wake_id"])),
            (token(&current), &with("wake_id", &json!("w_abc"))),
        ] {
            let refused = send_with(&server, token, &path, said).expect(409).json();
            assert_eq!(refused["error"]["code"], "FENCED", "{below}: {said}");
            assert_eq!(refused["error"]["generation"], 2, "{below}: {said}");
        }
    }
    assert_eq!(cursor(&server, "s"), linked_at, "no cursor has moved");
    send_with(&server, token(&current), "subscriptions/s/ack", &whole).expect(200);
    assert_eq!(cursor(&server, "s"), current["streams"][0]["tail_offset"]);
    server.stop();
}

/// §6.1, §6.4: the path of an explicit stream may have slashes, encoded or not, and any letters.
#[test]
fn an_explicit_stream_is_removed_by_its_path_however_it_is_encoded() {
    let server = start(&[]);
    subscribe(&server, "s");
    let add = |names: &Value| {
        let added = send(
            &server,
            "POST",
            "subscriptions/s/streams",
            &json!({ "streams": names }),
        )
        .expect(204);
        assert_eq!(added.text(), "");
    };
    let links = || {
        let shown = send(&server, "GET", "subscriptions/s", &Value::Null)
            .expect(200)
            .json();
        let streams = shown["streams"].as_array().expect("streams").clone();
        let link = |one: &Value| {
            format!(
                "{} {}",
                one["path"].as_str().unwrap_or(""),
                one["link_type"].as_str().unwrap_or("")
            )
        };
        streams.iter().map(link).collect::<Vec<_>>()
    };
    let names = json!(["a/b/c", "x/ü b", "100%/y", "jobs/a"]);
    add(&names);
    let before = links();
    assert_eq!(
        before,
        [
            "100%/y explicit",
            "a/b/c explicit",
            "jobs/a explicit",
            "x/ü b explicit"
        ]
    );
    add(&names);
    assert_eq!(links(), before, "what is linked stays as it is");
    for (path, left) in [
        ("nowhere", 4),
        ("a/b/c", 3),
        ("a/b/c", 3),
        ("x%2F%C3%BC%20b", 2),
        ("100%25/y", 1),
        ("jobs%2fa", 1),
    ] {
        send(
            &server,
            "DELETE",
            &format!("subscriptions/s/streams/{path}"),
            &Value::Null,
        )
        .expect(204);
        assert_eq!(links().len(), left, "{path}");
    }
    assert_eq!(links(), ["jobs/a glob"], "the pattern means it still");
    server.stop();
}
