//! Which streams are this instance's to work on, as those who do the work see it. Takes no lease and gives none up;
//! between the keeper, who does, and the loop it passes on what changes.

use std::collections::BTreeSet;

use tokio::sync::watch;
use tokio::time::Instant;

use super::keeper::{Finished, Holdings};
use crate::partition::Partition;
use crate::postgres::{Fence, Leases};

/// The partitions that an instance works on.
pub(super) struct Territory {
    news: watch::Receiver<Holdings>,
    /// As it was told last.
    now: Holdings,
    active: Leases,
    /// For those who find streams.
    wanted: watch::Sender<Leases>,
    /// For those who give partitions up.
    finished: watch::Sender<Finished>,
}

impl Territory {
    pub(super) fn new(mut news: watch::Receiver<Holdings>) -> Self {
        let now = news.borrow_and_update().clone();
        let active = now.active();
        Self {
            news,
            wanted: watch::Sender::new(active.clone()),
            finished: watch::Sender::new(Finished::default()),
            now,
            active,
        }
    }

    /// What streams are to be told of: all of those in a partition whose lease is another one than before.
    pub(super) fn wanted(&self) -> watch::Receiver<Leases> {
        self.wanted.subscribe()
    }

    /// What may be given up.
    pub(super) fn finished(&self) -> watch::Receiver<Finished> {
        self.finished.subscribe()
    }

    /// Waits until something has changed.
    pub(super) async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            // Nobody takes leases any more, and with that task the mirror ends.
            std::future::pending::<()>().await;
        }
    }

    /// Takes over what has changed, and tells the partitions that are no more to be worked on. One that was lost and
    /// taken anew meanwhile is among them: others may have worked on it.
    pub(super) fn update(&mut self) -> BTreeSet<Partition> {
        self.now = self.news.borrow_and_update().clone();
        let active = self.now.active();
        let lost = self
            .active
            .iter()
            .filter(|(partition, epoch)| active.get(partition) != Some(epoch));
        let lost = lost.map(|(partition, _)| *partition).collect();
        self.active = active;
        self.wanted.send_replace(self.active.clone());
        lost
    }

    /// Whether a stream is to be worked on.
    pub(super) fn has(&self, stream: &str) -> bool {
        self.active.contains_key(&Partition::of(stream))
    }

    /// By what is written.
    pub(super) fn fence(&self) -> &Fence {
        &self.now.fence
    }

    /// Until when everything is known to be held.
    pub(super) fn until(&self) -> Instant {
        self.news.borrow().until
    }

    /// Tells what of those partitions that are to be given up nothing is on its way of: all but the `busy` ones.
    pub(super) fn finish(&self, busy: &BTreeSet<Partition>) {
        let finished = Finished {
            version: self.now.version,
            partitions: &self.now.leaving - busy,
        };
        self.finished.send_if_modified(|told| {
            let is_news = *told != finished;
            *told = finished;
            is_news
        });
    }
}
