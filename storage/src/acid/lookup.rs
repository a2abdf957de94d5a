//! Finds streams by their names, in the shards where they may stand. Each shard is asked once for all that fall to it.

use tailwater_stream::{StreamName, StreamState};

use super::placement::Placement;
use super::prefixes::Prefixes;
use super::shard::Shard;
use crate::backend::BackendError;

/// What is known of a name so far.
#[derive(Clone, Default)]
pub(super) struct Found {
    /// The newest stream of it.
    pub(super) newest: Option<StreamState>,
    /// Where others of it may stand; not looked up if the newest one is not deleted.
    pub(super) elsewhere: Vec<Placement>,
}

impl Found {
    pub(super) fn is_alive(&self) -> bool {
        self.newest.as_ref().is_some_and(|state| !state.deleted)
    }

    fn take(&mut self, found: Option<StreamState>) {
        let id = |state: &Option<StreamState>| state.as_ref().map(|state| state.id);
        if id(&found) > id(&self.newest) {
            self.newest = found;
        }
    }
}

/// The newest streams of some names, in their order, deleted ones included.
///
/// # Errors
/// If a shard cannot be read.
pub(super) fn newest(
    shards: &[Shard],
    prefixes: &Prefixes,
    names: &[StreamName],
) -> Result<Vec<Option<StreamState>>, BackendError> {
    let mut all = vec![Found::default(); names.len()];
    let own = names.iter().map(Placement::of_name).enumerate();
    for (shard, asked) in by_shard(shards, own) {
        for (at, found) in asked.iter().zip(shard.found(&named(names, &asked))?) {
            all[*at] = found;
        }
    }
    // One that is deleted and still held may stand elsewhere than the one that has the name by now.
    let mut others = Vec::new();
    for (at, found) in all.iter().enumerate().filter(|(_, found)| !found.is_alive()) {
        others.extend(found.elsewhere.iter().map(|placement| (at, *placement)));
        others.extend(
            prefixes
                .placements_of(&names[at])
                .into_iter()
                .map(|placement| (at, placement)),
        );
    }
    for (shard, asked) in by_shard(shards, others) {
        for (at, state) in asked.iter().zip(shard.load_all(&named(names, &asked))?) {
            all[*at].take(state);
        }
    }
    Ok(all.into_iter().map(|found| found.newest).collect())
}

/// Which names each shard is asked for, by their places.
fn by_shard(
    shards: &[Shard],
    placed: impl IntoIterator<Item = (usize, Placement)>,
) -> impl Iterator<Item = (&Shard, Vec<usize>)> {
    let mut asked: Vec<_> = placed
        .into_iter()
        .map(|(at, placement)| (placement.shard(shards.len()), at))
        .collect();
    asked.sort_unstable();
    let of_shards: Vec<_> = asked
        .chunk_by(|(one, _), (other, _)| one == other)
        .map(|of_shard| {
            (
                &shards[of_shard[0].0],
                of_shard.iter().map(|(_, at)| *at).collect(),
            )
        })
        .collect();
    of_shards.into_iter()
}

fn named<'n>(names: &'n [StreamName], places: &[usize]) -> Vec<&'n StreamName> {
    places.iter().map(|at| &names[*at]).collect()
}
