//! Remembers where the segments hold the bytes of streams that are read, so that hot reads ask no catalog.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tailwater_stream::StreamId;

use super::segment::Run;

/// The runs of one stream, with their segments' numbers, in order of position.
pub(super) type Runs = Arc<[(u64, Run)]>;

const SHARDS: usize = 16;
/// What an entry takes beside its runs.
const ENTRY_BYTES: u64 = 96;

#[derive(Default)]
struct Shard {
    runs: HashMap<StreamId, Runs, RandomState>,
    bytes: u64,
}

/// Runs by stream, within a budget. Whoever changes a stream's runs forgets them here under the same guard.
pub(super) struct RunCache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes_max: u64,
}

fn cost(runs: &Runs) -> u64 {
    ENTRY_BYTES + (runs.len() * size_of::<(u64, Run)>()) as u64
}

impl RunCache {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_bytes_max: bytes_max / SHARDS as u64,
        }
    }

    fn shard(&self, id: StreamId) -> &Mutex<Shard> {
        &self.shards[id.get() as usize % SHARDS]
    }

    pub(super) fn get(&self, id: StreamId) -> Option<Runs> {
        self.shard(id).lock().runs.get(&id).cloned()
    }

    pub(super) fn put(&self, id: StreamId, runs: Runs) {
        let cost_of_new = cost(&runs);
        if cost_of_new > self.shard_bytes_max {
            return;
        }
        let mut shard = self.shard(id).lock();
        while shard.bytes + cost_of_new > self.shard_bytes_max {
            // Any one: the order of a hash map is as good as chance, and what is hot comes back.
            let Some(evicted) = shard.runs.keys().next().copied() else {
                break;
            };
            shard.forget(evicted);
        }
        shard.forget(id);
        shard.bytes += cost_of_new;
        shard.runs.insert(id, runs);
    }

    pub(super) fn forget(&self, id: StreamId) {
        self.shard(id).lock().forget(id);
    }
}

impl Shard {
    fn forget(&mut self, id: StreamId) {
        if let Some(runs) = self.runs.remove(&id) {
            self.bytes -= cost(&runs);
        }
    }
}
