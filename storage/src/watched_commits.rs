//! Commits as they are told of to whoever traces them, in builds with the feature `watched-commits`. Knows no trace: what
//! asked for a record is named in the watcher's own words.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

/// What asked for a record: a trace, and a span in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cause {
    /// The identifier of the trace.
    pub trace: [u8; 16],
    /// The identifier of the span.
    pub span: [u8; 8],
}

/// A commit that has ended, whatever came of it.
#[derive(Debug, Clone)]
pub struct Commit {
    /// How many records it made durable.
    pub records: usize,
    /// How long it took.
    pub took: Duration,
    /// What asked for them, in the order of the records. Those of which nobody is to be told are left out.
    pub causes: Vec<Cause>,
}

/// Is told of each commit.
pub trait WatchCommits: Send + Sync {
    /// What the calling thread is at work for, which is about to queue a record; none if that is not to be told of. Called
    /// while the record's stream is locked, so it must be quick.
    fn cause(&self) -> Option<Cause>;

    /// A commit has ended. Called on the thread that commits.
    fn committed(&self, commit: Commit);
}

/// Whoever watches; nobody at first.
#[derive(Default)]
pub(crate) struct Watcher(OnceLock<Box<dyn WatchCommits>>);

impl Watcher {
    /// The first one stays.
    pub(crate) fn set(&self, watcher: impl WatchCommits + 'static) {
        if self.0.set(Box::new(watcher)).is_err() {
            tracing::warn!("commits are told of to somebody else already");
        }
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.0.get()?.cause()
    }

    /// Tells of a commit, whose causes are gathered only if somebody is told.
    pub(crate) fn tell(&self, records: usize, took: Duration, causes: impl FnOnce() -> Vec<Cause>) {
        if let Some(watcher) = self.0.get() {
            watcher.committed(Commit {
                records,
                took,
                causes: causes(),
            });
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watcher").field(&self.0.get().is_some()).finish()
    }
}
