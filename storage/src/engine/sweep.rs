//! The sweep: ends lifetimes that are over, evicts streams that nobody uses, clears what is left behind.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use tailwater_stream::{Record, StreamId, StreamName, Transition};
use tokio::sync::oneshot;

use super::sequencer::{Entry, Settled, Standing};
use super::{Engine, EngineError};
use crate::backend::BackendError;

/// How often to sweep, in milliseconds.
pub const SWEEP_INTERVAL_MS: u64 = 1000;
/// After how many sweeps without a use a stream may be evicted.
const IDLE_SWEEPS: u32 = 60;
/// Streams that are due asked for in one round, beside those that could not be ended in the rounds before.
const DUE_MAX: usize = 1024;
/// Streams whose lifetimes end together: in one commit, or in few.
const ENDED_TOGETHER: usize = 256;
/// Once a sweep has ended so many streams that were due, the others are left to the next one.
const ENDED_MAX: usize = 16_384;

/// A stream that is being deleted, and what to wait on; nothing if that is durable.
type Ending = (StreamId, Option<oneshot::Receiver<Settled>>);

impl Engine {
    /// Sweeps once. Call it every [`SWEEP_INTERVAL_MS`]. What there is no space for is left to a later one.
    ///
    /// # Errors
    /// If the storage fails.
    pub async fn sweep(&self) -> Result<(), EngineError> {
        if let Some(error) = self.shared.backend.failure() {
            self.shared.fail(error);
        }
        // First, as everything else may have to wait for the disk.
        self.evict_idle();
        let ended = self.end_lifetimes().await;
        self.clear_leftovers().await;
        self.end_unused_leads().await;
        ended
    }

