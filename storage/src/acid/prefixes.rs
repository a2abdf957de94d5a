//! Prefixes of names that lead elsewhere: streams below them may stand beside another stream than their names say, and no
//! name of theirs needs a redirect of its own. There are few, and all of them are in memory.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::RwLock;
use tailwater_stream::StreamName;

use super::placement::Placement;
use super::shard::Shard;
use crate::backend::BackendError;

/// Behind this a prefix stands as the key of a redirect. No name begins with it.
pub(super) const MARK: &str = "/";
/// The first key behind all of those.
pub(super) const BEHIND_MARK: &str = "0";

/// The prefixes that lead elsewhere, and where.
#[derive(Default)]
pub(super) struct Prefixes(RwLock<HashMap<Box<str>, Vec<Placement>, RandomState>>);

/// Under what key the redirect of a prefix stands.
pub(super) fn key_of(prefix: &str) -> String {
    format!("{MARK}{prefix}")
}

/// The prefixes of a name that may lead elsewhere, the shortest first: each ends where a segment does.
pub(super) fn prefixes_of(name: &StreamName) -> impl Iterator<Item = &str> {
    let name = name.as_str();
    name.match_indices('/').map(|(at, _)| &name[..=at])
}

impl Prefixes {
    /// Those that shards say.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub(super) fn load(shards: &[Shard]) -> Result<Self, BackendError> {
        let prefixes = Self::default();
        for shard in shards {
            for (prefix, placements) in shard.prefixes()? {
                for placement in placements {
                    prefixes.add(&prefix, placement);
                }
            }
        }
        Ok(prefixes)
    }

    pub(super) fn add(&self, prefix: &str, placement: Placement) {
        let mut prefixes = self.0.write();
        let placements = prefixes.entry(prefix.into()).or_default();
        if !placements.contains(&placement) {
            placements.push(placement);
        }
    }

    /// Where streams of this name may stand because of its beginning.
    pub(super) fn placements_of(&self, name: &StreamName) -> Vec<Placement> {
        let prefixes = self.0.read();
        if prefixes.is_empty() {
            return Vec::new();
        }
        let found = prefixes_of(name).filter_map(|prefix| prefixes.get(prefix));
        found.flatten().copied().collect()
    }
}
