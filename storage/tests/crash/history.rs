//! What is done to a store in a test, until a crash ends it.

use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::BackendError;

use crate::support::faulty_disk::FaultyDisk;

/// How a life of a store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// The process is killed, and the machine goes on.
    Process,
    /// The power is gone.
    Machine,
}

impl Crash {
    pub(super) fn some(rng: &mut Rng) -> Self {
        if rng.bool() { Self::Process } else { Self::Machine }
    }

    /// The disk as it is afterwards.
    pub(super) fn of(self, disk: &FaultyDisk) -> Arc<FaultyDisk> {
        match self {
            Self::Process => disk.crash_process(),
            Self::Machine => disk.crash_machine(),
        }
    }
}

/// What was done, printed when the test fails.
#[derive(Clone)]
pub(super) struct History {
    seed: u64,
    steps: Vec<String>,
}

impl History {
    pub(super) fn new(seed: u64, options: &dyn std::fmt::Debug) -> Self {
        Self {
            seed,
            steps: vec![format!("{options:?}")],
        }
    }

    pub(super) fn note(&mut self, step: impl Into<String>, disk: &FaultyDisk) {
        let step = format!("{} [{}]", step.into(), disk.operations());
        self.steps.push(step);
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}:\n{}", self.seed, self.steps.join("\n"));
        }
    }
}

pub(super) fn is_full(error: &BackendError) -> bool {
    matches!(error, BackendError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
}
