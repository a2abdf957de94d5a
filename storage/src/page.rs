//! A page of those things that are kept by their names.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

/// Things in the order of their names, behind `after`, at most `count_max`, and whether more follow.
pub(crate) fn page<K: Ord, T>(
    all: &BTreeMap<K, Arc<T>>,
    after: Option<&K>,
    count_max: usize,
) -> (Vec<Arc<T>>, bool) {
    let from = after.map_or(Unbounded, Excluded);
    let mut behind = all.range::<K, _>((from, Unbounded));
    let page = behind
        .by_ref()
        .take(count_max)
        .map(|(_, thing)| Arc::clone(thing));
    (page.collect(), behind.next().is_some())
}
