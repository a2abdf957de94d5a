//! What each client may have. Every address of 127.0.0.0/8 is a client of its own.

use tailwater_e2e::{Connection, Request, Server, eventually};

use crate::support::{assert_over_limit, connect_from, metric, refusals};

const TEXT: &str = "text/plain";

/// Makes requests until one is refused, of which there must be one before as many as the burst and one second more.
#[track_caller]
fn exhaust(connection: &mut Connection, request: &Request, status: u16, code: &str, burst: u64) -> u64 {
    // Tokens come while the test runs, however slow the machine is; a refusal comes once it is faster than that.
    for made in 0..1_000_000 {
        let answer = connection.send(request);
        assert_eq!(answer.expect_header("x-ratelimit-limit"), burst.to_string());
        if answer.status() == 429 {
            assert!(made >= burst, "refused after {made} requests");
            assert_over_limit(answer, code, burst);
            return made;
        }
        let left: u64 = answer
            .expect_header("x-ratelimit-remaining")
            .parse()
            .expect("a number");
        assert!(left < burst, "{left} are left of {burst}");
        answer.expect(status);
    }
    panic!("never refused");
}

#[test]
fn a_client_that_asks_too_often_is_refused_and_others_are_not() {
    let server = Server::start_with(&[
        ("DS_LIMITS__MAX_CLIENT_READS_PER_SEC", "1"),
        ("DS_LIMITS__CLIENT_BURST_SECS", "20"),
    ]);
    let stream = server.stream("asked").create();
    let read = stream.reading("-1", "");
    let mut one = connect_from(&server, 2);
    exhaust(&mut one, &read, 200, "too_many_client_requests", 20);
    // The same client on another connection, with HEAD and on other paths, is still the same.
    let list = Request::new("GET", &server.path("__ds/streams"));
    for request in [&stream.request("HEAD"), &list, &read] {
        let mut again = connect_from(&server, 2);
        // A token may have come meanwhile, but not for all of these; a bucket of its own would have enough.
        let refused = (0..19).find(|_| again.send(request).status() == 429);
        assert!(refused.is_some(), "{request:?}");
    }
    // Writes have no limit here, and say nothing of one.
    let answer = one.send(&stream.appending("1")).expect(204);
    assert_eq!(answer.header("x-ratelimit-limit"), None);
    // Health, and preflights, are told to everybody.
    for path in ["/healthz", "/readyz", "/metrics", "/health", "/ok"] {
        for _ in 0..30 {
            one.send(&Request::new("GET", path)).expect(200);
        }
    }
    one.send(&stream.request("OPTIONS")).expect(204);
    connect_from(&server, 3).send(&read).expect(200);
    assert!(refusals(&server, "too_many_client_requests") >= 4);
    server.stop();
}

#[test]
fn reads_and_writes_of_a_client_are_counted_apart() {
    let server = Server::start_with(&[
        ("DS_LIMITS__MAX_CLIENT_READS_PER_SEC", "1"),
        ("DS_LIMITS__MAX_CLIENT_WRITES_PER_SEC", "3"),
        ("DS_LIMITS__CLIENT_BURST_SECS", "10"),
    ]);
    let stream = server.stream("written").create();
    let mut client = connect_from(&server, 2);
    exhaust(
        &mut client,
        &stream.reading("-1", ""),
        200,
        "too_many_client_requests",
        10,
    );
    let written = exhaust(
        &mut client,
        &stream.appending("1"),
        204,
        "too_many_client_requests",
        30,
    );
    // What was refused has not been done.
    assert_eq!(stream.messages().len() as u64, written);
    server.stop();
}

/// Browsers show pages only those headers that they are told to show.
#[test]
fn pages_may_see_what_is_left() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_CLIENT_READS_PER_SEC", "5")]);
    let stream = server.stream("seen").create();
    let answer = stream.send(&stream.reading("-1", "").header("Origin", "https://app.example"));
    let exposed = answer.expect(200).listed("access-control-expose-headers");
    for header in ["x-ratelimit-limit", "x-ratelimit-remaining", "retry-after"] {
        assert!(exposed.contains(header), "{header} is not in {exposed:?}");
    }
    server.stop();
}

