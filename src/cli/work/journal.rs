//! Lines that a program writes become events of its run, many in one append.

use bytes::Bytes;
use serde_json::json;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::mpsc;

use super::AbortOnDrop;
use super::lease::Lease;
use super::lines::{LastJson, Line, ProgramEnd, read_lines};
use super::program::Program;

/// Lines that wait to be appended. Beyond that the program has to wait.
const LINES_WAITING_MAX: usize = 1_024;
/// Events of one append, and about the most bytes in them.
const BATCH_LINES_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 << 10;

/// The way from a program to its run. It ends with this.
pub(super) struct Journal {
    stdout: AbortOnDrop<LastJson>,
    stderr: AbortOnDrop<LastJson>,
    writer: AbortOnDrop<Option<u64>>,
    end: ProgramEnd,
}

impl Journal {
    /// Appends from the event of that number on. Keeps the last line of stdout that is JSON, if that is wanted.
    pub(super) fn start(
        (stdout, stderr): (ChildStdout, ChildStderr),
        lease: Lease,
        first_seq: u64,
        wants_result: bool,
    ) -> Self {
        let (lines, receiver) = mpsc::channel(LINES_WAITING_MAX);
        let end = ProgramEnd::new();
        let of_stdout = read_lines(stdout, "stdout", lines.clone(), wants_result, end.clone());
        let of_stderr = read_lines(stderr, "stderr", lines, false, end.clone());
        Self {
            stdout: AbortOnDrop(tokio::spawn(of_stdout)),
            stderr: AbortOnDrop(tokio::spawn(of_stderr)),
            writer: AbortOnDrop(tokio::spawn(write(lease, receiver, first_seq))),
            end,
        }
    }

    /// Waits until all is in the run that the program has written, which has ended. What it has started may go on for a
    /// moment. Answers with the number of the next event and the result; none if the lease is lost.
    pub(super) async fn end(mut self, program: Program) -> Option<(u64, LastJson)> {
        let given_up_at = self.end.is_now();
        let read = async {
            let last = (&mut self.stdout.0).await;
            let _ = (&mut self.stderr.0).await;
            last.expect("nothing ends it before")
        };
        let mut read = std::pin::pin!(read);
        let last = if let Ok(last) = tokio::time::timeout_at(given_up_at, &mut read).await {
            last
        } else {
            drop(program);
            read.await
        };
        let next_seq = (&mut self.writer.0).await;
        Some((next_seq.expect("the journal does not panic")?, last))
    }
}

/// Appends lines as they come until no more can come, or until the server takes no more of them: the program can go on without
/// its log. Answers with the number of the next event; none if the lease is lost.
async fn write(lease: Lease, mut lines: mpsc::Receiver<Line>, first_seq: u64) -> Option<u64> {
    let mut seq = first_seq;
    let mut batch = Vec::new();
    let mut is_over = false;
    // Lines that come while an append is under way go together in the next one.
    while lines.recv_many(&mut batch, BATCH_LINES_MAX).await > 0 {
        let bodies = if is_over { Vec::new() } else { bodies(&batch) };
        for events in bodies {
            let (client, run, epoch) = (lease.client(), lease.run(), lease.epoch());
            let appended = lease.insist(|| client.append_events(run, epoch, seq, events.clone()));
            if let Err(refusal) = appended.await? {
                eprintln!("the log of `{run}` ends here, and its program goes on: {refusal}");
                is_over = true;
                break;
            }
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
