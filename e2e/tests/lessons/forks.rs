//! Stories of forks.

use tailwater_e2e::{Server, Stream};

/// A position of that stream which it has not reached yet.
fn beyond(tail: &str) -> String {
    let (id, _) = tail.split_once('_').expect("a token has two parts");
    format!("{id}_0000009999999999")
}

fn is_gone(stream: &Stream<'_>) -> bool {
    stream.send(&stream.request("HEAD")).status() == 404
}

/// A peer counted references and counted a fork before it had checked it, so each refusal leaked one: the
/// source could be deleted only in name, for ever, and its name never used again.
#[test]
fn a_refused_fork_leaves_no_trace_on_its_source() {
    let server = Server::start();
    let source = server.stream("source").create();
    let start = source.tail();
    let tail = source.append(r#"["a", "b"]"#);
    server.stream("taken").of_type("text/plain").create();
    let fork = server.stream("fork").fork_of(&source);
    let refusals = [
        (fork.clone().header("Content-Type", "text/plain"), 409),
        (fork.clone().header("Stream-Fork-Offset", "nonsense"), 400),
        (fork.clone().header("Stream-Fork-Offset", &beyond(&tail)), 400),
        (
            fork.clone()
                .header("Stream-Fork-Offset", &start)
                .header("Stream-Fork-Sub-Offset", "3"),
            400,
        ),
        (fork.clone().header("Stream-TTL", "-1"), 400),
        (
            fork.clone().header("Content-Type", "application/json").body("{"),
            400,
        ),
        (server.stream("taken").fork_of(&source), 409),
    ];
    for (request, status) in &refusals {
        for _ in 0..3 {
            server.send(request).expect(*status);
        }
    }
    assert!(is_gone(&server.stream("fork")), "a refused fork does not exist");
    source.delete();
    assert!(is_gone(&source), "a source without forks goes away at once");
    server.send(&source.creation()).expect(201);
    server.stop();
}

/// The other half of that story: what holds a source is exactly its living forks, however they came and went.
#[test]
fn a_source_goes_when_its_last_fork_does_and_its_data_not_before() {
    let server = Server::start();
    let source = server.stream("chain/0").create();
    source.append(r#"["a", "b"]"#);
    let middle = server.stream("chain/1");
    let last = server.stream("chain/2");
    for _ in 0..2 {
        // The second time is a retry, which must not count twice.
        assert!(matches!(
            server.send(&middle.fork_of(&source)).status(),
            200 | 201
        ));
        assert!(matches!(server.send(&last.fork_of(&middle)).status(), 200 | 201));
    }
    source.delete();
    middle.delete();
    for held in [&source, &middle] {
        assert_eq!(held.read("-1").expect(410).problem(), "stream_gone");
        server.send(&held.request("DELETE")).expect(410);
        assert_eq!(
            server.send(&held.creation()).expect(409).problem(),
            "name_held_by_forks"
        );
    }
    assert_eq!(last.messages(), ["a", "b"]);
    last.delete();
    tailwater_e2e::eventually("the whole chain is gone", || {
        [&source, &middle, &last].into_iter().all(is_gone).then_some(())
    });
    server.stop();
}

/// The reference server compared a retry with what it had derived from the source rather than with what the
/// client had asked for: a fork without Content-Type was refused, and so was its retry.
#[test]
fn a_fork_without_content_type_can_be_retried() {
    let server = Server::start();
    let source = server.stream("source").create();
    let start = source.tail();
    let early = source.append(r#"["a"]"#);
    source.append(r#"["b"]"#);
    let fork = server.stream("fork");
    let request = fork.fork_of(&source).header("Stream-Fork-Offset", &early);
    assert_eq!(
        server.send(&request).expect(201).expect_header("content-type"),
        "application/json"
    );
    server.send(&request).expect(200);
    server
        .send(&request.clone().header("Content-Type", "application/json"))
        .expect(200);
    fork.append(r#"["c"]"#);
    source.append(r#"["d"]"#);
    server.send(&request).expect(200);
    assert_eq!(fork.messages(), ["a", "c"]);
    assert_eq!(source.messages(), ["a", "b", "d"]);

    // Another point is another fork.
    let elsewhere = fork.fork_of(&source).header("Stream-Fork-Offset", &start);
    assert_eq!(server.send(&elsewhere).expect(409).problem(), "stream_exists");

    // The tail is where a fork begins that names no point; its retry means the same fork as before.
    let at_tail = server.stream("fork/at-tail");
    server.send(&at_tail.fork_of(&source)).expect(201);
    source.append(r#"["e"]"#);
    server.send(&at_tail.fork_of(&source)).expect(200);
    assert_eq!(at_tail.messages(), ["a", "b", "d"]);
    server.stop();
}
