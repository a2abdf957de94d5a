//! Lines that a program writes become events of its run, many in one append.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::{Mutex, mpsc};

use super::lease::Lease;

/// Lines that wait to be appended. Beyond that the program has to wait.
const LINES_WAITING_MAX: usize = 1_024;
/// A longer line becomes several.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Events of one append, and about the most bytes in them.
const BATCH_LINES_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 << 10;

/// A line of a program, without its break.
pub(super) struct Line {
    stream: &'static str,
    text: String,
}

/// The last line of stdout that is JSON.
pub(super) type LastJson = Arc<Mutex<Option<Box<RawValue>>>>;

pub(super) fn channel() -> (mpsc::Sender<Line>, mpsc::Receiver<Line>) {
    mpsc::channel(LINES_WAITING_MAX)
}

/// Reads lines until the pipe ends. `last` keeps the last one that is JSON.
pub(super) async fn read_lines(
    pipe: impl AsyncRead + Unpin,
    stream: &'static str,
    lines: mpsc::Sender<Line>,
    last: Option<LastJson>,
) {
    let mut pipe = BufReader::new(pipe);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = (&mut pipe)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
            .await;
        if !read.is_ok_and(|count| count > 0) {
            return;
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(last) = &last
            && let Ok(value) = serde_json::from_str(&text)
        {
            *last.lock().await = Some(value);
        }
        if lines.send(Line { stream, text }).await.is_err() {
            return;
        }
    }
}

/// Appends lines as they come until no more can come. Answers with the number of the next event; none if the lease is lost.
pub(super) async fn write(lease: Lease, mut lines: mpsc::Receiver<Line>, first_seq: u64) -> Option<u64> {
    let mut seq = first_seq;
    let mut batch = Vec::new();
    // Lines that come while an append is under way go together in the next one.
    while lines.recv_many(&mut batch, BATCH_LINES_MAX).await > 0 {
        for events in bodies(&batch) {
            let (client, run, epoch) = (lease.client(), lease.run(), lease.epoch());
            let appended = lease.insist(|| client.append_events(run, epoch, seq, events.clone()));
            appended.await?;
            seq += 1;
        }
        batch.clear();
    }
    Some(seq)
}

/// The events of lines, as bodies that every server takes.
fn bodies(lines: &[Line]) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    let mut body = String::new();
    for line in lines {
        let event = json!({ "type": "log", "stream": line.stream, "line": line.text }).to_string();
        if !body.is_empty() && body.len() + event.len() > BATCH_BYTES_MAX {
            bodies.push(Bytes::from(std::mem::take(&mut body) + "]"));
        }
        body.push(if body.is_empty() { '[' } else { ',' });
        body.push_str(&event);
    }
    bodies.push(Bytes::from(body + "]"));
    bodies
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    async fn lines_of(text: &[u8]) -> (Vec<String>, Option<String>) {
        let (sender, mut receiver) = channel();
        let last = LastJson::default();
        read_lines(text, "stdout", sender, Some(Arc::clone(&last))).await;
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(line.text);
        }
        let last = last.lock().await.take();
        (lines, last.map(|json| json.get().to_owned()))
    }

    #[tokio::test]
    async fn lines_lose_their_breaks_and_what_is_no_utf8_and_the_last_json_is_kept() {
        let (lines, last) = lines_of(b"one\n\n{\"a\": 1}\n[2]\ntwo \xff\nlast").await;
        assert_eq!(lines, ["one", "", "{\"a\": 1}", "[2]", "two \u{fffd}", "last"]);
        assert_eq!(last.as_deref(), Some("[2]"));
        assert_eq!(lines_of(b"").await, (Vec::new(), None));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_becomes_several() {
        let long = vec![b'x'; (2 * LINE_BYTES_MAX + 1) as usize];
        let (lines, _) = lines_of(&long).await;
        let lengths: Vec<_> = lines.iter().map(|line| line.len() as u64).collect();
        assert_eq!(lengths, [LINE_BYTES_MAX, LINE_BYTES_MAX, 1]);
    }

    #[test]
    fn bodies_are_arrays_of_events_and_not_too_long() {
        let line = |text: String| Line {
            stream: "stderr",
            text,
        };
        let few = bodies(&[line("a\"".into()), line("b".into())]);
        let few: Vec<Value> = few
            .iter()
            .map(|body| serde_json::from_slice(body).expect("JSON"))
            .collect();
        let event = |text| json!({ "type": "log", "stream": "stderr", "line": text });
        assert_eq!(few, [json!([event("a\""), event("b")])]);
        let long: Vec<_> = (0..6).map(|_| line("x".repeat(60 << 10))).collect();
        let many = bodies(&long);
        assert_eq!(many.len(), 2);
        let count = |body: &Bytes| serde_json::from_slice::<Vec<Value>>(body).expect("JSON").len();
        assert_eq!(many.iter().map(count).sum::<usize>(), 6);
    }
}
