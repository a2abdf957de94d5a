//! Messages of a queue's stream that nobody has looked at yet. Whoever sends a job again that stands among them, because there
//! was no space for its run, waits for that message, and no other one is appended.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tailwater_stream::{Position, StreamName};

use super::Queues;
use super::admit::{MESSAGE_BYTES_MAX, Read};
use super::error::QueueError;
use super::opened::{Enqueuer, Expecting, Turn};

/// So many pages of messages are looked through. A job that is sent again and stands behind them is appended once more, and
/// known to be the same when it is looked at.
const PAGES_MAX: usize = 16;

impl Queues {
    /// Lets those wait whose jobs stand in the stream already. The others are answered back.
    pub(super) async fn without_those_in_backlog(
        &self,
        turn: &mut Turn,
        asked: Vec<Enqueuer>,
    ) -> Result<Vec<Enqueuer>, (QueueError, Vec<Enqueuer>)> {
        let (mut named, mut others) = (BTreeMap::new(), Vec::new());
        for asked in asked {
            let id = asked.envelope.id.as_deref();
            match id.map(|id| turn.queue.config().run_of_id(id, self.names())) {
                Some(Ok(run)) => drop(named.insert(run, asked)),
                Some(Err(_)) | None => others.push(asked),
            }
        }
        let mut from = turn.queue.state().admitted;
        for _ in 0..PAGES_MAX {
            if named.is_empty() {
                break;
            }
            let read = match self
                .read_messages(turn, from, Position::LAST, MESSAGE_BYTES_MAX)
                .await
            {
                Ok(read) => read,
                Err(error) => {
                    others.extend(named.into_values());
                    return Err((error, others));
                }
            };
            let Some(end) = read.last().map(Read::frontier) else {
                break;
            };
            for message in read {
                let asks = self.asks(turn, &message.text(), message.start);
                let Ok(candidate) = asks else { continue };
                if candidate.envelope.id.is_none() {
                    continue;
                }
                if let Some(asked) = named.remove(&candidate.run) {
                    let is_same = candidate.envelope.payload == asked.envelope.payload;
                    wait_for(turn, asked, message.start, candidate.run, is_same);
                }
            }
            from = end;
        }
        others.extend(named.into_values());
        Ok(others)
    }
}

/// Whoever asked waits until the message is looked at, unless somebody waits for it already.
fn wait_for(turn: &mut Turn, asked: Enqueuer, job: Position, run: StreamName, is_same: bool) {
    let answer = asked.answer;
    // Whoever asked may have gone away.
    if !is_same {
        let _ = answer.send(Err(QueueError::Conflict { run }));
        return;
    }
    match turn.expected.entry(job) {
        Entry::Occupied(_) => drop(answer.send(Err(QueueError::Undecided { job, run }))),
        Entry::Vacant(free) => {
            free.insert(Expecting { run, answer });
        }
    }
}
