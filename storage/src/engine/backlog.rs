//! How much waits in the engine and what it holds, for those who look after it. Looks only when it is asked.

use super::committer::Partition;
use super::{Engine, EngineLimits};

/// Records that were accepted and that no commit has taken yet, of all partitions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// How many there are.
    pub records: usize,
    /// Bytes of their payloads.
    pub payload_bytes: usize,
}

impl Engine {
    /// What waits for a commit now.
    pub fn backlog(&self) -> Backlog {
        self.shared
            .partitions
            .iter()
            .map(Partition::backlog)
            .fold(Backlog::default(), |all, of_one| Backlog {
                records: all.records + of_one.records,
                payload_bytes: all.payload_bytes + of_one.payload_bytes,
            })
    }

    /// The limits that are enforced.
    pub fn limits(&self) -> EngineLimits {
        self.shared.limits
    }
}
