//! The sweep: ends lifetimes that are over, evicts streams that nobody uses, clears what is left behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::sequencer::{Entry, Standing};
use super::{Engine, EngineError};

/// How often to sweep, in milliseconds.
pub const SWEEP_INTERVAL_MS: u64 = 1000;
/// After how many sweeps without a use a stream may be evicted.
const IDLE_SWEEPS: u64 = 60;
/// Expired streams looked at in one round; the next round follows at once if there were as many.
const DUE_MAX: usize = 1024;

impl Engine {
    /// Sweeps once. Call it every [`SWEEP_INTERVAL_MS`]. What there is no space for is left to a later one.
    ///
    /// # Errors
    /// If the storage fails.
    pub async fn sweep(&self) -> Result<(), EngineError> {
        if let Some(error) = self.shared.backend.failure() {
            self.shared.fail(error);
        }
        self.end_lifetimes().await?;
        self.clear_leftovers().await?;
        self.evict_idle();
        Ok(())
    }

    /// Ends the streams whose lifetime is over, and so wakes those who read them. What a use has prolonged
    /// since it was last recorded is recorded now.
    async fn end_lifetimes(&self) -> Result<(), EngineError> {
        let now = self.now();
        // What is open knows its end to the moment. What is not is assumed to have been used since.
        for entry in self.shared.registry.expired(now) {
            unless_full(self.expire(&entry).await)?;
            self.shared.registry.unpin_vacant(&entry);
        }
        loop {
            let due = self.ask(move |backend| backend.due(now, DUE_MAX)).await?;
            let count = due.len();
            let expirations = self.shared.stats.expirations.get();
            for name in due {
                let entry = self.open(&name).await?;
                unless_full(self.expire(&entry).await)?;
                unless_full(self.record_use(&entry))?;
                self.shared.registry.unpin_vacant(&entry);
            }
            // The same ones would come again if none of them has ended.
            if count < DUE_MAX || self.shared.stats.expirations.get() == expirations {
                return Ok(());
            }
        }
    }

    fn record_use(&self, entry: &Arc<Entry>) -> Result<(), EngineError> {
        let mut sequencer = entry.sequencer.lock();
        let Standing::Alive(state) = sequencer.standing(self.now()) else {
            return Ok(());
        };
        let used_at = sequencer.used_at(state.id);
        if let Some(at) = used_at.filter(|at| *at > state.touched_at) {
            let touch = tailwater_stream::Transition::Touch { at };
            let record = tailwater_stream::Record::of(state.id, touch);
            self.commit(entry, &mut sequencer, record, None)?;
        }
        Ok(())
    }

    /// Evicts clean streams that nobody pins: those idle for long, and, if too many are open, all that were not
    /// used since the sweep before. A part of [`Engine::sweep`], for who wants no lifetime to be ended.
    pub fn evict_idle(&self) {
        let sweep = self.shared.sweep.fetch_add(1, Ordering::Relaxed);
        let registry = &self.shared.registry;
        let too_many = registry.len() > self.shared.limits.open_streams_max;
        let idle_sweeps = if too_many { 1 } else { IDLE_SWEEPS };
        let idle = |entry: &Entry| {
            let is_idle = entry.last_used() + idle_sweeps <= sweep;
            is_idle && (too_many || !entry.sequencer.lock().has_unrecorded_use())
        };
        let evicted: u64 = (0..registry.shard_count())
            .map(|shard| registry.evict(shard, idle))
            .sum();
        self.shared.stats.evictions.add(evicted);
    }
}

/// A lack of space for one stream does not keep the others waiting.
fn unless_full(done: Result<(), EngineError>) -> Result<(), EngineError> {
    match done {
        Err(EngineError::Full) => Ok(()),
        done => done,
    }
}
