//! Chooses which segments are worth merging. Knows them by their numbers only, and reads nothing.

use super::SegmentRow;

/// So many segments of one size class are merged into one of the next.
const CLASS_SEGMENTS: usize = 4;
/// What becomes larger in any case is made of so many.
const GROUP_SEGMENTS_MIN: usize = 2;
/// A segment is rewritten once so many percent of its bytes are dead.
pub(super) const DEAD_PERCENT: u64 = 50;

/// A segment that may be merged.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) row: SegmentRow,
    /// Runs in it, wanted or not.
    pub(super) runs: u64,
    /// Bytes that were live when it came out of a merge, if those were few already: parts of appends that are dead
    /// do not go.
    pub(super) live_at_first: Option<u64>,
}

/// What a group must not exceed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Length of a segment that comes out.
    pub(super) segment_bytes_max: u64,
    /// Runs of all of them: each takes memory while they are merged.
    pub(super) runs_max: u64,
    /// Space that what comes out may take.
    pub(super) room: u64,
}

/// Whether so much of a segment is dead that it is rewritten for that.
pub(super) fn is_sparse(row: &SegmentRow) -> bool {
    is_part(row.live_bytes, row.payload_bytes)
}

fn is_part(live_bytes: u64, of_bytes: u64) -> bool {
    live_bytes.saturating_mul(100) <= of_bytes.saturating_mul(100 - DEAD_PERCENT)
}

/// Which segments to merge: those that are dead, then those of which much is dead, then those of one size of which
/// there are many. What comes out fits the limits.
pub(super) fn choose(candidates: &[Candidate], limits: Limits) -> Option<Vec<SegmentRow>> {
    let dead = candidates.iter().filter(|one| one.row.live_bytes == 0);
    let group: Vec<_> = dead.map(|one| one.row.clone()).collect();
    if !group.is_empty() {
        return Some(group);
    }
    let group = sparse(candidates, limits);
    if !group.is_empty() {
        return Some(group);
    }
    let half = limits.segment_bytes_max / 2;
    (0..=class_of(half)).find_map(|class| of_class(class, candidates, limits))
}

fn sparse(candidates: &[Candidate], limits: Limits) -> Vec<SegmentRow> {
    let wants_rewriting = |one: &&Candidate| {
        let of_bytes = one.live_at_first.unwrap_or(one.row.payload_bytes);
        is_part(one.row.live_bytes, of_bytes)
    };
    let mut sparse: Vec<_> = candidates.iter().filter(wants_rewriting).collect();
    // Those that take the least room first: they make room for the others.
    sparse.sort_by_key(|one| one.row.live_bytes);
    let (mut bytes, mut runs) = (0, 0);
    let fitting = sparse.iter().take_while(|one| {
        let is_first = bytes == 0;
        bytes += one.row.live_bytes;
        runs += one.runs;
        bytes <= limits.room && (is_first || (bytes <= limits.segment_bytes_max && runs <= limits.runs_max))
    });
    fitting.map(|one| one.row.clone()).collect()
}

fn of_class(class: u32, candidates: &[Candidate], limits: Limits) -> Option<Vec<SegmentRow>> {
    let is_of_class =
        |one: &&Candidate| class_of(one.row.bytes) == class && one.row.bytes < limits.segment_bytes_max / 2;
    let mut group: Vec<_> = candidates.iter().filter(is_of_class).collect();
    if group.len() < CLASS_SEGMENTS {
        return None;
    }
    let mut runs = 0;
    let fitting = group.iter().take_while(|one| {
        runs += one.runs;
        runs <= limits.runs_max
    });
    let fitting = fitting.count().max(GROUP_SEGMENTS_MIN);
    group.truncate(fitting);
    let bytes: u64 = group.iter().map(|one| one.row.bytes).sum();
    // What comes out may have to be rewritten in turn.
    let fits = bytes + bytes / 2 <= limits.room;
    fits.then(|| group.iter().map(|one| one.row.clone()).collect())
}

