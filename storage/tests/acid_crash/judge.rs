//! Compares what is there with what may be there.

use tailwater_storage::Backend;
use tailwater_storage::stream::{Position, StreamState};

use super::comparison::{check_bytes, difference};
use super::run::Run;
use super::workload::NAMES;
use crate::naive::{Naive, View};

impl Run {
    /// Compares the open store with what was acknowledged.
    pub(super) fn check(&mut self) {
        let view = match View::of(self.store(), &NAMES) {
            Err(error) if self.reads_fail => {
                self.note(format!("not read: {error}"));
                View::of(self.store(), &NAMES)
            }
            // Whoever reads may have redb write pages that nothing depends on, to have their memory back, and that may meet the
            // cut. What is there is told by the next life.
            Err(_) if self.disk.has_stopped() => return,
            view => view,
        };
        let view = self.seen(view.expect("the store can be read"), &self.known);
        let expected = self.known.view(&NAMES);
        assert!(view == expected, "{}", difference(&view, &expected));
        let rng = self.rng.fork();
        if !self.reads_fail {
            self.disk
                .without_cut(|| check_bytes(&self.known, self.store(), rng));
        }
        self.check_usage();
    }

    /// Finds out whether what was under way is there, and goes on from that.
    pub(super) fn adopt(&mut self) {
        let view = View::of(self.store(), &NAMES).expect("the store can be read");
        let candidates = self.pending.take().into_iter().chain([self.known.clone()]);
        let candidates: Vec<_> = candidates.collect();
        let found = candidates
            .iter()
            .find(|naive| self.seen(view.clone(), naive) == naive.view(&NAMES));
        let Some(naive) = found else {
            for naive in &candidates {
                eprintln!(
                    "it is not: {}",
                    difference(&self.seen(view.clone(), naive), &naive.view(&NAMES))
                );
            }
            panic!(
                "the store holds none of the {} that it may hold",
                candidates.len()
            );
        };
        self.known = naive.clone();
        self.check();
        let bytes = self.store().usage().bytes;
        if let Some(known_bytes) = self.known_bytes.take() {
            assert_eq!(bytes, known_bytes, "what is counted stays the same");
        }
    }

    /// After a failure, in the same life: what is shown is what was acknowledged, if anything is.
    pub(super) fn check_what_is_shown(&mut self) {
        if let Ok(view) = View::of(self.store(), &NAMES) {
            let view = self.seen(view, &self.known);
            let mut may_be = vec![self.known.view(&NAMES)];
            if self.reads_fail {
                may_be.extend(self.pending.iter().map(|naive| naive.view(&NAMES)));
            }
            assert!(may_be.contains(&view), "{}", difference(&view, &may_be[0]));
        }
    }

    /// A view in which deleted streams are found that may be found or not.
    fn seen(&self, view: View, naive: &Naive) -> View {
        let mut view = seen(view, naive);
        for name in NAMES {
            let named = naive.named(name).filter(|state| self.unled.contains(&state.id));
            if let Some(state) = named.filter(|state| state.deleted) {
                view.states.entry(name).or_insert_with(|| state.clone());
            }
        }
        view
    }

    fn check_usage(&self) {
        let start = |state: &StreamState| {
            state
                .source
                .as_ref()
                .map_or(Position::ZERO, |source| source.point)
        };
        let most: u64 = self
            .known
            .stored()
            .map(|state| state.tail.since(start(state)))
            .sum();
        let least = kept_bytes(&self.known, |state| !self.known.author.staged.contains(&state.id));
        let usage = self.store().usage();
        assert!(
            (least..=most).contains(&usage.bytes),
            "{} of {least} to {most} bytes",
            usage.bytes
        );
        assert_eq!(self.store().last_id(), self.known.author.last_id());
    }

    /// Once all has been given back that can be, no byte is counted that nobody can read.
    pub(super) fn check_reclaimed(&mut self) {
        assert!(self.release_all() && self.reclaim_all());
        self.check_kept();
    }

    /// Likewise, once all has been given back that a start knows of.
    pub(super) fn check_given_back(&mut self) {
        assert!(self.release_all() && self.reclaim_what_a_start_finds());
        self.check_kept();
    }

    fn check_kept(&mut self) {
        self.check();
        let kept = kept_bytes(&self.known, |_| true);
        assert_eq!(self.store().usage().bytes, kept, "bytes that are kept");
    }
}

/// A view without the deleted streams whose names newer ones have had: nobody asks for them any more, and one that stands
/// in another shard than the newer one is found again once that is gone.
pub(super) fn seen(mut view: View, naive: &Naive) -> View {
    view.states.retain(|name, state| {
        let states = naive.author.states.values();
        let mut shown = states.filter(|state| !naive.author.staged.contains(&state.id));
        let newest = shown.rfind(|state| state.name.as_str() == *name);
        !state.deleted || newest.is_none_or(|newest| newest.id <= state.id)
    });
    view
}

/// The bytes of some streams that somebody can read, or that are staged.
fn kept_bytes(naive: &Naive, which: impl Fn(&StreamState) -> bool) -> u64 {
    let kept = |state: &StreamState| {
        let extents = naive.extents(state.id, 0, state.tail.get(), u64::MAX);
        let Some(first) = extents.first().map(|first| first.start) else {
            return 0;
        };
        if naive.author.staged.contains(&state.id) {
            return state.tail.since(first);
        }
        let readers = naive.alive().into_iter();
        let oldest = readers.filter_map(|reader| oldest_in(reader, state)).min();
        oldest.map_or(0, |oldest| state.tail.since(oldest))
    };
    naive.stored().filter(|state| which(state)).map(kept).sum()
}

/// The oldest byte that a stream can read of those that another one, or it itself, has stored.
fn oldest_in(reader: &StreamState, storage: &StreamState) -> Option<Position> {
    let spans = reader.lineage.spans();
    let ends = spans[1..].iter().map(|next| next.from).chain([reader.tail]);
    let stored_there = spans
        .iter()
        .zip(ends)
        .filter(|(span, _)| span.stored_in == storage.id);
    let first = |from: Position| from.max(reader.oldest);
    let readable = stored_there.filter(|(span, end)| first(span.from) < *end);
    readable.map(|(span, _)| first(span.from)).min()
}
