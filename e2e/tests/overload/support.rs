//! What these tests share: refusals as they must be told, and what the server counts.

use tailwater_e2e::{Response, Server};

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
