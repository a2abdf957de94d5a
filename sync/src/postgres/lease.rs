//! Who may write what: instances of the mirror, and the leases that they hold on parts of all streams. Knows no SQL.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::time::Duration;

use crate::partition::Partition;

/// Names one run of the mirror among all that there are and were. It is drawn, so that nobody has to be asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(i64);

/// How often a partition has changed hands. It names one lease among all that there were on a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(i64);

/// As what an instance is known to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// What people call it.
    pub name: String,
    /// Which streams it was told to mirror. It shares them with those who were told the same.
    pub streams: String,
    /// How long it lives in the tables without a renewal.
    pub lease_ms: u64,
}

/// The leases that an instance holds, as far as it knows.
pub type Leases = BTreeMap<Partition, Epoch>;

/// What a writing transaction has to find unchanged: without it nothing is written, however long its writer was away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Who writes.
    pub instance: InstanceId,
    /// By which leases.
    pub leases: Leases,
}

/// An instance that is there, or was a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Which one.
    pub id: InstanceId,
    /// What people call it.
    pub name: String,
    /// What is left of its time, by PostgreSQL's clock; none if it has run out.
    pub time_left: Duration,
}

/// Who holds what at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sharing {
    /// In the order of their ids.
    pub instances: Vec<Instance>,
    /// Of each partition, how often it has changed hands, and who has it.
    pub holders: BTreeMap<Partition, (Epoch, Option<InstanceId>)>,
}

/// Which of the streams of a transaction it may write.
#[derive(Debug)]
pub(super) enum Held {
    /// There is no fence.
    All,
    /// Those in these partitions, and their leases are locked until the transaction ends.
    Of(HashSet<Partition>),
}

impl InstanceId {
    /// One that nobody has had.
    #[must_use]
    pub fn random() -> Self {
        Self(fastrand::i64(1..))
    }

    pub(crate) fn from_number(number: i64) -> Self {
        Self(number)
    }

    pub(super) fn number(self) -> i64 {
        self.0
    }
}

impl Epoch {
    pub(crate) fn from_number(number: i64) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Instance {
    /// Whether its time has not run out.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.time_left > Duration::ZERO
    }
}

impl Sharing {
    /// The leases of one instance.
    #[must_use]
    pub fn leases_of(&self, id: InstanceId) -> Leases {
        let held = self.holders.iter().filter(|(_, (_, holder))| *holder == Some(id));
        held.map(|(partition, (epoch, _))| (*partition, *epoch)).collect()
    }

    /// The partitions that nobody has.
    #[must_use]
    pub fn free(&self) -> BTreeSet<Partition> {
        let free = self.holders.iter().filter(|(_, (_, holder))| holder.is_none());
        free.map(|(partition, _)| *partition).collect()
    }

    /// Whether somebody's time has run out.
    #[must_use]
    pub fn has_dead(&self) -> bool {
        self.instances.iter().any(|instance| !instance.is_alive())
    }
}

impl Held {
    pub(super) fn has(&self, stream: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(partitions) => partitions.contains(&Partition::of(stream)),
        }
    }
}
