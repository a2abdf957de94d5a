//! What is said, and done, once it is known what became of the records of a turn.

use std::sync::Arc;

use tailwater_stream::queue::Leased;

use super::Queues;
use super::error::QueueError;
use super::opened::{Answer, Handover, Opened, Turn};
use super::record::RecordError;
use super::turns::PAUSE_MS;
use crate::backend::BackendError;
use crate::engine::{EngineError, Settled, Settling};

type Done = Box<dyn FnOnce(&mut Turn, Result<(), QueueError>) + Send>;

/// What is said once records are durable.
#[derive(Default)]
pub(super) struct Pending {
    records: Vec<(Option<Settling>, Done)>,
    pub(super) claims: Vec<(usize, Answer<Handover>, Vec<Leased>)>,
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
        self.records.push((settling, Box::new(done)));
    }

    pub(super) fn push_silent(&mut self, settling: Settling) {
        self.push_done(Some(settling), |_, _| {});
    }

    /// Has jobs be given to a worker once the record that leases them is durable.
    pub(super) fn push_claim(&mut self, settling: Settling, answer: Answer<Handover>, leased: Vec<Leased>) {
        self.claims.push((self.records.len(), answer, leased));
        self.push_silent(settling);
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
    /// Waits until all records are durable, and answers everybody.
    ///
    /// # Errors
    /// Why the first one is not that is not. Whoever waits for its answer was told.
    pub(super) async fn answer(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        pending: Pending,
    ) -> Result<(), QueueError> {
        let Pending { records, claims } = pending;
        let mut claims = claims.into_iter().peekable();
        let mut failure: Option<QueueError> = None;
        for (number, (settling, done)) in records.into_iter().enumerate() {
            let settled = match settling {
                Some(settling) => outcome(settling.settled().await),
                None => Ok(()),
            };
            if let Err(error) = &settled {
                turn.is_stale = true;
                failure.get_or_insert_with(|| error.clone());
            }
            // What was decided after something that is not there was decided on what is not there.
            let settled = failure.as_ref().map_or(Ok(()), |error| Err(error.clone()));
            if let Some((_, answer, leased)) = claims.next_if(|(of, ..)| *of == number) {
                // Whoever asked may have gone away.
                let _ = answer.send(settled.map(|()| Handover::new(opened, leased)));
            } else {
                done(turn, settled);
            }
        }
        if failure.is_some() {
            turn.pause(self.shared.engine.monotonic_ms() + PAUSE_MS);
        }
        failure.map_or(Ok(()), Err)
    }
}
