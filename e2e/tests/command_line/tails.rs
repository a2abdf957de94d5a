//! Tails of streams: what they print, and where they end.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tailwater_e2e::Server;
use tailwater_e2e::proxy::CuttingProxy;

use super::command::{Running, base_url, interrupt, succeed};

#[test]
fn tail_prints_what_comes_and_ends_when_the_stream_is_closed() {
    let server = Server::start();
    let stream = server.stream("live").create();
    stream.append("[1]");
    let tail = Running::start(
        &base_url(&server),
        &["tail", "live", "--offset", "-1"],
        Stdio::null(),
    );
    tail.wait_for("1\n");
    stream.append(r#"[{"a":"x\ny"},2]"#);
    tail.wait_for("2\n");
    stream.close();
    let (code, printed, notes) = tail.end();
    assert_eq!(
        (code, printed.as_str()),
        (Some(0), "1\n{\"a\":\"x\\ny\"}\n2\n"),
        "{notes}"
    );
    assert!(notes.contains("`live` is closed"), "{notes}");
    assert_eq!(
        succeed(&server, &["tail", "live"]),
        "",
        "from now on there is nothing"
    );
}

#[test]
fn tail_loses_and_repeats_nothing_over_cut_connections() {
    const MESSAGES: usize = 30;
    let server = Server::start();
    let stream = server.stream("live").create();
    let proxy = CuttingProxy::before(server.address(), 4);
    let url = format!("http://{}{}", proxy.address(), server.base_path());
    let tail = Running::start(&url, &["tail", "live", "--offset", "-1"], Stdio::null());
    for message in 0..MESSAGES {
        stream.append(format!("[{message}]"));
        tail.wait_for(&format!("{message}\n"));
    }
    stream.close();
    let (code, printed, notes) = tail.end();
    let expected: String = (0..MESSAGES).map(|message| format!("{message}\n")).collect();
    assert_eq!((code, printed), (Some(0), expected), "{notes}");
    assert!(proxy.cuts() > 3, "the proxy cut only {} answers", proxy.cuts());
    assert!(notes.contains("trying again in"), "{notes}");
}

#[test]
fn an_interrupted_tail_says_where_to_go_on() {
    let server = Server::start();
    let stream = server.stream("live").create();
    let tail = Running::start(
        &base_url(&server),
        &["tail", "live", "--offset", "-1", "--records"],
        Stdio::null(),
    );
    let offset = stream.append("[1]");
    tail.wait_for("\n");
    let record: Value = serde_json::from_str(&tail.printed()).expect("one record");
    assert_eq!(
        (&record["data"], record["offset"].as_str()),
        (&1.into(), Some(offset.as_str()))
    );
    interrupt(&tail.child);
    let (code, _, notes) = tail.end();
    assert_eq!(code, Some(130));
    assert!(
        notes.contains(&format!("tailwater tail live --offset {offset}")),
        "{notes}"
    );
}

/// Each event had a listener of its own for the signal, and some were dropped with the news of it.
#[test]
fn a_tail_that_is_interrupted_while_it_is_busy_ends_at_once_and_goes_on_behind_what_it_has_printed() {
    const TIMES: usize = 8;
    /// The writer ends with the test, also if that fails.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let server = Server::start_with(&[("DS_LIMITS__MAX_STREAM_BYTES", "90MiB")]);
    let messages = format!("[{}]", vec!["1"; 500].join(","));
    for _ in 0..TIMES {
        let stream = server.stream("busy").create();
        let is_over = AtomicBool::new(false);
        let tail = ["tail", "busy", "--offset", "-1", "--records"];
        let (code, printed, notes) = std::thread::scope(|scope| {
            let _ends = Ends(&is_over);
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    stream.append(messages.as_str());
                }
            });
            let tail = Running::start(&base_url(&server), &tail, Stdio::null());
            tail.wait_for("\n");
            interrupt(&tail.child);
            tail.end()
        });
        stream.delete();
        assert_eq!(code, Some(130), "{notes}");
        let last: Value = serde_json::from_str(printed.lines().last().expect("a record")).expect("JSON");
        let offset = last["offset"].as_str().expect("an offset");
        assert!(
            notes.contains(&format!("tailwater tail busy --offset {offset}\n")),
            "{notes} behind {last}"
        );
    }
}
