//! What a token lets its bearer do: by path, method, query and source of a fork.

use tailwater_e2e::edge::{Caller, Configuration};
use tailwater_e2e::{Edge, Request, edge, eventually};

/// The edge has let the request through if the answer is not one of its own refusals.
#[track_caller]
fn assert_decided(edge: &Edge, request: &Request, what: &str, expected: u16) {
    let answer = edge.send(request);
    assert_eq!(answer.status(), expected, "{what}: {answer:?}");
}

fn caller<'e>(edge: &'e Edge, options: &[&str]) -> Caller<'e> {
    edge.caller(&edge.token(options))
}

#[test]
fn a_stream_is_used_by_those_whose_token_names_it_or_what_it_is_below() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    for name in [
        "runs/1",
        "runs/1/steps",
        "runs-secret",
        "runs",
        "run",
        "other/runs/1",
        "Runs/1",
        "shared/a",
    ] {
        server.stream(name).create();
    }
    let below = caller(&edge, &["--read", "runs/", "--read", "shared/"]);
    let rows = [
        ("runs/1", 200),
        ("runs/1/steps", 200),
        ("shared/a", 200),
        ("runs/unknown", 404),
        ("runs-secret", 403),
        ("runs", 403),
        ("run", 403),
        ("other/runs/1", 403),
        ("Runs/1", 403),
        ("runs%2D1/1", 403),
        ("unknown", 403),
    ];
    for (name, expected) in rows {
        for method in ["GET", "HEAD"] {
            assert_decided(
                &edge,
                &below.request(method, name),
                &format!("{method} {name}"),
                expected,
            );
        }
    }
    let one = caller(&edge, &["--read", "runs/1"]);
    for (name, expected) in [
        ("runs/1", 200),
        ("runs/1/steps", 403),
        ("runs/10", 403),
        ("runs", 403),
    ] {
        assert_decided(&edge, &one.request("GET", name), name, expected);
    }
    let all = caller(&edge, &["--read", "*"]);
    for (name, expected) in [("runs/1", 200), ("Runs/1", 200), ("run", 200), ("unknown", 404)] {
        assert_decided(&edge, &all.request("GET", name), name, expected);
    }
    // What is no entry grants nothing, and takes nothing away.
    for entries in [
        &["--read", "/runs/"][..],
        &["--read", "/"],
        &["--read", "run*"],
        &["--read", "**"],
        &["--read", "RUNS/"],
        &["--read", "runs/1/"],
        &["--write", "runs/"],
    ] {
        assert_decided(
            &edge,
            &caller(&edge, entries).request("GET", "runs/1"),
            &format!("{entries:?}"),
            403,
        );
    }
    server.stop();
}

#[test]
fn reading_and_writing_are_granted_apart() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    server.stream("runs/1").create().append("1");
    let (reader, writer) = (
        caller(&edge, &["--read", "runs/"]),
        caller(&edge, &["--write", "runs/"]),
    );
    for method in ["PUT", "POST", "DELETE"] {
        let request = reader.request(method, "runs/1").body("2");
        assert_decided(&edge, &request, &format!("{method} by a reader"), 403);
    }
    for (method, path) in [
        ("GET", "runs/1"),
        ("HEAD", "runs/1"),
        ("GET", "runs/1?offset=-1&live=sse"),
        ("GET", "runs/1?offset=now&live=long-poll"),
    ] {
        assert_decided(
            &edge,
            &writer.request(method, path),
            &format!("{method} {path} by a writer"),
            403,
        );
    }
    assert_eq!(server.stream("runs/1").messages(), [1], "nothing was written");

    assert_decided(&edge, &reader.request("GET", "runs/1"), "a reader reads", 200);
    writer.append("runs/1", "2");
    assert_decided(&edge, &writer.request("PUT", "runs/2"), "a writer creates", 201);
    assert_decided(
        &edge,
        &writer.request("DELETE", "runs/2"),
        "a writer deletes",
        204,
    );
    for method in ["PATCH", "TRACE", "get", "Put", "QUERY"] {
        let answer = edge.send(&writer.request(method, "runs/1"));
        assert!(matches!(answer.status(), 400 | 403 | 405), "{method}: {answer:?}");
    }
    // A method in a header is none.
    let hidden = reader
        .request("GET", "runs/1")
        .header("X-HTTP-Method-Override", "DELETE")
        .header("X-HTTP-Method", "DELETE");
    assert_decided(&edge, &hidden, "a method in a header", 200);
    assert_eq!(server.stream("runs/1").messages(), [1, 2]);
    server.stop();
}