    /// Ends the streams whose lifetime is over, and so wakes those who read them. What a use has prolonged
    /// since it was last recorded is recorded now.
    async fn end_lifetimes(&self) -> Result<(), EngineError> {
        let now = self.now();
        // What is open knows its end to the moment. What is not is assumed to have been used since.
        for entries in self.shared.registry.expired(now).chunks(ENDED_TOGETHER) {
            self.end(entries).await?;
        }
        let mut ended = 0;
        // Those that there was no space to end, or whose last use was not recorded. They come again in each round.
        let mut stay = HashSet::<StreamName, RandomState>::default();
        while ended < ENDED_MAX {
            let count_max = DUE_MAX + 2 * stay.len();
            let mut due = self.ask(move |backend| backend.due(now, count_max)).await?;
            let is_last = due.len() < count_max;
            due.retain(|name| !stay.contains(name));
            for names in due.chunks(ENDED_TOGETHER) {
                let mut entries = Vec::with_capacity(names.len());
                for name in names {
                    match self.open(name).await {
                        Ok(entry) => entries.push(entry),
                        Err(error) => {
                            tracing::error!(stream = %name, %error, "a stream whose lifetime is over cannot be loaded");
                            stay.insert(name.clone());
                        }
                    }
                }
                for entry in &entries {
                    unless_full(self.record_use(entry))?;
                }
                let stayed = self.end(&entries).await?;
                ended += entries.len() - stayed.len();
                stay.extend(stayed);
            }
            if is_last || due.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Ends those of a few streams whose lifetime is over, and lets go of them. Answers the names of those that are
    /// still there.
    async fn end(&self, entries: &[Arc<Entry>]) -> Result<Vec<StreamName>, EngineError> {
        let mut ending = Vec::new();
        for entry in entries {
            let begun = self.begin_end(entry);
            ending.push(match begun {
                Err(EngineError::Full) => None,
                begun => begun?,
            });
        }
        let mut stayed = Vec::new();
        for (entry, ending) in entries.iter().zip(ending) {
            let settled = match ending {
                None => None,
                Some((id, None)) => Some((id, Settled::Durable)),
                Some((id, Some(settled))) => Some((id, settled.await.unwrap_or(Settled::Failed))),
            };
            match settled {
                Some((id, Settled::Durable)) => self.note_expired(entry, id).await?,
                Some((_, Settled::Failed)) => return Err(BackendError::Poisoned.into()),
                Some((_, Settled::Full | Settled::DecideAgain)) | None => stayed.push(entry.name.clone()),
            }
            self.shared.registry.unpin_vacant(entry);
        }
        Ok(stayed)
    }

    /// Deletes a stream if its lifetime is over. Answers its id, and what to wait on if that is not durable yet.
    fn begin_end(&self, entry: &Arc<Entry>) -> Result<Option<Ending>, EngineError> {
        let mut sequencer = entry.sequencer.lock();
        let now = self.now();
        let (Standing::Expired, Some(state)) = (sequencer.standing(now), sequencer.accepted()) else {
            return Ok(None);
        };
        let id = state.id;
        let delete = Record::of(id, Transition::Delete { at: now });
        Ok(Some((id, self.commit(entry, &mut sequencer, delete, None)?)))
    }

    fn record_use(&self, entry: &Arc<Entry>) -> Result<(), EngineError> {
        let mut sequencer = entry.sequencer.lock();
        let Standing::Alive(state) = sequencer.standing(self.now()) else {
            return Ok(());
        };
        let used_at = sequencer.used_at(state.id);
        if let Some(at) = used_at.filter(|at| *at > state.touched_at) {
            let touch = Record::of(state.id, Transition::Touch { at });
            self.commit(entry, &mut sequencer, touch, None)?;
        }
        Ok(())
    }

    /// Evicts clean streams that nobody pins: those idle for long, and, if too many are open, as many as are too many of
    /// those that were not used since the sweep before, the longest idle ones first. So streams that are used in turn
    /// stay, but for those that there is no room for, and do not push each other out. A part of [`Engine::sweep`], for
    /// who wants no lifetime to be ended.
    pub fn evict_idle(&self) {
        let registry = &self.shared.registry;
        let sweep = registry.begin_sweep();
        let idle_sweeps = |last_used: u32| sweep.saturating_sub(last_used).min(IDLE_SWEEPS);
        let mut evicted = self.evict(sweep, IDLE_SWEEPS, |entry, _| {
            !entry.sequencer.lock().has_unrecorded_use()
        });
        let too_many = registry.len().saturating_sub(self.shared.limits.open_streams_max);
        if too_many > 0 {
            let mut idle_for = [0_u64; IDLE_SWEEPS as usize + 1];
            registry.look_at_uses(|last_used| idle_for[idle_sweeps(last_used) as usize] += 1);
            let (least, mut left_of_these) = least_idle_to_go(&idle_for, too_many);
            evicted += self.evict(sweep, least, |_, last_used| {
                match idle_sweeps(last_used).cmp(&least) {
                    std::cmp::Ordering::Less => false,
                    std::cmp::Ordering::Equal if left_of_these == 0 => false,
                    std::cmp::Ordering::Equal => {
                        left_of_these -= 1;
                        true
                    }
                    std::cmp::Ordering::Greater => true,
                }
            });
        }
        self.shared.stats.evictions.add(evicted);
    }

    /// Evicts those of the streams idle for so many sweeps that `may_go` says; each sweep begins in another shard, so that it
    /// is not always the same ones' turn.
    fn evict(&self, sweep: u32, idle_sweeps: u32, mut may_go: impl FnMut(&Entry, u32) -> bool) -> u64 {
        let Some(used_until) = sweep.checked_sub(idle_sweeps) else {
            return 0;
        };
        let registry = &self.shared.registry;
        let shards = registry.shard_count();
        (0..shards)
            .map(|number| registry.evict((number + sweep as usize) % shards, used_until, &mut may_go))
            .sum()
    }
}

/// For how many sweeps streams must have been idle to go so that `too_many` go, at least one; and how many of those that have
/// been for just so long are to go with those that have been for longer. `idle_for[n]` streams have been idle for n sweeps.
fn least_idle_to_go(idle_for: &[u64], too_many: u64) -> (u32, u64) {
    let mut left = too_many;
    for (sweeps, count) in idle_for.iter().enumerate().skip(1).rev() {
        if *count >= left {
            return (sweeps as u32, left);
        }
        left -= count;
    }
    (1, idle_for[1])
}

/// A lack of space for one stream does not keep the others waiting.
fn unless_full(done: Result<(), EngineError>) -> Result<(), EngineError> {
    match done {
        Err(EngineError::Full) => Ok(()),
        done => done,
    }
}

// The model checker's locks work only within a model.
#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    #[test]
    fn those_idle_for_longest_go_first_and_no_more_than_are_too_many() {
        let idle_for = [100, 10, 0, 5, 2];
        assert_eq!(least_idle_to_go(&idle_for, 1), (4, 1));
        assert_eq!(least_idle_to_go(&idle_for, 2), (4, 2));
        assert_eq!(least_idle_to_go(&idle_for, 3), (3, 1));
        assert_eq!(least_idle_to_go(&idle_for, 7), (3, 5));
        assert_eq!(least_idle_to_go(&idle_for, 8), (1, 1));
        assert_eq!(least_idle_to_go(&idle_for, 17), (1, 10));
        assert_eq!(
            least_idle_to_go(&idle_for, 50),
            (1, 10),
            "what was used just now stays"
        );
    }
}
