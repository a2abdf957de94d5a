//! The bytes of one stream: sealed chunks that readers share, and an open one that grows.

use std::collections::VecDeque;

use bytes::Bytes;
use smallvec::SmallVec;

/// How long the open chunk grows before it is sealed. Also the size in which large answers are best written.
const CHUNK_BYTES: usize = 256 * 1024;

/// Contiguous bytes from `start` on. Sealed chunks are handed out without a copy; what is still in the open one
/// is copied, which is never more than [`CHUNK_BYTES`].
#[derive(Debug)]
pub(super) struct Chunks {
    sealed: VecDeque<(u64, Bytes)>,
    open_start: u64,
    open: Vec<u8>,
}

impl Chunks {
    pub(super) fn starting_at(start: u64) -> Self {
        Self {
            sealed: VecDeque::new(),
            open_start: start,
            open: Vec::new(),
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        if bytes.len() >= CHUNK_BYTES {
            self.seal();
            self.open.extend_from_slice(bytes);
            self.seal();
            return;
        }
        if self.open.len() + bytes.len() > CHUNK_BYTES {
            self.seal();
        }
        if self.open.is_empty() && !self.sealed.is_empty() {
            // A stream that filled a chunk will fill another: do not grow it by doubling again.
            self.open.reserve_exact(CHUNK_BYTES);
        }
        self.open.extend_from_slice(bytes);
    }

    fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let mut chunk = std::mem::take(&mut self.open);
        if chunk.capacity() - chunk.len() > CHUNK_BYTES / 8 {
            chunk.shrink_to_fit();
        }
        let start = self.open_start;
        self.open_start += chunk.len() as u64;
        self.sealed.push_back((start, chunk.into()));
    }

    /// The bytes between two positions that are both stored.
    pub(super) fn read(&self, from: u64, to: u64) -> SmallVec<[Bytes; 2]> {
        let mut pieces = SmallVec::new();
        let first = self
            .sealed
            .partition_point(|(start, chunk)| start + chunk.len() as u64 <= from);
        for (start, chunk) in self.sealed.range(first..) {
            if *start >= to {
                return pieces;
            }
            let begin = from.saturating_sub(*start) as usize;
            let end = chunk.len().min((to - start) as usize);
            pieces.push(chunk.slice(begin..end));
        }
        if to > self.open_start {
            let begin = from.saturating_sub(self.open_start) as usize;
            let end = (to - self.open_start) as usize;
            if begin < end {
                pieces.push(Bytes::copy_from_slice(&self.open[begin..end]));
            }
        }
        pieces
    }

    /// Drops whole chunks that lie before `position`.
    pub(super) fn forget_before(&mut self, position: u64) {
        while self
            .sealed
            .front()
            .is_some_and(|(start, chunk)| start + chunk.len() as u64 <= position)
        {
            self.sealed.pop_front();
        }
        if self.open_start < position {
            let dead = ((position - self.open_start) as usize).min(self.open.len());
            // Moving the rest is worth it only when it frees more than it moves.
            if dead * 2 >= self.open.len() {
                self.open.drain(..dead);
                self.open.shrink_to_fit();
                self.open_start += dead as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_range_reads_back_whatever_the_chunks(
            sizes in proptest::collection::vec(prop_oneof![0_usize..300, 100_000_usize..600_000], 1..12),
            start in 0_u64..1000,
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 6),
        ) {
            let mut chunks = Chunks::starting_at(start);
            let mut all = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                let bytes: Vec<u8> = (0..*size).map(|i| (i * 31 + number) as u8).collect();
                chunks.append(&bytes);
                all.extend(bytes);
            }
            let cut = |index: &proptest::sample::Index| index.index(all.len() + 1);
            let mut forgotten = 0;
            for pair in cuts.chunks(2) {
                let (a, b) = (cut(&pair[0]).min(cut(&pair[1])), cut(&pair[0]).max(cut(&pair[1])));
                let a = a.max(forgotten);
                if a < b {
                    let read = chunks.read(start + a as u64, start + b as u64);
                    prop_assert!(read.iter().all(|piece| !piece.is_empty()));
                    prop_assert_eq!(read.concat(), &all[a..b]);
                }
                forgotten = forgotten.max(a);
                chunks.forget_before(start + forgotten as u64);
            }
        }
    }
}