#[test]
fn the_calls_of_the_server_are_for_those_who_may_use_all_that_they_name() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    server.stream("runs/1").create().append("1");
    server.stream("secret").create();
    let runs = caller(&edge, &["--read", "runs/", "--write", "runs/"]);
    let one = caller(&edge, &["--read", "runs/1"]);
    let all = caller(&edge, &["--read", "*", "--write", "*"]);
    for call in ["streams", "changes", "export"] {
        for (query, expected) in [
            ("?prefix=runs/", 200),
            ("?prefix=runs/1", 200),
            ("?prefix=runs%2F", 200),
            ("?prefix=%72uns/", 200),
            ("?x=1&prefix=runs/&y=2", 200),
            ("?prefix=runs/+1", 200),
            ("", 403),
            ("?", 403),
            ("?prefix=", 403),
            ("?prefix", 403),
            ("?prefix=run", 403),
            ("?prefix=runs", 403),
            ("?prefix=secret", 403),
            ("?prefix=/runs/", 403),
            ("?Prefix=runs/", 403),
            ("?pre%66ix=runs/", 403),
            ("?x;prefix=runs/", 403),
            ("?prefix=runs/&prefix=", 400),
            ("?prefix=secret&prefix=runs/", 400),
            ("?prefix=runs/%", 400),
            ("?prefix=runs/%zz", 400),
        ] {
            let path = format!("__ds/{call}{query}");
            assert_decided(&edge, &runs.request("GET", &path), &path, expected);
        }
        let path = format!("__ds/{call}");
        assert_decided(
            &edge,
            &one.request("GET", &format!("{path}?prefix=runs/1")),
            "one stream",
            403,
        );
        assert_decided(&edge, &all.request("GET", &path), "all streams", 200);
        assert_decided(&edge, &all.request("POST", &path), "a call that is read", 405);
        let writer = caller(&edge, &["--write", "*"]);
        assert_decided(&edge, &writer.request("GET", &path), "a writer of all", 403);
    }
    // What a listing shows is what the token is for.
    let listed = edge
        .send(&runs.request("GET", "__ds/streams?prefix=runs/"))
        .json();
    assert_eq!(listed["streams"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed["streams"][0]["name"], "runs/1");

    // These name their streams in the body.
    let body = r#"{"stream":"runs/1","before":"0000000000000000_0000000000000000"}"#;
    for call in ["trim", "import"] {
        let path = format!("__ds/{call}");
        for who in [&runs, &one, &caller(&edge, &["--read", "*"])] {
            assert_decided(&edge, &who.request("POST", &path).body(body), &path, 403);
            assert_decided(
                &edge,
                &who.request("POST", &format!("{path}?prefix=runs/")).body(body),
                &path,
                403,
            );
        }
        assert_decided(&edge, &all.request("GET", &path), "a call that is written", 405);
    }
    assert_decided(&edge, &all.request("POST", "__ds/trim").body(body), "a trim", 204);
    assert_decided(
        &edge,
        &all.request("POST", "__ds/import").body("{}"),
        "an import",
        400,
    );
    // What the edge does not know it cannot decide, whoever asks.
    for path in [
        "__ds",
        "__ds/",
        "__ds/streams/",
        "__ds/nonsense",
        "__ds/streams/x",
        "__ds//streams",
        "__d%73/streams",
    ] {
        let answer = edge.send(&all.request("GET", path));
        assert!(matches!(answer.status(), 400 | 403), "{path}: {answer:?}");
    }
    // Subscriptions name their streams in bodies and patterns, and their workers have tokens of the server's own.
    for (method, path) in [
        ("GET", "__ds/subscriptions"),
        ("GET", "__ds/subscriptions/s"),
        ("PUT", "__ds/subscriptions/s"),
        ("DELETE", "__ds/subscriptions/s"),
        ("POST", "__ds/subscriptions/s/streams"),
        ("DELETE", "__ds/subscriptions/s/streams/runs/1"),
        ("POST", "__ds/subscriptions/s/claim"),
        ("POST", "__ds/subscriptions/s/callback"),
        ("GET", "__ds/jwks.json"),
    ] {
        assert_decided(&edge, &all.request(method, path), path, 403);
    }
    server.stop();
}

