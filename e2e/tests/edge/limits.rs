//! What the edge takes at most, what it writes about requests, and what it keeps closed.

use tailwater_e2e::edge::Configuration;
use tailwater_e2e::{Connection, Edge, Request, edge, eventually};

#[test]
fn more_requests_than_may_be_are_told_when_to_come_again() {
    let server = edge::server(&[]);
    let configuration = Configuration::development(server.address())
        .set("requests_at_once", "20")
        .set("requests_each_second", "1");
    let edge = Edge::of(configuration);
    let caller = edge.caller(&edge.token(&["--read", "runs/"]));
    server.stream("runs/1").create();
    let mut connection = edge.connect();
    let first = connection.send(&caller.request("GET", "runs/1")).expect(200);
    assert_eq!(first.expect_header("x-ratelimit-limit"), "20");
    assert_eq!(first.expect_header("x-ratelimit-remaining"), "19");
    // Each second gives one back, so one of many is refused however slow the machine is, unless it takes a second
    // for each.
    let refused = eventually("a request is refused", || {
        let answer = connection.send(&caller.request("GET", "runs/1"));
        (answer.status() != 200).then_some(answer)
    });
    let refused = refused.expect(429);
    assert_eq!(refused.problem(), "rate_limited");
    assert_eq!(refused.expect_header("retry-after"), "1");
    assert_eq!(refused.expect_header("x-ratelimit-remaining"), "0");
    // Those who look after the edge are not refused because of the others.
    connection.send(&Request::new("GET", "/healthz")).expect(200);
    // Nor does a token that is not valid cost nothing.
    eventually("a request without a token is refused likewise", || {
        let answer = connection.send(&Request::new("GET", "/v1/stream/runs/1"));
        (answer.status() == 429).then_some(())
    });
    eventually("there is room again", || {
        let answer = connection.send(&caller.request("GET", "runs/1"));
        (answer.status() == 200).then_some(())
    });
    server.stop();
}

#[test]
fn the_access_log_has_each_request_and_no_token() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    server.stream("runs/1").create();
    let token = edge.token(&["--read", "runs/"]);
    let caller = edge.caller(&token);
    caller.send("GET", "runs/1?offset=-1").expect(200);
    caller
        .send("GET", &format!("runs/1?access_token={token}"))
        .expect(200);
    let in_query = Request::new("GET", &format!("/v1/stream/runs/1?access_token={token}"));
    let refused = edge.send(&in_query).expect(401);
    assert!(!format!("{refused:?}").contains(&token[..40]), "{refused:?}");
    let wrong = Request::new("GET", "/v1/stream/runs/2").header("Authorization", &format!("Bearer {token}x"));
    edge.send(&wrong).expect(401);
    let line = eventually("all four are written", || {
        let output = edge.envoy().output();
        (output.lines().filter(|line| line.starts_with('{')).count() == 4).then_some(output)
    });
    let mut entries: Vec<serde_json::Value> = line
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect("an entry is JSON"))
        .collect();
    // They are written when they end, by whichever thread they were on.
    entries.sort_by_key(|entry| entry["time"].to_string());
    assert_eq!(entries[0]["path"], "/v1/stream/runs/1");
    assert_eq!(entries[0]["subject"], "alice");
    assert_eq!(entries[0]["status"], 200);
    assert_eq!(entries[3]["subject"], serde_json::Value::Null);
    assert_eq!(entries[3]["status"], 401);
    // Neither the whole of it nor a part.
    for part in token.split('.') {
        assert!(
            !line.contains(&part[..20]),
            "a part of the token is in the log:\n{line}"
        );
    }
    assert!(!line.contains("offset=-1"), "{line}");
    server.stop();
}

#[test]
fn only_health_is_open_and_the_admin_page_is_not_for_others() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    edge.send(&Request::new("GET", "/healthz")).expect(200);
    for path in [
        "/metrics",
        "/readyz",
        "/health",
        "/ok",
        "/",
        "/ready",
        "/stats",
        "/config_dump",
        "/v1/stream/x",
    ] {
        edge.send(&Request::new("GET", path)).expect(401);
    }
    let all = edge.caller(&edge.token(&["--read", "*", "--write", "*"]));
    for path in ["/metrics", "/readyz", "/stats", "/config_dump", "/quitquitquit"] {
        edge.send(&all.request_to("GET", path)).expect(404);
        edge.send(&all.request_to("POST", path)).expect(404);
    }
    assert!(edge.envoy().admin_address().ip().is_loopback());
    // The port speaks TLS and nothing else.
    let mut clear = Connection::open(edge.address());
    let sent = clear.write(&Request::new("GET", "/healthz").encode());
    assert!(
        sent.and_then(|()| clear.read_response("GET"))
            .map_or(true, |answer| answer.is_none())
    );
    server.stop();
}

