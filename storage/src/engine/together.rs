//! Records over several streams of one partition: all of it becomes durable, or nothing. For the server's own work on
//! streams that belong together, such as a queue, its runs and its dead letters. Knows nothing of what they mean.
//!
//! First the streams are held: opened, loaded, and kept open. Then a record is drafted under the locks of all of
//! them and queued, which takes no time; so the order of the calls is the order in the log, and several records may be
//! on their way. What becomes of each is told afterwards.
//!
//! | file | what stands there |
//! |---|---|
//! | `held.rs` | names that are held open |
//! | `draft.rs` | a record in the making |

mod draft;
mod held;

use tokio::sync::oneshot;

pub use draft::{Draft, NameTaken};
pub use held::{Footing, Held};

use super::batch::{Concerned, Several, Waiter};
use super::sequencer::Settled;
use super::{Engine, EngineError};
use draft::Drafted;

/// What there is to wait on after a draft.
#[must_use = "nothing is durable before it is settled"]
#[derive(Debug)]
pub struct Settling(State);

#[derive(Debug)]
enum State {
    Known(Settled),
    Record(oneshot::Receiver<Settled>),
    /// All that was accepted before must be durable; then this is the answer.
    Earlier(Vec<oneshot::Receiver<Settled>>, Settled),
}

impl Settling {
    /// What has become of the draft already; none if it is on its way.
    pub fn known(&self) -> Option<Settled> {
        match &self.0 {
            State::Known(settled) => Some(*settled),
            State::Record(_) | State::Earlier(..) => None,
        }
    }

    /// What became of the draft: of its record, or, if it changes nothing, of what it was decided on.
    pub async fn settled(self) -> Settled {
        match self.0 {
            State::Known(settled) => settled,
            State::Record(record) => record.await.unwrap_or(Settled::Failed),
            State::Earlier(earlier, then) => {
                for accepted in earlier {
                    match accepted.await.unwrap_or(Settled::Failed) {
                        Settled::Durable => {}
                        settled => return settled,
                    }
                }
                then
            }
        }
    }
}

impl Engine {
    /// Drafts a record over several streams, in a turn of all of them, and queues it. If `decide` refuses, or changes
    /// nothing, nothing is queued. Does not wait; [`Settling`] does.
    ///
    /// What was decided on is right only once it is settled as durable: until then it may be taken back together with
    /// what was accepted before. Of a stream that is only looked at, and stands in another partition, no more is sure then
    /// than that it is there, or not, and whether it is closed. What the caller itself remembers it compares with [`Draft::footing`].
    ///
    /// # Errors
    /// What `decide` refuses with, or that the storage has failed.
    ///
    /// # Panics
    /// If a stream is given twice, or streams that are changed stand in different partitions.
    pub fn together<T, E: From<EngineError>>(
        &self,
        streams: &[Held],
        decide: impl FnOnce(&mut Draft<'_>) -> Result<T, E>,
    ) -> Result<(T, Settling), E> {
        let mut draft = Draft::lock(self, streams);
        let answer = decide(&mut draft)?;
        let settling = self.queue(draft.into_streams())?;
        Ok((answer, settling))
    }

    /// Commits what is drafted: at once, or through the committer.
    fn queue(&self, mut streams: Vec<Drafted<'_>>) -> Result<Settling, EngineError> {
        let backend = self.shared.backend.as_ref();
        let Some(partition) = streams.iter().find_map(|stream| stream.changes_in(backend)) else {
            return wait_for(streams.iter_mut(), Settled::Durable);
        };
        let unsure = streams
            .iter_mut()
            .filter_map(|stream| stream.rest_on(backend, partition).then_some(stream));
        let mut unsure = unsure.peekable();
        if unsure.peek().is_some() {
            return wait_for(unsure, Settled::DecideAgain);
        }
        drop(unsure);
        let record = draft::gather(&mut streams);
        assert!(
            record.streams().all(|id| backend.partition_of(id) == partition),
            "a record stays within one partition"
        );
        if self.shared.nature.commits_inline {
            return self.commit_together_inline(&mut streams, &record);
        }
        streams.retain(|stream| !stream.share.is_empty());
        let (answer, settled) = oneshot::channel();
        for stream in &mut streams {
            let parts = &record.parts[stream.share.clone()];
            self.shared
                .accept(&stream.held.entry, &mut stream.sequencer, parts);
        }
        let several = Several {
            shares: streams
                .iter()
                .map(|stream| (stream.decided(), stream.share.clone()))
                .collect(),
            _pins: streams.iter().filter_map(|stream| stream.pin.clone()).collect(),
        };
        let waiter = Waiter {
            concerned: Concerned::Several(Box::new(several)),
            answer,
            pin: None,
            #[cfg(feature = "watched-commits")]
            cause: self.shared.stats.watcher.cause(),
        };
        if let Err(error) = self.shared.partitions[partition].push(record, waiter) {
            streams.iter_mut().for_each(|stream| stream.sequencer.fail());
            return Err(error.into());
        }
        // The committer cannot settle it before the turn of these streams is over.
        for stream in &mut streams {
            stream.sequencer.count_queued();
        }
        Ok(Settling(State::Record(settled)))
    }

    fn commit_together_inline(
        &self,
        streams: &mut [Drafted<'_>],
        record: &tailwater_stream::Record,
    ) -> Result<Settling, EngineError> {
        match self.put_inline(record) {
            Ok(()) => {}
            Err(EngineError::Full) => return Ok(Settling(State::Known(Settled::Full))),
            Err(error) => return Err(error),
        }
        for stream in streams {
            let parts = &record.parts[stream.share.clone()];
            self.shared
                .accept(&stream.held.entry, &mut stream.sequencer, parts);
            self.shared.show(&mut stream.sequencer, parts);
        }
        Ok(Settling(State::Known(Settled::Durable)))
    }
}

/// Waits until all that was accepted of the streams is durable.
fn wait_for<'a, 's: 'a>(
    streams: impl Iterator<Item = &'a mut Drafted<'s>>,
    then: Settled,
) -> Result<Settling, EngineError> {
    let mut earlier = Vec::new();
    for stream in streams {
        earlier.extend(stream.sequencer.wait_until_settled()?);
    }
    Ok(Settling(State::Earlier(earlier, then)))
}