#[test]
fn a_fork_is_made_by_those_who_may_read_its_source() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    server.stream("shared/1").create().append("1");
    server.stream("secret/1").create().append("2");
    let maker = caller(&edge, &["--write", "runs/", "--read", "shared/"]);
    let mut number = 0;
    let mut fork = |who: &Caller<'_>, sources: &[&str]| {
        number += 1;
        let creation = who.request("PUT", &format!("runs/{number}"));
        let request = sources.iter().fold(creation, |request, source| {
            request.header("Stream-Forked-From", source)
        });
        edge.send(&request).status()
    };
    assert_eq!(fork(&maker, &["/v1/stream/shared/1"]), 201);
    assert_eq!(fork(&maker, &["/v1/stream/sh%61red/1"]), 201);
    for (source, expected) in [
        ("/v1/stream/secret/1", 403),
        ("/v1/stream/runs/1", 403),
        ("/v1/stream/%73ecret/1", 403),
        ("/v1/stream/shared/../secret/1", 400),
        ("/v1/stream/shared/%2e%2e/secret/1", 400),
        ("/v1/stream/shared//1", 400),
        ("/v1/stream/shared%2F1", 400),
        ("/v1/stream/shared%5c1", 400),
        ("/v1/stream/shared/1%", 400),
        ("/v1/stream/shared/1%00", 400),
        ("/v1/stream/shared/1?x", 400),
        ("/v1/stream/", 400),
        ("/v1/stream", 400),
        ("shared/1", 400),
        ("/elsewhere/shared/1", 400),
        ("https://localhost/v1/stream/shared/1", 400),
        ("/v1/stream/__ds/streams", 403),
        ("", 400),
    ] {
        assert_eq!(fork(&maker, &[source]), expected, "{source}");
    }
    for two in [
        ["/v1/stream/shared/1", "/v1/stream/secret/1"],
        ["/v1/stream/secret/1", "/v1/stream/shared/1"],
    ] {
        assert_eq!(fork(&maker, &two), 400, "{two:?}");
    }
    // Who may write everything may not read everything by that.
    let writer = caller(&edge, &["--write", "*"]);
    assert_eq!(fork(&writer, &["/v1/stream/secret/1"]), 403);
    let names = server.get("/v1/stream/__ds/streams?prefix=runs/").json();
    assert_eq!(names["streams"].as_array().map(Vec::len), Some(2), "{names}");
    server.stop();
}

/// Envoy lets a request pass whose script has failed. The filter behind it must not.
#[test]
fn a_script_that_fails_lets_nobody_through() {
    let server = edge::server(&[]);
    server.stream("runs/1").create();
    for script in [
        "function envoy_on_request(handle) error('a mistake') end",
        "function envoy_on_request(handle) end",
        "-- nothing at all",
        "function envoy_on_request(handle) handle:headers():replace('x-tailwater-subject', 'admin') end",
    ] {
        let configuration = Configuration::development(server.address());
        let path = configuration.directory().join("authorize.lua");
        std::fs::write(&path, script).expect("the script can be written");
        let edge = Edge::of(configuration.set_path("authorize", &path));
        let caller = caller(&edge, &["--read", "*", "--write", "*"]);
        let answer = caller.send("GET", "runs/1").expect(403);
        assert_eq!(answer.problem(), "forbidden", "{script}");
        edge.send(&Request::new("GET", "/healthz")).expect(200);
    }
    // A mistake in the project's own, which catches it.
    let configuration = Configuration::development(server.address());
    let path = configuration.directory().join("authorize.lua");
    let script = std::fs::read_to_string(edge::source("authorize.lua")).expect("the script");
    let mistaken = script.replace(
        "local function decide(handle)\n",
        "local function decide(handle)\n  nonsense()\n",
    );
    assert_ne!(script, mistaken);
    std::fs::write(&path, mistaken).expect("the script can be written");
    let edge = Edge::of(configuration.set_path("authorize", &path));
    let answer = caller(&edge, &["--read", "*"]).send("GET", "runs/1").expect(500);
    assert_eq!(answer.problem(), "refused_by_edge");
    eventually("the mistake is written", || {
        edge.envoy()
            .output()
            .contains("authorize.lua failed")
            .then_some(())
    });
    server.stop();
}
