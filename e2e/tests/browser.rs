//! A web page follows a stream with nothing but the browser's own EventSource.

use serde_json::Value;
use tailwater_e2e::numbering::assert_in_order;
use tailwater_e2e::{PATIENCE, Server, node};

/// How often the page must have been connected before the writer closes the stream.
const CONNECTIONS: u64 = 4;

/// A peer's server sent no `id:`, so each reconnect of an EventSource began again at the offset of its URL and
/// every message came once more. Chromium waits seconds before a reconnect, which is when most is missed.
#[test]
fn an_event_source_sees_every_message_once_across_reconnects_and_stops_at_the_close() {
    let server = Server::start_with(&[("DS_HTTP__SSE_MAX_SECS", "1")]);
    let stream = server.stream("browser/page").create();
    let output = node::run(
        node::node("tests/browser.mjs")
            .env("STREAM_URL", format!("{}{}", server.origin(), stream.path()))
            .env("CHROMIUM", node::chromium())
            .env("CONNECTIONS", CONNECTIONS.to_string())
            .env("PATIENCE_MS", PATIENCE.as_millis().to_string()),
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("the script prints one JSON line");
    let seen = &report["seen"];
    let written = usize::try_from(report["written"].as_u64().expect("a number")).expect("a small number");

    let opened = seen["opened"].as_u64().expect("a number");
    assert!(
        opened >= CONNECTIONS,
        "the page was connected only {opened} times"
    );
    let numbers = seen["numbers"].as_array().expect("a list of numbers");
    let numbers = numbers
        .iter()
        .map(|number| usize::try_from(number.as_u64()?).ok());
    assert_in_order(
        numbers.map(|number| number.expect("a number")),
        written,
        "the page",
    );
    assert_eq!(seen["resumedWithoutId"], 0, "every data event carries an id");
    assert_eq!(seen["closed"], true, "the page was told of the close");
    assert_eq!(
        report["ended"], true,
        "the EventSource stopped by itself: {}",
        seen["readyState"]
    );
    server.stop();
}
