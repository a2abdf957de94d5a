//! What is told of queues: how many jobs stand where, and how fast they go.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tailwater_stream::queue::{Counters, JobPhase};
use tailwater_stream::{OffsetToken, QueueConfig, StreamName, Timestamp};

use super::Queues;
use super::error::QueueError;
use super::opened::{Opened, Turn};
use super::rates::RatesNow;
use crate::page::page;

/// How many jobs of a queue stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gauges {
    /// Whether nothing is given to workers.
    pub paused: bool,
    /// Jobs that may be given to workers.
    pub ready: u64,
    /// Jobs that workers have.
    pub leased: u64,
    /// Jobs that nobody has begun, and whose time has not come.
    pub scheduled: u64,
    /// Jobs that were begun, and wait for another attempt.
    pub retrying: u64,
    /// Jobs that only their concurrency key holds back.
    pub held: u64,
    /// Workers that wait for a job.
    pub waiting_workers: u64,
    /// Dead letters that were neither redriven nor purged.
    pub dead: u64,
    /// How long some job has waited that could be given to a worker, since it could be: the longest time, in milliseconds.
    pub oldest_age_ms: u64,
    /// What has become of jobs since the queue was made.
    pub counters: Counters,
}

/// A queue as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Its stream.
    pub stream: StreamName,
    /// What it was made with.
    pub config: QueueConfig,
    /// When.
    pub created_at: Timestamp,
    /// How many jobs stand where.
    pub gauges: Gauges,
    /// How fast they go.
    pub rates: RatesNow,
    /// Messages before it were looked at.
    pub admitted: OffsetToken,
    /// Jobs behind it and before `admitted` were given to nobody, unless they have left their order.
    pub taken: OffsetToken,
}

impl Queues {
    /// A queue as it is now.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn get(&self, queue: &StreamName) -> Result<Described, QueueError> {
        let opened = self.find(queue).await?;
        let mut turn = opened.lock().await;
        let turn = turn.as_mut().ok_or(QueueError::NotFound)?;
        Ok(self.describe(turn))
    }

    /// Queues in the order of their names, behind `after`, at most `count_max`, and whether more follow.
    pub async fn list(&self, after: Option<&StreamName>, count_max: usize) -> (Vec<Described>, bool) {
        let (listed, more) = page(&self.shared.all.lock(), after, count_max);
        let mut described = Vec::with_capacity(listed.len());
        for opened in listed {
            // One that is being made is none yet.
            if let Some(turn) = opened.lock().await.as_mut() {
                described.push(self.describe(turn));
            }
        }
        (described, more)
    }

    /// The first `count_max` queues in the order of their names, and what was last counted of each. Does not wait.
    pub fn gauges(&self, count_max: usize) -> Vec<(StreamName, Gauges)> {
        let all: Vec<_> = {
            let all = self.shared.all.lock();
            all.values().take(count_max).map(Arc::clone).collect()
        };
        let now = self.shared.engine.now();
        let gauges = all.into_iter().map(|opened| {
            match opened.turn.try_lock().as_deref() {
                Ok(Some(turn)) => *opened.gauges.lock() = count(turn, now),
                Ok(None) => {}
                // Turn may follow turn for as long as there is work, with no time in between.
                Err(_) => opened.is_to_count.store(true, Ordering::Relaxed),
            }
            let gauges = *opened.gauges.lock();
            (opened.name.clone(), gauges)
        });
        gauges.collect()
    }

    /// Counts what is there, if somebody asked for that while it was this turn.
    pub(super) fn count_if_asked(&self, opened: &Opened, turn: &Turn) {
        if opened.is_to_count.swap(false, Ordering::Relaxed) {
            *opened.gauges.lock() = count(turn, self.shared.engine.now());
        }
    }

    pub(super) fn describe(&self, turn: &mut Turn) -> Described {
        let engine = &self.shared.engine;
        let counters = turn.queue.state().counters;
        let rates = turn.rates.now(engine.monotonic_ms(), counters);
        let state = turn.queue.state();
        let token = |position| turn.reader.incarnation().token(position);
        Described {
            stream: turn.queue.stream.clone(),
            config: turn.queue.config().clone(),
            created_at: turn.created_at,
            gauges: count(turn, engine.now()),
            rates,
            admitted: token(state.admitted.position),
            taken: token(state.taken.position),
        }
    }
}

fn count(turn: &Turn, now: Timestamp) -> Gauges {
    let queue = &turn.queue;
    let state = queue.state();
    let mut gauges = Gauges {
        paused: state.paused,
        leased: u64::from(queue.index().leased()),
        held: queue.index().held() as u64,
        waiting_workers: turn
            .claimants
            .iter()
            .filter(|claimant| !claimant.answer.is_closed())
            .count() as u64,
        dead: state.dead_letters,
        counters: state.counters,
        ..Gauges::default()
    };
    let mut oldest = queue.ahead().front().map(|job| job.ready_at);
    let mut due = 0;
    for job in queue.jobs().values() {
        let JobPhase::Waiting { until, .. } = job.phase else {
            continue;
        };
        if until <= now {
            due += 1;
            let since = job.ready_at.max(until);
            oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
        } else if job.attempt == 0 {
            gauges.scheduled += 1;
        } else {
            gauges.retrying += 1;
        }
    }
    gauges.ready = (queue.unkeyed() + due).saturating_sub(gauges.held);
    gauges.oldest_age_ms = oldest.map_or(0, |oldest| now.millis_since(oldest));
    gauges
}
