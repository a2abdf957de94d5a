//! A stream of an export that is here already as far as its state says: whether it is the same in what it keeps beside its
//! messages as well, such as a queue's jobs or a subscription's cursors, its control keys tell, which come one by one.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::StreamState;

use super::staged::Staged;
use super::{ImportError, Importer};
use crate::engine::export::{Controls, ExportedStream};
use crate::engine::pins::StoragePin;
use crate::engine::sequencer::Entry;

/// A stream of an export, and the one here.
pub(super) struct Compared {
    /// The name of both, pinned.
    named: Arc<Entry>,
    pub(super) exported: ExportedStream,
    pub(super) here: StreamState,
    /// Those of the stream here, in order.
    controls: Controls,
    /// How many of them came, from the first one on.
    same: usize,
    /// Holds the stream here if it is deleted. Otherwise nobody who deletes it shall be told of forks meanwhile.
    pub(super) pin: Option<StoragePin>,
}

impl Compared {
    pub(super) fn new(
        named: &Arc<Entry>,
        exported: ExportedStream,
        here: StreamState,
        controls: Controls,
        pin: StoragePin,
    ) -> Self {
        Self {
            named: Arc::clone(named),
            exported,
            controls,
            same: 0,
            pin: Some(pin).filter(|_| here.deleted),
            here,
        }
    }

    /// Whether the control key that comes next is the next one here, too. Exports have them in order.
    pub(super) fn has_next(&mut self, key: &Bytes, value: &Bytes) -> bool {
        let is_next = self
            .controls
            .get(self.same)
            .is_some_and(|(next, is)| (next, is) == (key, value));
        self.same += usize::from(is_next);
        is_next
    }

    /// Whether there are control keys here that did not come.
    pub(super) fn has_more(&self) -> bool {
        self.same < self.controls.len()
    }

    /// It is another one: stages what came of it so far.
    pub(super) async fn differs(self, importer: &Importer) -> Result<Staged, ImportError> {
        let mut staged = importer
            .stage(&self.named, self.exported, Some(self.here.id))
            .await?;
        for (key, value) in self.controls.into_iter().take(self.same) {
            staged.control(key, value);
            staged.write_if_much().await?;
        }
        Ok(staged)
    }
}
