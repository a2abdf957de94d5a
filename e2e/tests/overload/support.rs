//! What these tests share: refusals as they must be told, and what the server counts.

use std::net::Ipv4Addr;

use tailwater_e2e::{Connection, Response, Server};

/// Checks a refusal for load: its status and code, and when to come again in whole seconds.
#[track_caller]
pub(crate) fn assert_refused(answer: Response, status: u16, code: &str) -> Response {
    let answer = answer.expect(status);
    assert_eq!(answer.problem(), code);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    let seconds: u64 = answer.expect_header("retry-after").parse().expect("seconds");
    assert!((1..=3600).contains(&seconds), "{answer:?}");
    answer
}

/// A metric without labels, or one with the labels that are given as they stand in the text.
#[track_caller]
pub(crate) fn metric(server: &Server, sample: &str) -> u64 {
    let page = server.get("/metrics").expect(200);
    let value = page
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_default()
}

/// Refusals of one code that the server has counted.
#[track_caller]
pub(crate) fn refusals(server: &Server, code: &str) -> u64 {
    metric(server, &format!("tailwater_refusals_total{{code=\"{code}\"}}"))
}

/// A connection from 127.0.0.`last`: another peer for each.
#[track_caller]
pub(crate) fn connect_from(server: &Server, last: u8) -> Connection {
    Connection::open_from(Ipv4Addr::new(127, 0, 0, last).into(), server.address())
}

/// Checks that a refusal tells a client how much it may have, and that nothing of that is left.
#[track_caller]
pub(crate) fn assert_over_limit(answer: Response, code: &str, limit: u64) {
    let answer = assert_refused(answer, 429, code);
    assert_eq!(answer.json()["limit"], limit);
    assert_eq!(answer.expect_header("x-ratelimit-limit"), limit.to_string());
    assert_eq!(answer.expect_header("x-ratelimit-remaining"), "0");
}
