//! Which shard a stream stands in: a number below 256 that belongs to the stream for good, of which a store with fewer
//! shards takes the lower bits.
//!
//! It is the checksum of the stream's name, or that of a stream that it was placed beside. The id carries it, so that
//! whoever has an id knows the shard without asking.

use tailwater_stream::{StreamId, StreamName};

/// Placements, and so shards at the most.
pub const SHARDS_MAX: u32 = 256;

/// A place among all there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement(pub(super) u8);

impl Placement {
    /// Where streams of this name stand, unless they are placed beside another one.
    pub(super) fn of_name(name: &StreamName) -> Self {
        Self::of_name_bytes(name.as_str().as_bytes())
    }

    /// Likewise, for whoever has no more than the bytes of a name.
    pub(super) fn of_name_bytes(name: &[u8]) -> Self {
        let [placement, ..] = crc32fast::hash(name).to_le_bytes();
        Self(placement)
    }

    pub(super) fn of_id(id: StreamId) -> Self {
        let [placement, ..] = id.get().to_le_bytes();
        Self(placement)
    }

    /// The shard, of so many. Their number is a power of two.
    pub(super) fn shard(self, count: usize) -> usize {
        usize::from(self.0) & (count - 1)
    }

    /// The least id, `at_least` or above, that carries this.
    pub(super) fn next_id(self, at_least: u64) -> u64 {
        let [placement, ..] = at_least.to_le_bytes();
        at_least + u64::from(self.0.wrapping_sub(placement))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_carries_its_placement_and_is_the_least_that_does(placement: u8, at_least in 1u64..1 << 50) {
            let placement = Placement(placement);
            let id = placement.next_id(at_least);
            prop_assert!((at_least..at_least + 256).contains(&id));
            prop_assert_eq!(Placement::of_id(StreamId::new(id).expect("an id")), placement);
        }

        /// A store with more shards parts those of one with fewer, and mixes none.
        #[test]
        fn the_shard_of_a_smaller_number_follows_from_that_of_a_greater(placement: u8, bits in 0u32..8) {
            let (count, more) = (1usize << bits, 2usize << bits);
            let placement = Placement(placement);
            prop_assert_eq!(placement.shard(more) % count, placement.shard(count));
        }
    }
}
