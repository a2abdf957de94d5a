//! Forgets the beginning of a stream.

use tailwater_stream::command::TrimDecision;
use tailwater_stream::{OffsetToken, Record, StreamId, StreamName, Transition, TrimRefusal};

use super::sequencer::{Decision, Standing};
use super::{Engine, EngineError, OpenError, ReadFailure};

/// A trimmed stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    /// The oldest place that can be read from now.
    pub oldest: OffsetToken,
    /// The tail.
    pub tail: OffsetToken,
}

/// Why a stream is not trimmed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TrimError {
    /// No stream has this name.
    #[error("there is no such stream")]
    NotFound,
    /// The stream was deleted, and forks of it remain.
    #[error("the stream was deleted")]
    Gone,
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] TrimRefusal),
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<OpenError> for TrimError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotFound => Self::NotFound,
            OpenError::Gone => Self::Gone,
            OpenError::Engine(error) => Self::Engine(error),
        }
    }
}

enum Step {
    Done(Result<Trimmed, TrimRefusal>),
    Expired,
    Deleted(StreamId),
    Missing,
}

impl Engine {
    /// Forgets what is before an offset. Reads from there on are refused; forks keep what they inherited.
    /// Answers once it is durable.
    ///
    /// # Errors
    /// [`TrimError`]; nothing is changed then.
    pub async fn trim(&self, name: &StreamName, before: OffsetToken) -> Result<Trimmed, TrimError> {
        let reader = self.reader(name).await?;
        let view = reader.incarnation().view();
        match reader.is_message_end(before.position(), &view).await {
            // What lies before the oldest position, or beyond the tail, is told apart by the rules.
            Ok(true) | Err(ReadFailure::Gone | ReadFailure::Trimmed { .. }) => {}
            Ok(false) => return Err(TrimRefusal::Unknown.into()),
            Err(ReadFailure::Engine(error)) => return Err(error.into()),
        }
        let entry = self.open(name).await?;
        loop {
            let step = self
                .sequence(&entry, |sequencer, now| {
                    let state = match sequencer.standing(now) {
                        Standing::Alive(state) => state,
                        Standing::Missing => return Decision::Answer(Step::Missing),
                        Standing::Deleted(id) => return Decision::Answer(Step::Deleted(id)),
                        Standing::Expired => return Decision::Look(Step::Expired),
                    };
                    let tail = state.tail_token();
                    let trimmed = |oldest| Step::Done(Ok(Trimmed { oldest, tail }));
                    match state.trim(before) {
                        Err(refusal) => Decision::Answer(Step::Done(Err(refusal))),
                        Ok(TrimDecision::AlreadyTrimmed) => {
                            Decision::Answer(trimmed(state.lineage.token(state.oldest)))
                        }
                        Ok(TrimDecision::Trim(before)) => {
                            let record = Record::of(state.id, Transition::Trim { before, at: now });
                            Decision::Commit(record, trimmed(state.lineage.token(before)))
                        }
                    }
                })
                .await?;
            match step {
                Step::Done(trimmed) => {
                    self.clear_leftovers().await;
                    return Ok(trimmed?);
                }
                Step::Expired if self.expire_if_room(&entry).await? => {}
                Step::Expired => return Err(TrimError::NotFound),
                Step::Missing => return Err(TrimError::NotFound),
                Step::Deleted(id) if self.is_held_by_forks(id).await? => return Err(TrimError::Gone),
                Step::Deleted(_) => return Err(TrimError::NotFound),
            }
        }
    }
}
