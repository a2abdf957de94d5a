//! The official JavaScript client keeps its promises against the real binary, over a network that cuts
//! connections after the server has acted and before the client has heard of it.

use serde_json::Value;
use tailwater_e2e::numbering::assert_in_order;
use tailwater_e2e::proxy::CuttingProxy;
use tailwater_e2e::{Server, node};

const MESSAGES: usize = 5_000;

/// Every so many answers on their way to the producer are lost.
const CUT_EVERY: usize = 7;

#[test]
fn an_idempotent_producer_of_json_loses_and_repeats_nothing_over_cut_connections() {
    write_and_read_back("application/json");
}

#[test]
fn an_idempotent_producer_of_text_loses_and_repeats_nothing_over_cut_connections() {
    write_and_read_back("text/plain");
}

fn write_and_read_back(content_type: &str) {
    let server = Server::start();
    let proxy = CuttingProxy::before(server.address(), CUT_EVERY);
    let path = server.path("official/client");
    let output = node::run(
        node::node("tests/official_client.mjs")
            .env("STREAM_URL", format!("{}{path}", server.origin()))
            .env("PROXIED_URL", format!("http://{}{path}", proxy.address()))
            .env("CONTENT_TYPE", content_type)
            .env("MESSAGES", MESSAGES.to_string()),
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("the script prints one JSON line");
    assert_eq!(
        report["failures"],
        serde_json::json!([]),
        "the producer gave up on a batch"
    );
    assert_eq!(report["closed"], true, "HEAD says that the stream is closed");
    for mode in ["catch-up", "long-poll", "sse"] {
        let seen = &report["modes"][mode];
        assert_eq!(seen["closed"], true, "{mode} saw the close");
        let numbers = seen["seen"].as_array().expect("a list of numbers");
        let numbers = numbers
            .iter()
            .map(|number| usize::try_from(number.as_u64()?).ok());
        assert_in_order(numbers.map(|number| number.expect("a number")), MESSAGES, mode);
    }
    // Without cuts and batches the test would prove less than its name says.
    assert!(proxy.cuts() > 10, "the proxy cut only {} answers", proxy.cuts());
    let failures = report["networkFailures"].as_u64().expect("a number");
    assert!(failures > 10, "the producer felt only {failures} failures");
    let batches = report["batches"].as_u64().expect("a number");
    assert!(
        batches > 50 && batches < MESSAGES as u64 / 2,
        "{batches} batches are no batching"
    );
    server.stop();
}