#[test]
fn what_is_too_long_is_refused_by_the_edge_or_by_the_server() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    let caller = edge.caller(&edge.token(&["--read", "runs/", "--write", "runs/"]));
    caller.create("runs/1");
    let long = "a".repeat(30_000);
    edge.send(&caller.request("GET", "runs/1").header("X-Long", &long))
        .expect(431);
    let many = (0..120).fold(caller.request("GET", "runs/1"), |request, number| {
        request.header(&format!("X-Header-{number}"), "value")
    });
    edge.send(&many).expect(431);
    caller
        .send("GET", &format!("runs/{}", "a".repeat(1020)))
        .expect(400);
    // A body goes through in pieces, and the server says what is too much of it.
    let announced = caller
        .request("POST", "runs/1")
        .header("Content-Length", "20000000");
    assert_eq!(edge.send(&announced).expect(413).problem(), "body_too_large");
    let large = format!("\"{}\"", "x".repeat(5 << 20));
    caller.append("runs/1", &large);
    let read = caller.send("GET", "runs/1").expect(200);
    assert!(read.body.len() > 5 << 20, "{} bytes", read.body.len());
    server.stop();
}

/// A server that has all the tails that it may have is no reason to wait: who comes then is told so at once, and is
/// served when there is room again.
#[test]
fn one_request_too_many_for_the_server_is_refused_until_there_is_room() {
    let server = edge::server(&[]);
    let configuration = Configuration::development(server.address())
        .set("requests_to_server", "3")
        .set("connections_to_server", "8");
    let edge = Edge::of(configuration);
    let caller = edge.caller(&edge.token(&["--read", "runs/"]));
    server.stream("runs/1").create();
    let mut tails: Vec<_> = (0..3).map(|_| caller.follow("runs/1", "-1")).collect();
    for _ in 0..5 {
        let answer = caller.send("GET", "runs/1").expect(503);
        assert_eq!(answer.problem(), "unavailable");
        assert_eq!(
            answer.json()["reason"],
            "upstream_reset_before_response_started{overflow}"
        );
    }
    assert_eq!(
        edge.envoy().stat("cluster.server.upstream_rq_active"),
        3,
        "the tails go on"
    );
    tails.pop();
    eventually("there is room again", || {
        (caller.send("GET", "runs/1").status() == 200).then_some(())
    });
    server.stop();
}

/// Each tail takes a connection to the server. Those for which there is none wait in the edge. A worker of Envoy may always
/// have one, so with two of them there can be one more than the limit.
#[test]
fn more_tails_than_connections_to_the_server_wait_at_the_edge() {
    let server = edge::server(&[]);
    let configuration = Configuration::development(server.address()).set("connections_to_server", "1");
    let edge = Edge::of(configuration);
    let caller = edge.caller(&edge.token(&["--read", "runs/"]));
    server.stream("runs/1").create();
    let tail = caller.request("GET", "runs/1?offset=-1&live=sse");
    let tails: Vec<_> = (0..6)
        .map(|_| {
            let mut connection = edge.connect();
            connection.write(&tail.encode()).expect("written");
            connection
        })
        .collect();
    let (connections, waiting) = eventually("all tails are at the server or wait", || {
        let connections = edge.envoy().stat("cluster.server.upstream_cx_active");
        let waiting = edge.envoy().stat("cluster.server.upstream_rq_pending_active");
        (connections + waiting >= 6).then_some((connections, waiting))
    });
    assert!(connections <= 2, "{connections} connections, {waiting} wait");
    let clusters = edge.envoy().admin("GET", "/clusters").expect(200);
    for limit in [
        "max_connections::1",
        "max_pending_requests::1024",
        "max_requests::9000",
        "max_retries::16",
    ] {
        let line = format!("server::default_priority::{limit}\n");
        assert!(
            clusters.text().contains(&line),
            "no {limit} in {}",
            clusters.text()
        );
    }
    drop(tails);
    server.stop();
}

#[test]
fn reads_are_tried_again_and_writes_are_not() {
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = refusing.local_addr().expect("a bound socket has an address");
    // Nobody listens there any more, so connections are refused.
    drop(refusing);
    let edge = Edge::before(address);
    let caller = edge.caller(&edge.token(&["--read", "runs/", "--write", "runs/"]));
    let retries = || edge.envoy().stat("cluster.server.upstream_rq_retry");
    for method in ["POST", "PUT", "DELETE"] {
        let forced = caller
            .request(method, "runs/1")
            .header("X-Envoy-Retry-On", "connect-failure,5xx")
            .header("X-Envoy-Max-Retries", "3");
        edge.send(&forced).expect(503);
        assert_eq!(retries(), 0, "{method} was tried again");
    }
    edge.send(&caller.request("GET", "runs/1")).expect(503);
    eventually("a read is tried again twice", || (retries() == 2).then_some(()));
    edge.send(&caller.request("HEAD", "runs/1")).expect(503);
    eventually("a HEAD likewise", || (retries() == 4).then_some(()));
}
