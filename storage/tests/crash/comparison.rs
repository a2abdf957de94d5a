//! Compares what a store says with what it has to say.

use fastrand::Rng;
use tailwater_storage::Backend;

use super::workload::NAMES;
use crate::naive::{Naive, View};
use crate::sameness::check_whole;

/// Bytes of each stream that are looked at beside all of them: in so many windows.
const WINDOWS: usize = 3;

/// All bytes of each stream at once, and some windows of it.
pub(super) fn check_bytes(expected: &Naive, store: &dyn Backend, mut rng: Rng) {
    for state in expected.alive() {
        check_whole(store, expected, state);
        let places = expected.places(state);
        for _ in 0..WINDOWS {
            let (from, until) = (
                *rng.choice(&places).expect("one"),
                *rng.choice(&places).expect("one"),
            );
            if from < until {
                let bytes_max = rng.u64(1..=2 * (until - from));
                expected.check_window(store, (state.id, from, until), bytes_max);
            }
        }
    }
}

/// What two views do not agree on.
pub(super) fn difference(seen: &View, expected: &View) -> String {
    let mut differences = Vec::new();
    for name in NAMES {
        let (seen, expected) = (seen.states.get(name), expected.states.get(name));
        if seen != expected {
            differences.push(format!("{name:?} is {seen:?} and not {expected:?}"));
        }
    }
    let others = |view: &View| {
        let View {
            deleted,
            forked,
            controls,
            due,
            streams,
            ..
        } = view;
        format!(
            "deleted {deleted:?}, forked {forked:?}, controls {controls:?}, due {due:?}, {streams} streams"
        )
    };
    let (seen, expected) = (others(seen), others(expected));
    if seen != expected {
        differences.push(format!("{seen} and not {expected}"));
    }
    differences.join("\n")
}
