//! What is no longer needed goes: messages of jobs that were taken, and runs that ended long ago.

use bytes::Bytes;
use tailwater_stream::{StreamId, StreamKind, StreamName, Timestamp};

use super::codec::{self, StoredEnd};
use super::error::{QueueError, damaged};
use super::opened::Turn;
use super::pending::Pending;
use super::record::Extra;
use super::{Queues, TICK_MS};
use crate::engine::Held;

/// So many bytes are trimmed at once, or whatever there is once a second.
const TRIM_BYTES: u64 = 1 << 20;
/// Ended runs that are deleted in one record.
const DELETED_MAX: usize = 256;
/// Groups of ended runs that are looked at in one turn.
const GROUPS_MAX: usize = 256;

/// An ended run whose time is over: its key, its name, and how it ended.
type DueRun = (Bytes, StreamName, StoredEnd);

/// What stands in a group of ended runs.
struct Ended {
    /// Runs whose time is over, at most so many as are deleted in one record.
    due: Vec<DueRun>,
    /// Whether the time of no other run is still to come.
    is_whole: bool,
}

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
            // Groups in which nothing stands are not looked at, however many there are.
            let group = self.first_group(turn.id, turn.ended_from.0).await?;
            let group = group.map_or(newest, |group| group.min(newest));
            if group < turn.ended_from.0 {
                break;
            }
            turn.ended_from.0 = group;
            let Ended { due, is_whole } = self.ended_in(turn.id, group, until).await?;
            let count = due.len();
            if count > 0 {
                self.delete_runs(turn, due, group, pending).await?;
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

    /// The first group, from one on, in which there are ended runs.
    async fn first_group(&self, id: StreamId, from: u64) -> Result<Option<u64>, QueueError> {
        let engine = &self.shared.engine;
        let before = Some(codec::group_prefix(from).into());
        let first = engine
            .controls_behind(id, codec::ENDED_PREFIX.to_vec(), before, 1)
            .await?;
        let group = first.first().map(|(key, _)| codec::group_of(key)).transpose();
        group.map_err(|malformed| damaged("the ended runs of a queue", malformed))
    }

    /// Runs of a group that ended by `until`, in milliseconds.
    async fn ended_in(&self, id: StreamId, group: u64, until: u64) -> Result<Ended, QueueError> {
        let place = |malformed| damaged("the ended runs of a queue", malformed);
        let prefix = codec::group_prefix(group);
        let mut ended = Ended {
            due: Vec::new(),
            is_whole: true,
        };
        let mut after = None;
        loop {
            let engine = &self.shared.engine;
            let page = engine
                .controls_behind(id, prefix.clone(), after, DELETED_MAX)
                .await?;
            let is_last = page.len() < DELETED_MAX;
            after = page.last().map(|(key, _)| key.clone());
            for (key, value) in page {
                let end = codec::decode_end(&value).map_err(place)?;
                if end.at.as_millis() > until {
                    ended.is_whole = false;
                    continue;
                }
                let run = codec::stream_of(&key, &prefix).map_err(place)?;
                ended.due.push((key, run, end));
                if ended.due.len() == DELETED_MAX {
                    return Ok(ended);
                }
            }
            if is_last {
                return Ok(ended);
            }
        }
    }

    async fn delete_runs(
        &self,
        turn: &mut Turn,
        due: Vec<DueRun>,
        group: u64,
        pending: &mut Pending,
    ) -> Result<(), QueueError> {
        let mut controls: Vec<_> = due.iter().map(|(key, ..)| (key.clone(), None)).collect();
        let key = Bytes::from_static(codec::ENDED_FROM_KEY);
        controls.push((key, Some(codec::encode_number(group))));
        let deletes = self.still_runs(turn, due).await?;
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

    /// The names of those that are still there: others may have been deleted, and their names used anew.
    async fn still_runs(&self, turn: &Turn, due: Vec<DueRun>) -> Result<Vec<StreamName>, QueueError> {
        let (held, began_at) = self.hold_due(due).await?;
        let (still, settling) = self.shared.engine.together(&held, |draft| {
            let is_run = |nth: usize| {
                let state = draft.state(nth);
                state.is_some_and(|state| {
                    let is_ours = state.beside.as_ref() == Some(&turn.queue.stream);
                    let is_the_same = state.created_at == began_at[nth];
                    state.kind == StreamKind::Run && state.closed && is_ours && is_the_same
                })
            };
            let still: Vec<bool> = (0..held.len()).map(is_run).collect();
            Ok::<_, QueueError>(still)
        })?;
        super::pending::outcome(settling.settled().await)?;
        let still = held.iter().zip(still).filter(|(_, still)| *still);
        Ok(still.map(|(held, _)| held.name().clone()).collect())
    }

    /// Holds runs whose time is over, and answers when each began. One that is damaged is left where it is, so that all others
    /// can go.
    async fn hold_due(&self, due: Vec<DueRun>) -> Result<(Vec<Held>, Vec<Timestamp>), QueueError> {
        let (names, began_at): (Vec<_>, Vec<_>) =
            due.into_iter().map(|(_, run, end)| (run, end.began_at)).unzip();
        let engine = &self.shared.engine;
        match engine.hold(&names).await.map_err(QueueError::from) {
            Err(error) if error.is_damage() => {}
            held => return Ok((held?, began_at)),
        }
        let mut readable = (Vec::new(), Vec::new());
        for (name, began_at) in names.into_iter().zip(began_at) {
            match engine
                .hold(std::slice::from_ref(&name))
                .await
                .map_err(QueueError::from)
            {
                Err(error) if error.is_damage() => {
                    tracing::error!(run = %name, %error, "an ended run cannot be deleted, and stays");
                }
                held => {
                    readable.0.extend(held?);
                    readable.1.push(began_at);
                }
            }
        }
        Ok(readable)
    }
}
