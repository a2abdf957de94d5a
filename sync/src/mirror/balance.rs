//! How instances share the partitions: each has as many as the others, or one more, and as few as possible change
//! hands. Does no IO; all instances that see the same decide the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::partition::Partition;
use crate::postgres::{InstanceId, Sharing};

/// What one instance is to do about its share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// How many partitions it should have in the end.
    pub share: usize,
    /// Those that it may take at once: nobody has them, and nobody else takes them.
    pub take: BTreeSet<Partition>,
    /// Those that are others' share: it gives them up once nothing of them is on its way.
    pub give_up: BTreeSet<Partition>,
}

impl Plan {
    /// Whether it has nothing to do.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.take.is_empty() && self.give_up.is_empty()
    }
}

/// What each instance that is alive is to do.
///
/// Who has most keeps most: the shares that are larger by one go to those who have that much already. What those who
/// are dead still hold is nobody's to take before they are buried.
#[must_use]
pub fn plans(sharing: &Sharing) -> BTreeMap<InstanceId, Plan> {
    let mut held: Vec<(InstanceId, Vec<Partition>)> = sharing
        .instances
        .iter()
        .filter(|instance| instance.is_alive())
        .map(|instance| (instance.id, sharing.leases_of(instance.id).into_keys().collect()))
        .collect();
    held.sort_by_key(|(id, partitions)| (std::cmp::Reverse(partitions.len()), *id));
    let mut free = sharing.free().into_iter();
    let (whole, rest) = match held.len() {
        0 => (0, 0),
        instances => (
            sharing.holders.len() / instances,
            sharing.holders.len() % instances,
        ),
    };
    held.into_iter()
        .enumerate()
        .map(|(rank, (id, partitions))| {
            let share = whole + usize::from(rank < rest);
            let lacking = share.saturating_sub(partitions.len());
            let plan = Plan {
                share,
                take: free.by_ref().take(lacking).collect(),
                give_up: partitions.into_iter().skip(share).collect(),
            };
            (id, plan)
        })
        .collect()
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
