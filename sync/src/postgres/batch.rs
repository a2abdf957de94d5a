//! Chunks as one transaction claims them: one run for each stream, in the order of names. Knows no SQL.

use std::collections::BTreeMap;

use super::NAME_BYTES_MAX;
use super::streams_table::Claim;
use crate::event::Chunk;

/// Chunks that are to be written together.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) chunks: &'a [Chunk],
    /// At most one for each stream, in the order of names byte by byte: the order in which every mirror locks places,
    /// so that no two wait for each other.
    pub(super) runs: Vec<Run<'a>>,
    /// Chunks that are in no run, since the one before them of the same stream does not end where they begin.
    pub(super) strays: Vec<usize>,
}

/// Chunks of one stream that follow one another.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// From where the first of them begins to where the last one ends.
    pub(super) claim: Claim<'a>,
    /// Where they are among the chunks, in the order of the stream.
    pub(super) chunks: Vec<usize>,
}

impl<'a> Batch<'a> {
    /// Sorts chunks. Those whose names are too long are in no run and among no strays.
    pub(super) fn new(chunks: &'a [Chunk]) -> Self {
        let mut runs: BTreeMap<&str, Run<'a>> = BTreeMap::new();
        let mut strays = Vec::new();
        for (at, chunk) in chunks
            .iter()
            .enumerate()
            .filter(|(_, chunk)| has_name_that_fits(chunk))
        {
            let run = runs.entry(&chunk.stream).or_insert_with(|| Run::before(chunk));
            if run.is_followed_by(chunk) {
                run.add(at, chunk);
            } else {
                strays.push(at);
            }
        }
        Self {
            chunks,
            runs: runs.into_values().collect(),
            strays,
        }
    }
}

impl Batch<'_> {
    /// All streams that it would write.
    pub(super) fn streams(&self) -> impl Iterator<Item = &str> {
        self.runs.iter().map(|run| run.claim.stream)
    }
}

impl<'a> Run<'a> {
    /// A run that begins where `chunk` does, with nothing in it.
    fn before(chunk: &'a Chunk) -> Self {
        let claim = Claim {
            stream: &chunk.stream,
            incarnation: chunk.incarnation,
            after: chunk.after,
            next: chunk.after,
            next_index: None,
            events: 0,
            skipped_bytes: 0,
            closed: false,
        };
        Self {
            claim,
            chunks: Vec::new(),
        }
    }

    fn is_followed_by(&self, chunk: &Chunk) -> bool {
        self.claim.incarnation == chunk.incarnation && self.claim.next == chunk.after
    }

    fn add(&mut self, at: usize, chunk: &Chunk) {
        let last = chunk.events.last();
        self.claim.next_index = last
            .map(|event| event.index.saturating_add(1))
            .or(self.claim.next_index);
        self.claim.events += chunk.events.len() as u64;
        self.claim.next = chunk.next;
        self.claim.closed = chunk.closed;
        self.chunks.push(at);
    }
}

pub(super) fn has_name_that_fits(chunk: &Chunk) -> bool {
    chunk.stream.len() <= NAME_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(stream: &str, incarnation: u64, after: u64, next: u64) -> Chunk {
        let offset = |position: u64| format!("{incarnation:016}_{position:016}").parse().unwrap();
        Chunk {
            stream: stream.into(),
            incarnation: format!("{incarnation:016}").parse().unwrap(),
            content_type: "application/json".into(),
            after: offset(after),
            events: Vec::new(),
            next: offset(next),
            closed: false,
        }
    }

    #[test]
    fn chunks_that_follow_one_another_are_one_run_and_runs_are_in_the_order_of_names() {
        let chunks = [
            chunk("b", 1, 0, 5),
            chunk("B", 1, 0, 1),
            chunk("b", 1, 5, 9),
            chunk("a/é", 1, 3, 4),
        ];
        let batch = Batch::new(&chunks);
        let runs: Vec<_> = batch
            .runs
            .iter()
            .map(|run| (run.claim.stream, &run.chunks[..], run.claim.next.position()))
            .collect();
        assert_eq!(runs, [("B", &[1][..], 1), ("a/é", &[3], 4), ("b", &[0, 2], 9)]);
        assert!(batch.strays.is_empty());
    }

    #[test]
    fn chunks_with_a_gap_between_them_or_of_another_incarnation_are_strays() {
        let chunks = [
            chunk("a", 1, 0, 5),
            chunk("a", 1, 6, 7),
            chunk("a", 2, 5, 9),
            chunk("a", 1, 5, 6),
        ];
        let batch = Batch::new(&chunks);
        assert_eq!(batch.runs[0].chunks, [0, 3]);
        assert_eq!(batch.strays, [1, 2]);
    }

    #[test]
    fn a_name_that_no_index_can_hold_is_in_no_run() {
        let chunks = [
            chunk(&"n".repeat(NAME_BYTES_MAX + 1), 1, 0, 5),
            chunk(&"n".repeat(NAME_BYTES_MAX), 1, 0, 5),
        ];
        let batch = Batch::new(&chunks);
        assert_eq!(batch.runs.len(), 1);
        assert_eq!(batch.runs[0].chunks, [1]);
        assert!(batch.strays.is_empty());
    }
}
