//! What these tests share: refusals as they must be told, and what the server counts.

use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

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
    read_metric(server, sample).unwrap_or_default()
}

/// How long reads were at work so far, as far as that is measured.
#[track_caller]
pub(crate) fn reads_busy(server: &Server) -> Duration {
    let secs = read_metric(server, "tailwater_reads_busy_seconds_total");
    Duration::from_secs_f64(secs.expect("it is told"))
}

#[track_caller]
fn read_metric<T: FromStr>(server: &Server, sample: &str) -> Option<T> {
    let page = server.get("/metrics").expect(200);
    page.text()
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
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