#[test]
fn a_client_with_too_many_connections_is_refused_and_gets_its_places_back() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_CLIENT_CONNECTIONS", "2")]);
    let health = Request::new("GET", "/healthz");
    let hold = |last| {
        let mut connection = connect_from(&server, last);
        connection.send(&health).expect(200);
        connection
    };
    let mut held: Vec<_> = (0..2).map(|_| hold(2)).collect();
    for _ in 0..3 {
        let mut third = connect_from(&server, 2);
        let answer = third.read_response("GET").expect("an answer").expect("an answer");
        assert_over_limit(answer, "too_many_client_connections", 2);
    }
    let other = hold(3);
    assert_eq!(refusals(&server, "too_many_client_connections"), 3);
    held.pop();
    eventually("a connection is let in again", || {
        let mut again = connect_from(&server, 2);
        again.write(&health.encode()).ok()?;
        let answer = again.read_response("GET").ok()??;
        (answer.status() == 200).then_some(())
    });
    drop((held, other));
    server.stop();
}

/// Clients that begin requests and do not end them.
#[test]
fn a_client_with_too_many_requests_at_once_is_refused_and_others_are_not() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_CLIENT_REQUESTS", "2")]);
    let stream = server.stream("awaited").of_type(TEXT).create();
    let waits = stream.reading("now", "&live=long-poll");
    let mut polls = connect_from(&server, 2);
    polls.write(&waits.encode()).expect("the server reads");
    let mut drips = connect_from(&server, 2);
    let head = stream
        .request("POST")
        .header("Content-Type", TEXT)
        .header("Content-Length", "2");
    drips.write(&head.encode()).expect("the server reads");
    drips.write(b"1").expect("the server reads");
    eventually("both are being answered", || {
        (metric(&server, "tailwater_requests") == 2).then_some(())
    });
    let read = stream.reading("-1", "");
    let code = "too_many_client_requests_at_once";
    assert_over_limit(connect_from(&server, 2).send(&read), code, 2);
    connect_from(&server, 2)
        .send(&Request::new("GET", "/healthz"))
        .expect(200);
    connect_from(&server, 3).send(&read).expect(200);
    assert_eq!(refusals(&server, code), 1);
    // Both end, the one because of the other.
    drips.write(b"2").expect("the server reads");
    let answer = drips.read_response("POST").expect("readable").expect("an answer");
    answer.expect(204);
    let answer = polls.read_response("GET").expect("readable").expect("an answer");
    assert_eq!(answer.expect(200).text(), "12");
    connect_from(&server, 2).send(&read).expect(200);
    server.stop();
}

#[test]
fn a_client_with_too_many_live_reads_is_refused_and_others_are_not() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_CLIENT_LIVE_READERS", "2")]);
    let stream = server.stream("live").create();
    let sse = stream.reading("now", "&live=sse");
    let follow = |last| connect_from(&server, last).follow(&sse);
    let held = [follow(2), follow(2)];
    let changes = Request::new("GET", &server.path("__ds/changes?live=sse"));
    for request in [&sse, &stream.reading("now", "&live=long-poll"), &changes] {
        let answer = connect_from(&server, 2).send(request);
        assert_over_limit(answer, "too_many_client_live_readers", 2);
    }
    let mut others = [follow(3), follow(4)];
    assert_eq!(refusals(&server, "too_many_client_live_readers"), 3);
    // A connection that is cut gives its place back.
    let [first, mut second] = held;
    drop(first);
    let mut again = eventually("a reader is let in again", || {
        let mut connection = connect_from(&server, 2);
        connection.write(&sse.encode()).ok()?;
        let head = connection.read_head().ok()??;
        (head.status == 200).then_some(connection)
    });
    stream.append("1");
    stream.close();
    for events in others.iter_mut().chain([&mut second]) {
        assert_eq!(events.messages_to_close(), [1]);
    }
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut again, &mut rest).expect("the events");
    assert!(
        String::from_utf8_lossy(&rest).contains("[1]"),
        "it is served to the end"
    );
    server.stop();
}

/// Clients that begin bodies and do not end them hold what has come.
#[test]
fn bytes_in_flight_of_one_client_leave_room_for_others_and_are_given_back() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_CLIENT_IN_FLIGHT_BYTES", "64KiB")]);
    let stream = server.stream("sent").of_type(TEXT).create();
    let head = stream
        .request("POST")
        .header("Content-Type", TEXT)
        .header("Content-Length", "100000");
    let mut slow = connect_from(&server, 2);
    slow.write(&head.encode()).expect("the server reads");
    slow.write(&[b'x'; 60 * 1024]).expect("the server reads");
    eventually("what has come is counted", || {
        (metric(&server, "tailwater_in_flight_bytes") == 60 * 1024).then_some(())
    });
    let more = stream.appending("y".repeat(8 * 1024));
    assert_over_limit(
        connect_from(&server, 2).send(&more),
        "too_many_client_bytes_in_flight",
        64 * 1024,
    );
    connect_from(&server, 3).send(&more).expect(204);
    connect_from(&server, 2)
        .send(&stream.appending("z".repeat(1024)))
        .expect(204);
    assert_eq!(refusals(&server, "too_many_client_bytes_in_flight"), 1);
    // The connection is cut in the midst of the body: all of it is given back.
    drop(slow);
    eventually("there is room again", || {
        (connect_from(&server, 2).send(&more).status() == 204).then_some(())
    });
    eventually("nothing is in flight", || {
        (metric(&server, "tailwater_in_flight_bytes") == 0).then_some(())
    });
    // A body that is alone may be longer than that.
    let long = stream.appending("l".repeat(200 * 1024));
    connect_from(&server, 2).send(&long).expect(204);
    server.stop();
}

