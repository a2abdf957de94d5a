//! Prefixes of names that lead elsewhere: streams below them may stand beside another stream than their names say, and no
//! name of theirs needs a redirect of its own. There are few, and all of them are in memory.
//!
//! Whoever makes streams below a prefix leads it anew in each life of the store. So one that nobody has relied on in this life
//! is needed for no more than the streams that are there.

use std::sync::atomic::{AtomicBool, Ordering};

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
pub(super) struct Prefixes(RwLock<HashMap<Box<str>, Vec<Lead>, RandomState>>);

/// Where a prefix leads.
struct Lead {
    to: Placement,
    /// Whether somebody has relied on it since the store was opened.
    is_used: AtomicBool,
}

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
                    prefixes.put(&prefix, placement, false);
                }
            }
        }
        Ok(prefixes)
    }

    /// Adds one that is durable, for somebody who relies on it.
    pub(super) fn add(&self, prefix: &str, placement: Placement) {
        self.put(prefix, placement, true);
    }

    fn put(&self, prefix: &str, to: Placement, is_used: bool) {
        let mut prefixes = self.0.write();
        let leads = prefixes.entry(prefix.into()).or_default();
        match leads.iter_mut().find(|lead| lead.to == to) {
            Some(lead) => *lead.is_used.get_mut() |= is_used,
            None => leads.push(Lead {
                to,
                is_used: AtomicBool::new(is_used),
            }),
        }
    }

    /// Whether a name leads there because of its beginning, for somebody who relies on that from now on.
    pub(super) fn lead(&self, name: &StreamName, to: Placement) -> bool {
        let prefixes = self.0.read();
        if prefixes.is_empty() {
            return false;
        }
        let leads = prefixes_of(name)
            .filter_map(|prefix| prefixes.get(prefix))
            .flatten();
        let mut there = leads.filter(|lead| lead.to == to);
        let found = there.next();
        if let Some(lead) = found {
            lead.is_used.store(true, Ordering::Relaxed);
        }
        found.is_some()
    }

    /// Those that nobody has relied on.
    pub(super) fn unused(&self) -> Vec<(String, Placement)> {
        let prefixes = self.0.read();
        let all = prefixes
            .iter()
            .flat_map(|(prefix, leads)| leads.iter().map(move |lead| (prefix, lead)));
        all.filter(|(_, lead)| !lead.is_used.load(Ordering::Relaxed))
            .map(|(prefix, lead)| (prefix.to_string(), lead.to))
            .collect()
    }

    /// Forgets one unless somebody has come to rely on it. Answers whether it is forgotten.
    pub(super) fn forget_unused(&self, prefix: &str, to: Placement) -> bool {
        let mut prefixes = self.0.write();
        let Some(leads) = prefixes.get_mut(prefix) else {
            return false;
        };
        let before = leads.len();
        leads.retain_mut(|lead| lead.to != to || *lead.is_used.get_mut());
        let is_forgotten = leads.len() < before;
        if leads.is_empty() {
            prefixes.remove(prefix);
        }
        is_forgotten
    }

    /// Where streams of this name may stand because of its beginning.
    pub(super) fn placements_of(&self, name: &StreamName) -> Vec<Placement> {
        let prefixes = self.0.read();
        if prefixes.is_empty() {
            return Vec::new();
        }
        let found = prefixes_of(name).filter_map(|prefix| prefixes.get(prefix));
        found.flatten().map(|lead| lead.to).collect()
    }
}
