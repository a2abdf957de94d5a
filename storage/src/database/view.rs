//! A snapshot of a database.

use std::sync::{Arc, OnceLock};

use redb::ReadTransaction;

use super::opened::{Shared, Snapshot};
use super::row::Failure;
use crate::backend::BackendError;

/// What a database says at one point in time. What is changed later takes space of its own as long as a view lives.
pub(crate) struct View {
    shared: Arc<Shared>,
    snapshot: Snapshot,
    /// Shows the same after the database that `snapshot` reads from has failed for want of space.
    renewed: OnceLock<Snapshot>,
}

impl View {
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, BackendError> {
        Ok(Self {
            snapshot: shared.snapshot()?,
            shared: Arc::clone(shared),
            renewed: OnceLock::new(),
        })
    }

    /// What `question` answers, which may be asked twice.
    ///
    /// # Errors
    /// As the medium says, or if a row cannot be read.
    pub(crate) fn ask<T>(
        &self,
        question: impl Fn(&ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, BackendError> {
        let ask = |snapshot: &Snapshot| {
            let question = || question(&snapshot.transaction);
            snapshot.opened.ask(question)
        };
        if let Some(renewed) = self.renewed.get() {
            return ask(renewed);
        }
        ask(&self.snapshot).or_else(|error| {
            let renewed = self.shared.same_snapshot(&self.snapshot).ok_or(error)?;
            ask(self.renewed.get_or_init(|| renewed))
        })
    }
}