/// Addresses are cheap, and each of them wants to be remembered.
#[test]
fn no_more_clients_are_remembered_than_there_is_room_for() {
    let server = Server::start_with(&[
        ("DS_LIMITS__MAX_CLIENTS", "3"),
        ("DS_LIMITS__MAX_CLIENT_CONNECTIONS", "2"),
    ]);
    let health = Request::new("GET", "/healthz");
    let hold = |last| {
        let mut connection = connect_from(&server, last);
        connection.send(&health).expect(200);
        connection
    };
    let known: Vec<_> = (2..5).map(hold).collect();
    // Those who come now share the limits of one client: two connections.
    let strangers: Vec<_> = (5..7).map(hold).collect();
    let mut third = connect_from(&server, 7);
    let answer = third.read_response("GET").expect("an answer").expect("an answer");
    assert_over_limit(answer, "too_many_client_connections", 2);
    // Who is known goes on as before.
    let again = hold(2);
    drop(strangers);
    let (clients, overflows) = eventually("the metrics are told", || {
        let mut connection = connect_from(&server, 3);
        connection.write(&Request::new("GET", "/metrics").encode()).ok()?;
        let answer = connection.read_response("GET").ok()??;
        let sample = |name: &str| {
            let mut lines = answer.text().lines();
            lines.find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        Some((
            sample("tailwater_clients ")?,
            sample("tailwater_client_overflows_total ")?,
        ))
    });
    assert_eq!(clients, 3);
    assert!(overflows >= 3, "{overflows}");
    // Once the known ones have gone there is room for others, each with limits of its own.
    drop((known, again, third));
    eventually("others find a place", || {
        let mut held = Vec::new();
        for last in [11, 11, 12, 12] {
            let mut connection = connect_from(&server, last);
            connection.write(&health.encode()).ok()?;
            let answer = connection.read_response("GET").ok()??;
            held.push((answer.status() == 200).then_some(connection)?);
        }
        Some(())
    });
    server.stop();
}

/// Whom a trusted proxy names is the client, and not the proxy.
#[test]
fn clients_behind_a_trusted_proxy_are_told_apart_and_their_proxy_may_have_any_connections() {
    let server = Server::start_with(&[
        ("DS_PROXY__TRUSTED", "127.0.0.2/32"),
        ("DS_LIMITS__MAX_CLIENT_READS_PER_SEC", "1"),
        ("DS_LIMITS__CLIENT_BURST_SECS", "60"),
        ("DS_LIMITS__MAX_CLIENT_CONNECTIONS", "1"),
    ]);
    let stream = server.stream("shared").create();
    let mut connections = [connect_from(&server, 2), connect_from(&server, 2)];
    let named = |address: &str| stream.reading("-1", "").header("X-Forwarded-For", address);
    let [proxy, second] = &mut connections;
    exhaust(proxy, &named("192.0.2.1"), 200, "too_many_client_requests", 60);
    second.send(&named("192.0.2.2")).expect(200);
    // One IPv6 client has a whole network of addresses.
    exhaust(
        proxy,
        &named("2001:db8:1:2::1"),
        200,
        "too_many_client_requests",
        60,
    );
    let neighbour = (0..59).find(|_| second.send(&named("2001:db8:1:2:aaaa::5")).status() == 429);
    assert!(neighbour.is_some(), "the neighbour has a bucket of its own");
    second.send(&named("2001:db8:1:3::1")).expect(200);
    // Whoever is not trusted stays who he is, whatever he says.
    let mut liar = connect_from(&server, 3);
    exhaust(
        &mut liar,
        &named("192.0.2.9"),
        200,
        "too_many_client_requests",
        60,
    );
    let lies = (10..110).find(|last| liar.send(&named(&format!("192.0.2.{last}"))).status() == 429);
    assert!(lies.is_some(), "a lie gives a new bucket");
    server.stop();
}
