//! When a store says the same as a model, also one that has begun a new era.

use tailwater_storage::Backend;
use tailwater_storage::stream::{Lineage, StreamState};

use crate::naive::{Naive, View};
use crate::workload::NAMES;

/// Compares all that a store says with a model.
#[track_caller]
pub(super) fn assert_holds(store: &dyn Backend, model: &Naive) {
    let view = View::of(store, &NAMES).expect("the store can be read");
    assert_eq!(comparable(view), comparable(model.view(&NAMES)));
    for state in model.alive() {
        check_whole(store, model, state);
    }
}

/// What a model says once its store is in a new era: positions that nobody has had belong to it.
pub(super) fn in_new_era(model: &Naive, store: &dyn Backend) -> Naive {
    let era = store.last_id().expect("an era has a number");
    let mut model = model.clone();
    assert!(model.author.last_id() < Some(era), "the era is a new one");
    model.author.skip_ids(era);
    for state in model.author.states.values_mut().filter(|state| !is_over(state)) {
        state.lineage = state.lineage.renewed(state.tail, era);
    }
    model
}

/// All bytes of a stream, from each storage that has some.
#[track_caller]
pub(super) fn check_whole(store: &dyn Backend, model: &Naive, state: &StreamState) {
    let mut from = state.oldest;
    while from < state.tail {
        let (span, end) = state.lineage.span_at(from);
        let until = end.unwrap_or(state.tail).min(state.tail);
        model.check_window(store, (span.stored_in, from.get(), until.get()), u64::MAX);
        from = until;
    }
}

/// Whether nothing can be appended any more.
pub(super) fn is_over(state: &StreamState) -> bool {
    state.closed || state.deleted
}

/// A view without what says nothing: who would own positions that no append can have.
pub(super) fn comparable(mut view: View) -> View {
    let states = view.states.values_mut().chain(&mut view.listed);
    for state in states.filter(|state| is_over(state)) {
        let spans = state.lineage.spans().iter();
        let kept: Vec<_> = spans.copied().filter(|span| span.from < state.tail).collect();
        state.lineage = Lineage::from_spans(kept).unwrap_or_else(|| Lineage::root(state.id));
    }
    view
}
