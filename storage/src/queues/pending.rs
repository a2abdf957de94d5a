//! What is said, and done, once it is known what became of the records of a turn.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use tailwater_stream::queue::Leased;

use super::Queues;
use super::beside::Beside;
use super::error::QueueError;
use super::opened::{Answer, Handover, Opened, Turn};
use super::record::RecordError;
use super::turns::PAUSE_MS;
use crate::backend::BackendError;
use crate::engine::{EngineError, Settled, Settling};

type Done = Box<dyn FnOnce(&mut Turn, Result<(), QueueError>) + Send>;

/// What is said once records are durable, in their order.
#[derive(Default)]
pub(super) struct Pending {
    records: VecDeque<(Option<Settling>, Done)>,
}

impl Pending {
    /// Has something be said once a record, and all before it, are durable.
    pub(super) fn push<T: Send + 'static>(
        &mut self,
        settling: Option<Settling>,
        answer: Answer<T>,
        said: Result<T, QueueError>,
    ) {
        self.push_done(settling, move |_, settled| {
            // Whoever asked may have gone away.
            let _ = answer.send(settled.and(said));
        });
    }

    /// Has something be done once it is known what became of a record, and of all before it.
    pub(super) fn push_done(
        &mut self,
        settling: Option<Settling>,
        done: impl FnOnce(&mut Turn, Result<(), QueueError>) + Send + 'static,
    ) {
        self.records.push_back((settling, Box::new(done)));
    }

    pub(super) fn push_silent(&mut self, settling: Settling) {
        self.push_done(Some(settling), |_, _| {});
    }

    /// Has jobs be given to a worker once the record that leases them is durable.
    pub(super) fn push_claim(
        &mut self,
        settling: Settling,
        opened: &Arc<Opened>,
        answer: Answer<Handover>,
        leased: Vec<Leased>,
    ) {
        let opened = Arc::clone(opened);
        self.push_done(Some(settling), move |_, settled| {
            // Whoever asked may have gone away.
            let _ = answer.send(settled.map(|()| Handover::new(&opened, leased)));
        });
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

pub(super) fn outcome(settled: Settled) -> Result<(), QueueError> {
    match settled {
        Settled::Durable => Ok(()),
        // What was taken back with something that found no space had none either.
        Settled::Full | Settled::DecideAgain => Err(EngineError::Full.into()),
        Settled::Failed => Err(BackendError::Poisoned.into()),
    }
}

impl From<RecordError> for QueueError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Refused(refused) => refused,
            RecordError::Adrift { run, .. } => QueueError::Adrift { run },
            // What was decided on was taken back because something before it found no space.
            RecordError::Stale | RecordError::NameTaken => EngineError::Full.into(),
        }
    }
}

impl Queues {
    /// Waits until all records are durable, and answers everybody. `beside` says what is decided meanwhile.
    ///
    /// # Errors
    /// Why the first one that is not durable is not, or why no more can be decided. Whoever waits for its answer was told.
    pub(super) async fn answer(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        mut pending: Pending,
        mut beside: Beside<'_>,
    ) -> Result<(), QueueError> {
        let mut failure: Option<QueueError> = None;
        while let Some((settling, done)) = pending.records.pop_front() {
            if failure.is_some() {
                beside.end();
            }
            let was_stored = settling.is_some();
            let settled = match settling {
                Some(settling) => {
                    let settled = pin!(settling.settled());
                    outcome(
                        self.decide_beside(opened, turn, &mut pending, &mut beside, settled)
                            .await,
                    )
                }
                None => Ok(()),
            };
            match &settled {
                Ok(()) => turn.finds_space |= was_stored,
                Err(error) => {
                    turn.is_stale = true;
                    failure.get_or_insert_with(|| error.clone());
                }
            }
            // What was decided after something that is not there was decided on what is not there.
            let settled = failure.as_ref().map_or(Ok(()), |error| Err(error.clone()));
            done(turn, settled);
        }
        let trouble = beside.trouble();
        // Otherwise it waits already.
        if failure.is_some() && trouble.is_none() {
            turn.pause(self.shared.engine.monotonic_ms() + PAUSE_MS);
        }
        failure.or(trouble).map_or(Ok(()), Err)
    }
}
