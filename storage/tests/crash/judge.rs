//! Compares what is there with what may be there.

use tailwater_storage::Backend;
use tailwater_storage::stream::{OffsetRefusal, Position, StreamId, StreamState};

use super::comparison::{check_bytes, difference};
use super::run::{Lost, Run};
use super::workload::NAMES;
use crate::naive::{Naive, View};
use crate::sameness::{comparable, is_over};

/// So many lost tokens are asked for, the newest ones.
const LOST_MAX: usize = 300;

impl Run {
    /// Compares the open store with what was acknowledged.
    pub(super) fn check(&mut self) {
        let view = match View::of(self.store(), &NAMES) {
            Err(_) if self.reads_fail => View::of(self.store(), &NAMES),
            view => view,
        };
        let view = view.expect("the store can be read");
        let expected = comparable(self.current().view(&NAMES));
        assert_eq!(comparable(view), expected);
        let rng = self.rng.fork();
        if !self.reads_fail {
            check_bytes(self.current(), self.store(), rng);
            self.check_lost();
        }
        self.check_usage();
    }

    /// Finds out what of all that may be there after a crash is there, and goes on from it.
    pub(super) fn adopt(&mut self) {
        let view = View::of(self.store(), &NAMES).expect("the store can be read");
        let may_have_lost = self.is_fast() && self.machine_crashed;
        let first = if may_have_lost {
            self.synced
        } else {
            self.acknowledged
        };
        let era = self.era(&view);
        if may_have_lost && !self.stopped {
            assert!(
                era.is_some(),
                "positions may have been lost, and there is no new era"
            );
        }
        let seen = comparable(view.clone());
        let candidates = (first..self.snapshots.len()).rev();
        let expected = candidates
            .clone()
            .map(|index| (index, self.recovered(index, &view, era)));
        let found = expected
            .into_iter()
            .find(|(_, naive)| comparable(naive.view(&NAMES)) == seen);
        let Some((index, naive)) = found else {
            for index in candidates {
                let expected = comparable(self.recovered(index, &view, era).view(&NAMES));
                eprintln!("snapshot {index}: {}", difference(&seen, &expected));
            }
            panic!(
                "the store is none of the snapshots {first} to {} ({} acknowledged, {} synced)",
                self.snapshots.len() - 1,
                self.acknowledged,
                self.synced
            );
        };
        self.note(format!(
            "it is snapshot {index} of {first}..{}",
            self.snapshots.len()
        ));
        assert!(
            index >= self.acknowledged || era.is_some(),
            "positions were lost, and there is no new era"
        );
        self.note_lost(index);
        self.snapshots = vec![naive];
        (self.acknowledged, self.synced) = (0, 0);
        (self.machine_crashed, self.has_failed, self.stopped) = (false, false, false);
        self.check();
    }

    /// The id that owns positions behind a loss, if the store has begun a new era.
    fn era(&self, view: &View) -> Option<StreamId> {
        let last_id = self.store().last_id()?;
        let given = self
            .snapshots
            .iter()
            .filter_map(|naive| naive.author.last_id())
            .max();
        let may_begin_one = self.is_fast() && (self.machine_crashed || self.has_failed);
        if given.is_some_and(|given| last_id <= given) || !may_begin_one {
            return None;
        }
        let is_alive = |state: &&StreamState| state.id == last_id;
        assert!(
            view.states.values().find(is_alive).is_none(),
            "an id that was never given"
        );
        Some(last_id)
    }

    /// What a store has to say that has kept everything up to a snapshot: releases may be lost.
    fn recovered(&self, index: usize, view: &View, era: Option<StreamId>) -> Naive {
        let mut naive = self.snapshots[index].clone();
        let came_back = |id: &StreamId| view.deleted.contains(id) && !self.released_for_good.contains(id);
        naive.released.retain(|id| !came_back(id));
        if let Some(era) = era {
            naive.author.skip_ids(era);
            for state in naive.author.states.values_mut().filter(|state| !is_over(state)) {
                state.lineage = state.lineage.renewed(state.tail, era);
            }
        }
        naive
    }

    /// Notes the tokens that were given out of positions which are not there any more.
    fn note_lost(&mut self, kept: usize) {
        let tail_of = |id: &StreamId| {
            let kept = &self.snapshots[kept].author.states;
            kept.get(id).map(|state| state.tail)
        };
        let later = &self.snapshots[(kept + 1).min(self.acknowledged + 1)..=self.acknowledged];
        let mut lost = Vec::new();
        // Nobody was given a token of what is still staged.
        let shown = |naive: &Naive| {
            let states = naive.author.states.values();
            let shown = states.filter(|state| !naive.author.staged.contains(&state.id));
            shown.cloned().collect::<Vec<_>>()
        };
        for state in later.iter().flat_map(shown) {
            let start = state
                .source
                .as_ref()
                .map_or(Position::ZERO, |source| source.point);
            if state.tail > tail_of(&state.id).unwrap_or(start) {
                lost.push(Lost {
                    token: state.tail_token(),
                    stream: state.id,
                    name: state.name.clone(),
                });
            }
        }
        self.lost.append(&mut lost);
        self.lost.sort_unstable();
        self.lost.dedup();
        let surplus = self.lost.len().saturating_sub(LOST_MAX);
        self.lost.drain(..surplus);
    }

    /// Lost tokens are refused where a client may have them from: by that stream, by a later one of its name, and by
    /// forks that have that position from there. Bytes that a later stream inherits from others are not looked at:
    /// an era owns positions of many streams.
    fn check_lost(&self) {
        for state in self.current().alive() {
            let loaded = self
                .store()
                .load(&state.name)
                .expect("works")
                .expect("it is there");
            let concerns = |lost: &&Lost| {
                let before = Position::new(lost.token.position().get() - 1).expect("not the beginning");
                let stored_in = state.lineage.span_at(before).0.stored_in;
                stored_in == lost.stream || stored_in == state.id && lost.name == state.name
            };
            let known = self.lost.iter().filter(concerns);
            for lost in known {
                let resolved = loaded.lineage.resolve(lost.token, loaded.oldest, loaded.tail);
                assert_eq!(
                    resolved,
                    Err(OffsetRefusal::Unknown),
                    "{lost:?}, asked of {}",
                    state.id
                );
            }
        }
    }

    fn check_usage(&self) {
        let own_start = |state: &StreamState| {
            state
                .source
                .as_ref()
                .map_or(Position::ZERO, |source| source.point)
        };
        let current = self.current();
        let most: u64 = current
            .stored()
            .map(|state| state.tail.since(own_start(state)))
            .sum();
        let least: u64 = current.alive().iter().map(|state| state.own_bytes()).sum();
        let bytes = self.store().usage().bytes;
        assert!(
            (least..=most).contains(&bytes),
            "{bytes} of {least} to {most} bytes"
        );
        assert_eq!(self.store().last_id(), current.author.last_id());
    }
}
