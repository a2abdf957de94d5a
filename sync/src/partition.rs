//! Parts of all streams that instances of the mirror share among themselves. Knows no instance and no lease.

use std::fmt;

/// How many parts there are. It is kept in the tables, and all mirrors of one database must agree on it: under another
/// number a stream would be in another part, and two might work on it.
pub const PARTITIONS: u16 = 64;

/// One part of all streams. Which one a stream is in depends on its name alone, and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(u16);

impl Partition {
    /// The part that a stream is in: the CRC-32 (ISO-HDLC) of its name, modulo [`PARTITIONS`]. Leases in the tables
    /// depend on it.
    #[must_use]
    pub fn of(stream: &str) -> Self {
        let number = crc32fast::hash(stream.as_bytes()) % u32::from(PARTITIONS);
        Self(u16::try_from(number).expect("it is below PARTITIONS"))
    }

    /// The part with that number; none if there is no such.
    #[must_use]
    pub fn numbered(number: i32) -> Option<Self> {
        let number = u16::try_from(number).ok()?;
        (number < PARTITIONS).then_some(Self(number))
    }

    /// Its number, from 0 on.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Numbers that another implementation of CRC-32 has given. If they change, mirrors of two versions share wrongly.
    #[test]
    fn the_partition_of_a_name_is_the_same_in_every_version() {
        for (name, number) in [("", 0), ("runs/42", 58), ("jobs/emails", 56), ("é", 62)] {
            assert_eq!(Partition::of(name).number(), number, "{name}");
        }
    }

    #[test]
    fn names_that_count_up_are_spread_over_all_partitions() {
        let mut streams: HashMap<Partition, usize> = HashMap::new();
        for number in 0..6_400 {
            *streams
                .entry(Partition::of(&format!("runs/{number}")))
                .or_default() += 1;
        }
        assert_eq!(streams.len(), usize::from(PARTITIONS));
        assert!(
            streams.values().all(|count| (50..200).contains(count)),
            "{streams:?}"
        );
    }

    #[test]
    fn a_number_of_no_partition_is_refused() {
        assert_eq!(Partition::numbered(-1), None);
        assert_eq!(Partition::numbered(i32::from(PARTITIONS)), None);
        assert_eq!(Partition::all().last(), Partition::numbered(63));
    }
}
