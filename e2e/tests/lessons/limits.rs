//! Stories of limits and of time.

use tailwater_e2e::{Server, Stream, eventually};

fn exists(stream: &Stream<'_>) -> bool {
    // HEAD does not renew a sliding lifetime, so looking changes nothing.
    stream.send(&stream.request("HEAD")).status() == 200
}

/// A peer added a client's lifetime to the time of day and panicked on the overflow.
#[test]
fn a_lifetime_of_any_length_is_kept_or_refused_without_a_panic() {
    let server = Server::start();
    let seconds = [
        "2147483648",
        "9007199254740992",
        "9223372036854775807",
        "18446744073709551615",
        "99999999999999999999",
    ];
    let moments = [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "2099-01-01T00:00:00+23:59",
    ];
    let ttl = seconds.map(|value| ("Stream-TTL", value));
    let expires = moments.map(|value| ("Stream-Expires-At", value));
    for (number, (header, value)) in ttl.into_iter().chain(expires).enumerate() {
        let stream = server.stream(&format!("long/{number}"));
        let answer = server.send(&stream.creation().header(header, value));
        if answer.status() == 201 && !value.starts_with("0000") {
            stream.append("1");
            assert_eq!(stream.messages(), [1], "{header}: {value}");
            assert!(exists(&stream), "{header}: {value} is over at once");
            let head = stream.send(&stream.request("HEAD"));
            assert!(head.header(header).is_some(), "{header}: {value} is not shown");
        } else {
            assert!(
                matches!(answer.status(), 201 | 400),
                "{header}: {value}: {answer:?}"
            );
        }
        server.assert_well(&format!("{header}: {value}"));
    }
    server.get(&server.path("__ds/streams")).expect(200);
    server.stop();
}

/// In a peer the bytes of an expired stream were never given back, and after some days every append was refused
/// though the server was empty.
#[test]
fn the_bytes_of_an_expired_stream_can_be_used_again() {
    let server = Server::start_with(&[
        // On disk it is the disk that bounds what is stored.
        ("DS_STORAGE__MODE", "memory"),
        ("DS_LIMITS__MAX_MEMORY_BYTES", "1MiB"),
        ("DS_LIMITS__MAX_STREAM_BYTES", "1MiB"),
    ]);
    let most = "x".repeat(700 * 1024);
    let kept = server.stream("kept").of_type("text/plain").create();
    for round in 0..3 {
        let brief = server.stream(&format!("brief/{round}")).of_type("text/plain");
        server
            .send(&brief.creation().header("Stream-TTL", "1"))
            .expect(201);
        brief.append(most.as_str());
        assert_eq!(
            kept.send(&kept.appending(most.as_str())).expect(507).problem(),
            "storage_full"
        );
        eventually("the stream expires", || (!exists(&brief)).then_some(()));
        // Nobody may have to touch the expired stream for this.
        eventually("its bytes are free", || {
            let probe = server.stream(&format!("probe/{round}")).of_type("text/plain");
            let answer = server.send(&probe.creation().body(most.as_str()));
            (answer.status() == 201).then(|| probe.delete())
        });
    }
    // A deletion gives back at once.
    let other = server.stream("other").of_type("text/plain").create();
    for _ in 0..5 {
        let stream = server.stream("deleted").of_type("text/plain").create();
        stream.append(most.as_str());
        other.send(&other.appending(most.as_str())).expect(507);
        stream.delete();
    }
    server.stop();
}

/// In S2 the deletion timer of an old stream fired after a new one had taken its name, and deleted that.
#[test]
fn the_timer_of_a_deleted_stream_does_not_touch_its_namesake() {
    let server = Server::start();
    let stream = server.stream("name");
    server
        .send(&stream.creation().header("Stream-TTL", "1"))
        .expect(201);
    stream.delete();
    server.send(&stream.creation()).expect(201);
    stream.append("1");
    // Created later with the same lifetime: once it is gone, the old timer has had its time.
    let witness = server.stream("witness");
    server
        .send(&witness.creation().header("Stream-TTL", "1"))
        .expect(201);
    eventually("the witness expires", || (!exists(&witness)).then_some(()));
    assert_eq!(stream.messages(), [1]);
    server.stop();
}

/// A peer's readers crowded out its writers in silence. Here every table has an end and says so, and whoever is
/// inside is still served.
#[test]
fn live_readers_beyond_the_limit_are_sent_away_and_the_others_served() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_LIVE_READERS", "2")]);
    let stream = server.stream("crowded").create();
    let mut followers = [stream.follow("-1"), stream.follow("-1")];
    for more in ["&live=sse", "&live=long-poll"] {
        let refusal = stream.send(&stream.reading("now", more)).expect(503);
        assert_eq!(refusal.problem(), "too_many_live_readers");
        let seconds: u64 = refusal.expect_header("retry-after").parse().expect("seconds");
        assert!(seconds > 0);
    }
    stream.append("1");
    stream.close();
    for follower in &mut followers {
        assert_eq!(follower.messages_to_close(), [1]);
    }
    // A place that has been left is free again.
    eventually("a new reader is let in", || {
        (stream.send(&stream.reading("now", "&live=long-poll")).status() == 204).then_some(())
    });
    server.stop();
}

/// Producer state was a table without end in a peer: a client that made up ids could fill the memory.
#[test]
fn producers_beyond_the_limit_are_refused_and_the_known_ones_served() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_PRODUCERS_PER_STREAM", "2")]);
    let stream = server.stream("produced").create();
    let append = |producer: &str, seq: &str| {
        stream
            .appending("1")
            .header("Producer-Id", producer)
            .header("Producer-Epoch", "0")
            .header("Producer-Seq", seq)
    };
    stream.send(&append("a", "0")).expect(200);
    stream.send(&append("b", "0")).expect(200);
    assert_eq!(
        stream.send(&append("c", "0")).expect(507).problem(),
        "producer_limit"
    );
    stream.send(&append("a", "1")).expect(200);
    stream.send(&append("a", "1")).expect(204);
    assert_eq!(stream.messages(), [1, 1, 1]);
    server.stop();
}

/// A stream that never ended its growth starved all others of memory.
#[test]
fn a_full_stream_refuses_and_the_others_go_on() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_STREAM_BYTES", "64KiB")]);
    let full = server.stream("full").of_type("text/plain").create();
    full.append("x".repeat(60 * 1024));
    let refusal = full.send(&full.appending("x".repeat(8 * 1024))).expect(413);
    assert_eq!(refusal.problem(), "stream_full");
    full.append("x".repeat(1024));
    assert_eq!(full.read("-1").body.len(), 61 * 1024);
    server
        .stream("other")
        .of_type("text/plain")
        .create()
        .append("x".repeat(60 * 1024));
    full.close();
    server.stop();
}
