//! Which streams have moved that somebody subscribes to. The engine tells of each durable change here, in the stream's
//! turn, so no more is done than to note a name. Knows nothing of subscriptions but the index.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use tailwater_stream::{StreamName, Transition};
use tokio::sync::Notify;

use super::index::Index;
use crate::engine::Incarnation;
use crate::sync::{AtomicU64, Mutex};

/// Whether somebody subscribes to an open stream, and as of which version of the index. An append that nobody subscribes
/// to costs a look at both.
#[derive(Debug, Default)]
pub(crate) struct Interest(AtomicU64);

impl Interest {
    fn is_wanted(&self, index: &Index, name: &StreamName) -> bool {
        let version = index.version();
        // Nobody has ever subscribed to anything.
        if version == 0 {
            return false;
        }
        let known = self.0.load(Ordering::Relaxed);
        if known >> 1 == version {
            return known & 1 == 1;
        }
        let is_wanted = index.is_wanted(name);
        self.0
            .store(version << 1 | u64::from(is_wanted), Ordering::Relaxed);
        is_wanted
    }
}

/// The names of streams that have moved and that nobody has looked at since. There are at most as many as streams.
#[derive(Default)]
pub(crate) struct Moves {
    pub(super) index: Index,
    noted: Mutex<HashSet<StreamName, RandomState>>,
    news: Notify,
}

impl Moves {
    /// A stream has begun, with all that it holds.
    pub(crate) fn begun(&self, incarnation: &Arc<Incarnation>, transition: &Transition) {
        // A new stream is empty until its first append, which may stand in the same record.
        if !matches!(transition, Transition::Import(_)) {
            return;
        }
        // An imported subscription is told of as well.
        if incarnation.name.is_reserved() {
            self.note_name(incarnation.name.clone());
        } else {
            self.note(incarnation);
        }
    }

    /// A stream has changed, as its readers have been shown.
    pub(crate) fn changed(&self, incarnation: &Incarnation, transition: &Transition) {
        match transition {
            Transition::Append(append) if append.payload.is_empty() => {}
            Transition::Append(_) | Transition::Delete { .. } => self.note(incarnation),
            Transition::Create(_)
            | Transition::Stage(_)
            | Transition::Import(_)
            | Transition::Trim { .. }
            | Transition::Touch { .. } => {}
        }
    }

    fn note(&self, incarnation: &Incarnation) {
        if incarnation.interest.is_wanted(&self.index, &incarnation.name) {
            self.note_name(incarnation.name.clone());
        }
    }

    /// Notes a stream as if it had moved.
    pub(super) fn note_name(&self, name: StreamName) {
        let mut noted = self.noted.lock();
        let is_first = noted.is_empty();
        noted.insert(name);
        drop(noted);
        if is_first {
            self.news.notify_one();
        }
    }

    /// Takes all names that are noted.
    pub(super) fn take(&self) -> HashSet<StreamName, RandomState> {
        std::mem::take(&mut *self.noted.lock())
    }

    /// Waits until a name is noted.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}
