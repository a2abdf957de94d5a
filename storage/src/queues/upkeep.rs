//! What is no longer needed goes: messages of jobs that were taken, and runs that ended long ago.

use bytes::Bytes;
use tailwater_stream::{StreamKind, StreamName, Timestamp};

use super::error::{QueueError, damaged};
use super::opened::Turn;
use super::record::Extra;
use super::turns::Pending;
use super::{Queues, TICK_MS, codec};

/// So many bytes are trimmed at once, or whatever there is once a second.
const TRIM_BYTES: u64 = 1 << 20;
/// Ended runs that are deleted in one record.
const DELETED_MAX: usize = 256;
/// Groups of ended runs that are looked at in one turn.
const GROUPS_MAX: usize = 256;

impl Queues {
    /// Forgets messages before the taken frontier: what workers are given stands in the runs.
    pub(super) async fn trim(&self, turn: &mut Turn, pending: &mut Pending) -> Result<(), QueueError> {
        let taken = turn.queue.state().taken.position;
        // What is not durable yet may be taken back.
        let taken = taken.min(turn.reader.incarnation().view().tail);
        let now_ms = self.shared.engine.monotonic_ms();
        let (trimmed, looked_ms) = turn.trimmed;
        let is_due = taken.since(trimmed) >= TRIM_BYTES || now_ms >= looked_ms + TICK_MS;
        if taken <= trimmed || !is_due {
            return Ok(());
        }
        let extra = Extra {
            trim: Some(taken),
            ..Extra::default()
        };
        let settling = self.record(turn, &[], extra, false).await?;
        turn.trimmed = (taken, now_ms);
        pending.push_silent(settling);
        Ok(())
    }

    /// Deletes runs that ended long enough ago.
    pub(super) async fn delete_ended(
        &self,
        turn: &mut Turn,
        pending: &mut Pending,
    ) -> Result<(), QueueError> {
        let Some(retention_ms) = turn.queue.config().run_retention_ms else {
            return Ok(());
        };
        let engine = self.shared.engine.clone();
        let now_ms = engine.monotonic_ms();
        if now_ms < turn.ended_from.1 {
            return Ok(());
        }
        let until = engine.now().as_millis().saturating_sub(retention_ms);
        let newest = codec::group(Timestamp::from_millis(until));
        for _ in 0..GROUPS_MAX {
            let group = turn.ended_from.0;
            if group > newest {
                break;
            }
            let prefix = codec::group_prefix(group);
            let stored = engine.controls_with(turn.id, prefix.clone()).await?;
            let mut ended = Vec::new();
            for (key, value) in &stored {
                let place = "the ended runs of a queue";
                let at = codec::decode_time(value).map_err(|malformed| damaged(place, malformed))?;
                if at.as_millis() <= until && ended.len() < DELETED_MAX {
                    let run =
                        codec::stream_of(key, &prefix).map_err(|malformed| damaged(place, malformed))?;
                    ended.push((key.clone(), run));
                }
            }
            let (count, is_whole) = (ended.len(), ended.len() == stored.len());
            if count > 0 {
                self.delete_runs(turn, ended, group, pending).await?;
            }
            if count == DELETED_MAX {
                return Ok(());
            }
            // Runs may still come to stand in the newest group.
            if !is_whole || group == newest {
                break;
            }
            turn.ended_from.0 = group + 1;
        }
        turn.ended_from.1 = now_ms + TICK_MS;
        Ok(())
    }

    async fn delete_runs(
        &self,
        turn: &mut Turn,
        ended: Vec<(Bytes, StreamName)>,
        group: u64,
        pending: &mut Pending,
    ) -> Result<(), QueueError> {
        let (keys, runs): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
        let mut controls: Vec<_> = keys.into_iter().map(|key| (key, None)).collect();
        let key = Bytes::from_static(codec::ENDED_FROM_KEY);
        controls.push((key, Some(codec::encode_number(group))));
        let deletes = self.still_runs(turn, runs).await?;
        self.shared.stats.deleted_runs.add(deletes.len() as u64);
        let extra = Extra {
            controls,
            deletes,
            ..Extra::default()
        };
        let settling = self.record(turn, &[], extra, false).await?;
        pending.push_silent(settling);
        Ok(())
    }

    /// Those of the names that ended runs still have: others may have been deleted, and their names used anew.
    async fn still_runs(&self, turn: &Turn, names: Vec<StreamName>) -> Result<Vec<StreamName>, QueueError> {
        let held = self.shared.engine.hold(&names).await?;
        let (still, settling) = self.shared.engine.together(&held, |draft| {
            let is_run = |nth| {
                let state = draft.state(nth);
                state.is_some_and(|state| {
                    let is_ours = state.beside.as_ref() == Some(&turn.queue.stream);
                    state.kind == StreamKind::Run && state.closed && is_ours
                })
            };
            let still: Vec<bool> = (0..names.len()).map(is_run).collect();
            Ok::<_, QueueError>(still)
        })?;
        super::turns::outcome(settling.settled().await)?;
        let still = names.into_iter().zip(still).filter(|(_, still)| *still);
        Ok(still.map(|(name, _)| name).collect())
    }
}
