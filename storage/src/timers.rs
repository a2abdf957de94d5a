//! When things are to be looked at again: open streams for the ends of their lifetimes, subscriptions for those of their
//! leases and for wakes that are tried again, schedules for their fire times. One time for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tailwater_stream::Timestamp;
use tokio::sync::Notify;

use crate::sync::Mutex;

/// A place among the timers.
pub(crate) type TimerKey = (Timestamp, u64);

struct Queue<T> {
    by_time: BTreeMap<TimerKey, Weak<T>>,
    count: u64,
}

/// Times at which things are due. There are at most as many as things.
pub(crate) struct Timers<T> {
    queue: Mutex<Queue<T>>,
    earlier: Notify,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        let queue = Queue {
            by_time: BTreeMap::new(),
            count: 0,
        };
        Self {
            queue: Mutex::new(queue),
            earlier: Notify::default(),
        }
    }
}

impl<T> Timers<T> {
    /// Puts a thing's time in place of the one that it had.
    pub(crate) fn set(&self, opened: &Arc<T>, timer: &mut Option<TimerKey>, at: Option<Timestamp>) {
        if timer.is_none() && at.is_none() {
            return;
        }
        let mut queue = self.queue.lock();
        // One that was due is no longer there, and may be due at the same time again.
        let is_set = timer.is_some_and(|key| queue.by_time.contains_key(&key));
        if timer.filter(|_| is_set).map(|(at, _)| at) == at {
            return;
        }
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
    pub(crate) fn due(&self, now: Timestamp) -> Vec<Arc<T>> {
        let mut queue = self.queue.lock();
        let later = queue.by_time.split_off(&(now.plus_millis(1), 0));
        let due = std::mem::replace(&mut queue.by_time, later);
        due.into_values().filter_map(|opened| opened.upgrade()).collect()
    }

    /// How many are set.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().by_time.len()
    }

    /// Waits until the earliest time has come by a clock that shows `now`, or there may be an earlier one; for `most_ms` at
    /// the most, since the clock may be set meanwhile.
    pub(crate) async fn wait(&self, now: Timestamp, most_ms: u64) {
        let next = self
            .queue
            .lock()
            .by_time
            .first_key_value()
            .map(|((at, _), _)| *at);
        let wait_ms = next.map_or(most_ms, |at| at.millis_since(now).min(most_ms));
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = self.earlier.notified() => {}
        }
    }
}
