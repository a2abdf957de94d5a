//! Lines that are appended as they come: none is lost or doubled, and what is not known is said.

use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use tailwater_e2e::proxy::CuttingProxy;
use tailwater_e2e::{Server, eventually};

use super::command::{Running, base_url, succeed};

#[test]
fn follow_appends_each_line_as_it_comes_and_names_a_bad_one() {
    let server = Server::start();
    let stream = server.stream("lines").create();
    let mut append = Running::start(
        &base_url(&server),
        &["append", "lines", "--follow"],
        Stdio::piped(),
    );
    for (line, so_far) in [("{\"a\":1}", 1), ("[1,2]", 2), ("", 2), ("\"x\"", 3)] {
        append.write_line(line);
        eventually("the line is appended", || {
            (stream.messages().len() == so_far).then_some(())
        });
    }
    append.write_line("4\n{\n5");
    let (code, _, notes) = append.end();
    assert_eq!(code, Some(1));
    assert!(notes.contains("line 6 of stdin is not JSON"), "{notes}");
    assert_eq!(
        succeed(&server, &["read", "lines"]),
        "{\"a\":1}\n[1,2]\n\"x\"\n4\n"
    );
}

#[test]
fn a_producer_that_follows_loses_and_repeats_nothing_over_cut_connections() {
    /// So many that the answer to the close is cut as well, which was not asked again.
    const LINES: usize = 29;
    let server = Server::start();
    let stream = server.stream("lines").create();
    let proxy = CuttingProxy::before(server.address(), 3);
    let url = format!("http://{}{}", proxy.address(), server.base_path());
    let arguments = ["append", "lines", "--follow", "--producer", "p", "--close"];
    let mut append = Running::start(&url, &arguments, Stdio::piped());
    for line in 0..LINES {
        append.write_line(&line.to_string());
        eventually("the line is appended", || {
            (stream.messages().len() > line).then_some(())
        });
    }
    let cuts = proxy.cuts();
    let (code, _, notes) = append.end();
    assert_eq!(code, Some(0), "{notes}");
    let expected: String = (0..LINES).map(|line| format!("{line}\n")).collect();
    assert_eq!(succeed(&server, &["read", "lines"]), expected, "{notes}");
    assert!(
        succeed(&server, &["head", "lines"]).contains("closed: true"),
        "{notes}"
    );
    assert!(cuts > 3, "the proxy cut only {cuts} answers");
    assert!(notes.contains("trying again in"), "{notes}");
}

#[test]
fn an_append_whose_answer_is_lost_is_told_to_be_in_doubt() {
    let server = Server::start();
    server.stream("one").create();
    // The answer to the question what the stream's type is comes through, the next one does not.
    let proxy = CuttingProxy::before(server.address(), 2);
    let url = format!("http://{}{}", proxy.address(), server.base_path());
    let append = Running::start(&url, &["append", "one", "1"], Stdio::null());
    let (code, printed, notes) = append.end();
    assert_eq!((code, printed.as_str()), (Some(1), ""));
    assert!(notes.contains("may or may not have been appended"), "{notes}");
    assert_eq!(succeed(&server, &["read", "one"]), "1\n", "this time it was");
}

/// A long line went along with those before it, and the body of all was over the limit though each line was not.
#[test]
fn a_line_may_be_as_long_as_the_server_allows_whatever_comes_before_it() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_BODY_BYTES", "300KiB")]);
    server.stream("lines").of_type("text/plain").create();
    let text = format!("{}\n", "x".repeat(999)).repeat(200) + &"y".repeat(290 << 10) + "\nlast\n";
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &text).expect("it is written");
    let stdin = Stdio::from(file.reopen().expect("it is there"));
    let append = Running::start(&base_url(&server), &["append", "lines", "--follow"], stdin);
    let (code, _, notes) = append.end();
    assert_eq!(code, Some(0), "{notes}");
    assert!(
        succeed(&server, &["read", "lines"]) == text,
        "all lines are there, in order"
    );
}

/// Each run has an epoch of the clock, and was refused as long as that was behind the one of the run before.
#[test]
fn a_producer_goes_on_though_the_clock_was_set_back_and_is_told_of_one_that_takes_over() {
    const DAY_MS: u128 = 24 * 3_600_000;
    let server = Server::start();
    let stream = server.stream("lines").create();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is later")
        .as_millis();
    let append_as = |epoch: u128, message: &str| {
        let append = stream.appending(message).header("Producer-Id", "p");
        let append = append
            .header("Producer-Epoch", &epoch.to_string())
            .header("Producer-Seq", "0");
        server.send(&append).expect(200);
    };
    append_as(now + DAY_MS, "[0]");
    let mut append = Running::start(
        &base_url(&server),
        &["append", "lines", "--follow", "--producer", "p"],
        Stdio::piped(),
    );
    for line in 1..3 {
        append.write_line(&line.to_string());
        eventually("the line is appended", || {
            (stream.messages().len() > line).then_some(())
        });
    }
    append_as(now + 2 * DAY_MS, "[3]");
    append.write_line("4");
    let (code, _, notes) = append.end();
    assert_eq!(code, Some(1));
    assert!(notes.contains("taken over by a later process"), "{notes}");
    assert_eq!(succeed(&server, &["read", "lines"]), "0\n1\n2\n3\n");
}
