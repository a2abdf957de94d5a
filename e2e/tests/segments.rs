//! Reads of what has been folded into segments, from which the kernel sends it by itself.
//! What must happen is waited for; no verdict depends on time.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use tailwater_e2e::{Connection, Request, Server, eventually};
use tempfile::TempDir;

/// Small, so that the server still has most of an answer when the client has stopped reading it.
const RECEIVE_BUFFER: usize = 4 * 1024;
const APPEND_BYTES: usize = 256 * 1024;
const APPENDS: u64 = 16;
const READERS: usize = 4;
const SENT: &str = "tailwater_read_sendfile_bytes_total";

/// A server that folds early, and where it keeps what.
fn server(more: &[(&str, &str)]) -> (Server, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().to_str().expect("a path of text").to_owned();
    let mut settings = vec![
        ("DS_STORAGE__MODE", "file-durable"),
        ("DS_STORAGE__DATA_DIR", path.as_str()),
        ("DS_STORAGE__JOURNAL_BYTES", "1MiB"),
        ("DS_STORAGE__FOLD_BYTES", "1MiB"),
    ];
    settings.extend_from_slice(more);
    (Server::start_with(&settings), dir)
}

/// What a metric says.
fn metric(server: &Server, name: &str) -> u64 {
    let page = server.get("/metrics").text().to_owned();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("{name} is not in\n{page}"));
    value.parse().expect("a number")
}

/// Bytes that are like those of no other append.
fn content(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; APPEND_BYTES];
    fastrand::Rng::with_seed(number).fill(&mut bytes);
    bytes
}

fn segments(dir: &Path) -> BTreeSet<String> {
    let files = std::fs::read_dir(dir.join("segments")).expect("a directory");
    files
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".segment"))
        .collect()
}

/// Reads all of a stream until all of it comes from segments, and returns it.
fn read_folded(server: &Server, name: &str) -> Vec<u8> {
    let stream = server.stream(name).of_type("application/octet-stream");
    eventually("all that is read comes from segments", || {
        let before = metric(server, SENT);
        let (mut received, mut offset) = (Vec::new(), "-1".to_owned());
        loop {
            let answer = stream.read(&offset).expect(200);
            received.extend_from_slice(&answer.body);
            answer.expect_header("stream-next-offset").clone_into(&mut offset);
            if answer.header("stream-up-to-date") == Some("true") {
                break;
            }
        }
        let sent = metric(server, SENT) - before;
        // The end of a slice may be too short to be worth it.
        (sent * 10 > received.len() as u64 * 9).then_some(received)
    })
}

/// Makes one more journal full, so that what was appended before is folded.
fn fill_a_journal(server: &Server, name: &str) {
    let other = server.stream(name).of_type("application/octet-stream").create();
    for number in 0..5 {
        other.append(content(1000 + number));
    }
}

/// A connection that has asked for a stream from its beginning and has the head of the answer.
fn begun(server: &Server, request: &Request) -> (Connection, usize) {
    let mut connection = Connection::open_narrow(server.address(), RECEIVE_BUFFER).expect("a connection");
    connection.write(&request.encode()).expect("written");
    let head = connection.read_head().expect("an answer").expect("an answer");
    assert_eq!(head.status, 200, "{head:?}");
    let length = head.header("content-length").expect("a length");
    (connection, length.parse().expect("a number"))
}

#[test]
fn readers_get_every_byte_though_the_files_they_read_from_are_replaced_meanwhile() {
    // The readers wait for merges, however long these take.
    let (server, dir) = server(&[("DS_SERVER__WRITE_TIMEOUT_SECS", "3600")]);
    let stream = server.stream("a").of_type("application/octet-stream").create();
    for number in 0..APPENDS {
        stream.append(content(number));
    }
    fill_a_journal(&server, "filler");
    let expected: Vec<u8> = (0..APPENDS).flat_map(content).collect();
    assert!(read_folded(&server, "a") == expected);

    let before = segments(dir.path());
    let mut readers: Vec<_> = (0..READERS)
        .map(|_| begun(&server, &stream.reading("-1", "")))
        .collect();
    // Small segments are merged into larger ones, until none of the files that are read from has a name any more.
    let mut more = 0;
    eventually("every segment of before is merged into another one", || {
        more += 1;
        fill_a_journal(&server, &format!("more-{more}"));
        server.stream(&format!("more-{more}")).delete();
        segments(dir.path()).is_disjoint(&before).then_some(())
    });
    for (connection, length) in &mut readers {
        assert_eq!(*length, 1 << 20);
        let mut body = vec![0; *length];
        connection.read_exact(&mut body).expect("all of it comes");
        assert!(body == expected[..*length]);
    }
    assert!(read_folded(&server, "a") == expected);
    server.assert_well("its segments were merged");
    server.stop();
}

#[test]
fn messages_of_json_come_from_segments_between_brackets() {
    let (server, _dir) = server(&[]);
    let stream = server.stream("json").create();
    let message = |number: u64| {
        let letters: String = content(number)
            .iter()
            .map(|byte| char::from(b'a' + byte % 26))
            .collect();
        serde_json::json!({ "number": number, "text": letters })
    };
    for number in 0..APPENDS {
        stream.append(message(number).to_string());
    }
    fill_a_journal(&server, "filler");
    read_folded(&server, "json");
    let before = metric(&server, SENT);
    let expected: Vec<_> = (0..APPENDS).map(message).collect();
    assert!(stream.messages() == expected);
    assert!(metric(&server, SENT) > before);
    server.stop();
}

#[test]
fn a_reader_of_a_segment_that_takes_nothing_is_cut_off() {
    let (server, _dir) = server(&[("DS_SERVER__WRITE_TIMEOUT_SECS", "1")]);
    let stream = server.stream("a").of_type("application/octet-stream").create();
    for number in 0..APPENDS {
        stream.append(content(number));
    }
    fill_a_journal(&server, "filler");
    read_folded(&server, "a");
    let (mut connection, length) = begun(&server, &stream.reading("-1", ""));
    // The connection that asks is one.
    eventually("the reader is cut off", || {
        (metric(&server, "tailwater_connections") == 1).then_some(())
    });
    let mut received = Vec::new();
    let end = connection.read_to_end(&mut received);
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    assert!(received.len() < length, "{} bytes of {length}", received.len());
    let expected: Vec<u8> = (0..APPENDS).flat_map(content).collect();
    assert!(received == expected[..received.len()]);
    server.stop();
}
