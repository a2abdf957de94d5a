//! Deletes a stream.

use tailwater_stream::{DeleteRefusal, OffsetToken, Record, StreamId, StreamName, Transition};

use super::sequencer::{Decision, Standing};
use super::{Engine, EngineError};

/// Why a stream is not deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeleteError {
    /// No stream has this name.
    #[error("there is no such stream")]
    NotFound,
    /// It is deleted already, and forks of it remain.
    #[error("the stream was deleted")]
    Gone,
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] DeleteRefusal),
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

enum Step {
    Done(Result<StreamId, DeleteRefusal>),
    Expired,
    Deleted(StreamId),
    Missing,
}

impl Engine {
    /// Deletes a stream. Its bytes stay as long as forks refer to them, and so does its name. Answers once the
    /// deletion is durable.
    ///
    /// # Errors
    /// [`DeleteError`]; nothing is changed then.
    pub async fn delete(&self, name: &StreamName) -> Result<(), DeleteError> {
        self.delete_if(name, None).await
    }

    /// The same, only if the tail is there that the client expects.
    ///
    /// # Errors
    /// [`DeleteError`]; nothing is changed then.
    pub async fn delete_if(
        &self,
        name: &StreamName,
        if_match: Option<OffsetToken>,
    ) -> Result<(), DeleteError> {
        let entry = self.open(name).await?;
        loop {
            let step = self
                .sequence(&entry, |sequencer, now| match sequencer.standing(now) {
                    Standing::Missing => Decision::Answer(Step::Missing),
                    Standing::Deleted(id) => Decision::Answer(Step::Deleted(id)),
                    Standing::Expired => Decision::Look(Step::Expired),
                    Standing::Alive(state) => match state.delete(if_match) {
                        Err(refusal) => Decision::Answer(Step::Done(Err(refusal))),
                        Ok(()) => {
                            let delete = Transition::Delete { at: now };
                            Decision::Commit(Record::of(state.id, delete), Step::Done(Ok(state.id)))
                        }
                    },
                })
                .await?;
            match step {
                Step::Done(deleted) => {
                    let id = deleted?;
                    self.shared.stats.deletes.add(1);
                    self.forget_deleted(&entry, id).await?;
                    self.shared.registry.unpin_vacant(&entry);
                    return Ok(());
                }
                Step::Expired if self.expire_if_room(&entry).await? => {}
                Step::Expired => return Err(DeleteError::NotFound),
                Step::Missing => {
                    self.shared.registry.unpin_vacant(&entry);
                    return Err(DeleteError::NotFound);
                }
                Step::Deleted(id) if self.is_held_by_forks(id).await? => return Err(DeleteError::Gone),
                Step::Deleted(_) => return Err(DeleteError::NotFound),
            }
        }
    }
}
