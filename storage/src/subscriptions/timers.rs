//! When subscriptions are to be looked at again: ends of leases, and wakes that are tried again. One time for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use tailwater_stream::Timestamp;
use tokio::sync::Notify;

use super::opened::Opened;
use crate::sync::Mutex;

/// A place among the timers.
pub(super) type TimerKey = (Timestamp, u64);

#[derive(Default)]
struct Queue {
    by_time: BTreeMap<TimerKey, Weak<Opened>>,
    count: u64,
}

/// Times at which subscriptions are due. There are at most as many as subscriptions.
#[derive(Default)]
pub(super) struct Timers {
    queue: Mutex<Queue>,
    earlier: Notify,
}

impl Timers {
    /// Puts a subscription's time in place of the one that it had.
    pub(super) fn set(&self, opened: &Arc<Opened>, timer: &mut Option<TimerKey>, at: Option<Timestamp>) {
        if timer.map(|(at, _)| at) == at {
            return;
        }
        let mut queue = self.queue.lock();
        if let Some(key) = timer.take() {
            queue.by_time.remove(&key);
        }
        let Some(at) = at else { return };
        queue.count += 1;
        let key = (at, queue.count);
        queue.by_time.insert(key, Arc::downgrade(opened));
        *timer = Some(key);
        let is_first = queue
            .by_time
            .first_key_value()
            .is_some_and(|(first, _)| *first == key);
        drop(queue);
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Takes those out that are due. Their turns do not know, and set their times anew.
    pub(super) fn due(&self, now: Timestamp) -> Vec<Arc<Opened>> {
        let mut queue = self.queue.lock();
        let later = queue.by_time.split_off(&(now.plus_millis(1), 0));
        let due = std::mem::replace(&mut queue.by_time, later);
        due.into_values().filter_map(|opened| opened.upgrade()).collect()
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.queue
            .lock()
            .by_time
            .first_key_value()
            .map(|((at, _), _)| *at)
    }

    /// Waits until there may be an earlier time than before.
    pub(super) async fn earlier(&self) {
        self.earlier.notified().await;
    }
}