/// Sizes within a factor of four are one class.
fn class_of(bytes: u64) -> u32 {
    bytes.max(1).ilog2() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        segment_bytes_max: 1 << 20,
        runs_max: u64::MAX,
        room: u64::MAX,
    };

    fn segment(number: u64, bytes: u64, live_bytes: u64) -> Candidate {
        Candidate {
            row: SegmentRow {
                number,
                bytes,
                payload_bytes: bytes,
                live_bytes,
            },
            runs: 10,
            live_at_first: None,
        }
    }

    fn chosen(candidates: &[Candidate], limits: Limits) -> Vec<u64> {
        let group = choose(candidates, limits).unwrap_or_default();
        group.iter().map(|row| row.number).collect()
    }

    #[test]
    fn segments_without_live_bytes_go_first() {
        let segments = [
            segment(1, 1000, 1000),
            segment(2, 1000, 0),
            segment(3, 1000, 400),
            segment(4, 9, 0),
        ];
        assert_eq!(chosen(&segments, LIMITS), [2, 4]);
    }

    #[test]
    fn a_segment_that_is_half_dead_is_rewritten() {
        let segments = |live| [segment(1, 1000, 501), segment(2, 1000, live)];
        assert_eq!(chosen(&segments(500), LIMITS), [2]);
        assert_eq!(chosen(&segments(501), LIMITS), [0; 0]);
    }

    /// Half of an append was dead, which goes only as a whole: its segment was rewritten over and over.
    #[test]
    fn what_was_sparse_from_the_first_is_rewritten_once_half_of_that_is_dead() {
        let of = |live_bytes| Candidate {
            live_at_first: Some(400),
            ..segment(1, 1000, live_bytes)
        };
        assert_eq!(chosen(&[of(400)], LIMITS), [0; 0]);
        assert_eq!(chosen(&[of(201)], LIMITS), [0; 0]);
        assert_eq!(chosen(&[of(200)], LIMITS), [1]);
    }

    #[test]
    fn what_is_rewritten_at_once_is_bounded() {
        let half = 1 << 19;
        let segments = [1, 2, 3].map(|number| segment(number, half * 4, half));
        assert_eq!(chosen(&segments, LIMITS), [1, 2]);
    }

    #[test]
    fn a_sparse_segment_is_rewritten_however_large_it_is() {
        let large = segment(1, 1 << 30, 1 << 28);
        assert_eq!(chosen(&[large], LIMITS), [1]);
    }

    #[test]
    fn four_of_a_size_are_merged_and_large_ones_never_for_their_number() {
        let few = [1, 2, 3].map(|number| segment(number, 5000, 5000));
        assert_eq!(chosen(&few, LIMITS), [0; 0]);
        let four = [1, 2, 3, 4].map(|number| segment(number, 4096 + number, 4096 + number));
        assert_eq!(chosen(&four, LIMITS), [1, 2, 3, 4]);
        let large = [1, 2, 3, 4, 5].map(|number| segment(number, 1 << 19, 1 << 19));
        assert_eq!(chosen(&large, LIMITS), [0; 0]);
    }

    #[test]
    fn what_is_merged_fits_the_room_and_the_smallest_part_goes_first() {
        let sparse = [
            segment(1, 4000, 2000),
            segment(2, 4000, 500),
            segment(3, 4000, 1000),
        ];
        let within = |room| Limits { room, ..LIMITS };
        assert_eq!(chosen(&sparse, within(3500)), [2, 3, 1]);
        assert_eq!(chosen(&sparse, within(1500)), [2, 3]);
        assert_eq!(chosen(&sparse, within(499)), [0; 0]);
        let whole = [1, 2, 3, 4].map(|number| segment(number, 5000, 5000));
        assert_eq!(chosen(&whole, within(30_000)), [1, 2, 3, 4]);
        assert_eq!(chosen(&whole, within(29_999)), [0; 0]);
    }

    /// Four segments full of tiny streams took a gigabyte of memory.
    #[test]
    fn a_group_has_no_more_runs_than_there_is_memory_for_but_it_is_one() {
        let within = |runs_max| Limits { runs_max, ..LIMITS };
        let whole = [1, 2, 3, 4].map(|number| segment(number, 5000, 5000));
        assert_eq!(chosen(&whole, within(40)), [1, 2, 3, 4]);
        assert_eq!(chosen(&whole, within(39)), [1, 2, 3]);
        assert_eq!(chosen(&whole, within(1)), [1, 2]);
        let sparse = [1, 2, 3].map(|number| segment(number, 5000, 500));
        assert_eq!(chosen(&sparse, within(30)), [1, 2, 3]);
        assert_eq!(chosen(&sparse, within(29)), [1, 2]);
        assert_eq!(chosen(&sparse, within(1)), [1]);
    }
}
