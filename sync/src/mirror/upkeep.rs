//! What is to be done at the source once rows are committed: closed streams deleted, open ones trimmed. Does none of it
//! itself; time and randomness are arguments.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tailwater_process::Backoff;
use tokio::time::Instant;

use crate::event::{Incarnation, Offset};

/// A stream is trimmed at most this often: a trim is a write at the source, and a batch may bring one for each stream.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

/// One thing to do at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chore {
    /// The stream.
    pub stream: Arc<str>,
    /// Which stream of that name; another one is left alone.
    pub incarnation: Incarnation,
    /// What to do with it.
    pub kind: ChoreKind,
}

/// What is done to a stream at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChoreKind {
    /// It is deleted: all of it is committed.
    Delete,
    /// What is before this offset is forgotten: it is committed.
    Trim(Offset),
}

impl ChoreKind {
    /// As log lines call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Trim(_) => "trim",
        }
    }
}

/// The chores that are not done, at most one for each stream.
#[derive(Debug, Default)]
pub struct Upkeep {
    chores: HashMap<Arc<str>, Due>,
    due: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Due {
    chore: Chore,
    /// None while somebody does it.
    at: Option<Instant>,
    /// Whether the chore has changed since it was given out.
    is_renewed: bool,
    /// Whether it is others' to do. It is kept until the one who does it just now tells of its end.
    is_forgotten: bool,
    /// Whether it has failed last. A trim waits then for as long as was told, whatever is committed meanwhile.
    has_failed: bool,
    backoff: Backoff,
}

impl Upkeep {
    /// Takes a chore in. It takes the place of what the stream had to be done before: a trim goes further, and what is
    /// deleted need not be trimmed.
    pub fn add(&mut self, chore: Chore, now: Instant) {
        let stream = Arc::clone(&chore.stream);
        let at = match chore.kind {
            ChoreKind::Delete => now,
            ChoreKind::Trim(_) => now + TRIM_INTERVAL,
        };
        let Some(due) = self.chores.get_mut(&stream) else {
            self.due.insert((at, Arc::clone(&stream)));
            let due = Due {
                chore,
                at: Some(at),
                is_renewed: false,
                is_forgotten: false,
                has_failed: false,
                backoff: Backoff::default(),
            };
            self.chores.insert(stream, due);
            return;
        };
        due.is_renewed |= due.is_forgotten || due.chore != chore;
        due.is_forgotten = false;
        due.chore = chore;
        let waits = due.has_failed && matches!(due.chore.kind, ChoreKind::Trim(_));
        if let Some(old) = due.at
            && at < old
            && !waits
        {
            due.at = Some(at);
            self.due.remove(&(old, Arc::clone(&stream)));
            self.due.insert((at, stream));
        }
    }

    /// Forgets what is others' to do. The end of what somebody does just now is still to be told, and what is added for
    /// that stream before it waits for it.
    pub fn forget(&mut self, is_others: impl Fn(&str) -> bool) {
        self.chores.retain(|stream, due| {
            if is_others(stream) {
                due.is_forgotten = true;
                due.is_renewed = false;
            }
            !due.is_forgotten || due.at.is_none()
        });
        self.due.retain(|(_, stream)| !is_others(stream));
    }

    /// How many are not done.
    #[must_use]
    pub fn undone(&self) -> usize {
        self.chores.len()
    }

    /// When the next chore is due.
    #[must_use]
    pub fn due_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A chore that is due; what comes of it is to be told by [`Upkeep::done`] or [`Upkeep::failed`].
    pub fn take(&mut self, now: Instant) -> Option<Chore> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        let (_, stream) = self.due.pop_first()?;
        let due = self.chores.get_mut(&stream)?;
        due.at = None;
        due.is_renewed = false;
        Some(due.chore.clone())
    }

    /// A chore is done, or there is no such stream any more.
    pub fn done(&mut self, stream: &Arc<str>, now: Instant) {
        let Some(due) = self.chores.remove(stream) else {
            return;
        };
        if due.is_renewed {
            self.add(due.chore, now);
        }
    }

    /// A chore failed, and is tried again after a while, which is told. `random` is in `0.0..1.0`.
    pub fn failed(
        &mut self,
        stream: &Arc<str>,
        now: Instant,
        random: f64,
        asked: Option<Duration>,
    ) -> Duration {
        if self.chores.get(stream).is_some_and(|due| due.is_forgotten) {
            self.chores.remove(stream);
        }
        let Some(due) = self.chores.get_mut(stream) else {
            return Duration::ZERO;
        };
        let wait = due.backoff.next(random, asked);
        due.has_failed = true;
        due.at = Some(now + wait);
        self.due.insert((now + wait, Arc::clone(stream)));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trim(stream: &str, position: u64) -> Chore {
        Chore {
            stream: stream.into(),
            incarnation: "0000000000000001".parse().expect("an id"),
            kind: ChoreKind::Trim(
                format!("0000000000000001_{position:016}")
                    .parse()
                    .expect("an offset"),
            ),
        }
    }

    fn delete(stream: &str) -> Chore {
        Chore {
            kind: ChoreKind::Delete,
            ..trim(stream, 1)
        }
    }

    #[test]
    fn a_stream_is_trimmed_once_in_a_while_and_then_as_far_as_it_is_committed() {
        let start = Instant::now();
        let mut upkeep = Upkeep::default();
        upkeep.add(trim("a", 10), start);
        upkeep.add(trim("a", 20), start + TRIM_INTERVAL / 2);
        assert_eq!(upkeep.take(start), None);
        let now = start + TRIM_INTERVAL;
        assert_eq!(upkeep.due_at(), Some(now));
        assert_eq!(upkeep.take(now), Some(trim("a", 20)));
        assert_eq!(upkeep.take(now), None, "one at a time");
        upkeep.add(trim("a", 30), now);
        upkeep.done(&"a".into(), now);
        assert_eq!(upkeep.take(now), None);
        assert_eq!(upkeep.take(now + TRIM_INTERVAL), Some(trim("a", 30)));
        upkeep.done(&"a".into(), now);
        assert_eq!(upkeep.due_at(), None);
    }

    #[test]
    fn a_deletion_is_due_at_once_and_takes_the_place_of_a_trim() {
        let now = Instant::now();
        let mut upkeep = Upkeep::default();
        upkeep.add(trim("a", 10), now);
        upkeep.add(delete("a"), now);
        assert_eq!(upkeep.take(now), Some(delete("a")));
        upkeep.done(&"a".into(), now);
        assert_eq!(upkeep.due_at(), None);
    }

    /// A partition was to be given up while one of its streams was trimmed, and came back before that was done: the end
    /// of the trim was taken for that of the deletion that had been added meanwhile, which was never done then.
    #[test]
    fn what_is_added_after_a_chore_under_way_was_forgotten_is_done_behind_its_end() {
        let now = Instant::now();
        let everything = |_: &str| true;
        let mut upkeep = Upkeep::default();
        for has_failed in [false, true] {
            upkeep.add(trim("a", 10), now);
            assert_eq!(upkeep.take(now + TRIM_INTERVAL), Some(trim("a", 10)));
            upkeep.forget(everything);
            upkeep.add(delete("a"), now);
            assert_eq!(upkeep.take(now), None, "one at a time");
            if has_failed {
                let wait = upkeep.failed(&"a".into(), now, 1.0, None);
                assert_eq!(upkeep.take(now + wait), Some(delete("a")));
            } else {
                upkeep.done(&"a".into(), now);
                assert_eq!(upkeep.take(now), Some(delete("a")));
            }
            upkeep.done(&"a".into(), now);
            assert_eq!((upkeep.undone(), upkeep.due_at()), (0, None));
        }
    }

    /// Each commit to an open run asked for a trim anew that the server had refused until the run's end.
    #[test]
    fn a_trim_that_failed_waits_out_its_time_and_a_deletion_does_not() {
        let mut now = Instant::now();
        let mut upkeep = Upkeep::default();
        upkeep.add(trim("a", 10), now);
        for _ in 0..6 {
            now = upkeep.due_at().expect("there is one");
            assert!(upkeep.take(now).is_some());
            upkeep.failed(&"a".into(), now, 1.0, None);
        }
        let due = upkeep.due_at().expect("there is one");
        assert!(due > now + TRIM_INTERVAL);
        upkeep.add(trim("a", 20), now);
        assert_eq!(upkeep.due_at(), Some(due));
        upkeep.add(delete("a"), now);
        assert_eq!(upkeep.take(now), Some(delete("a")));
    }

    #[test]
    fn a_chore_that_was_forgotten_is_not_done_again_however_it_ends() {
        let now = Instant::now();
        let mut upkeep = Upkeep::default();
        for has_failed in [false, true] {
            upkeep.add(delete("a"), now);
            upkeep.add(delete("b"), now);
            assert_eq!(upkeep.take(now), Some(delete("a")));
            upkeep.forget(|_| true);
            if has_failed {
                upkeep.failed(&"a".into(), now, 1.0, None);
            } else {
                upkeep.done(&"a".into(), now);
            }
            assert_eq!((upkeep.undone(), upkeep.due_at()), (0, None));
        }
    }

    #[test]
    fn what_failed_is_tried_again_later_each_time() {
        let mut now = Instant::now();
        let mut upkeep = Upkeep::default();
        upkeep.add(delete("a"), now);
        let mut waits = Vec::new();
        for _ in 0..3 {
            assert_eq!(upkeep.take(now), Some(delete("a")));
            let wait = upkeep.failed(&"a".into(), now, 1.0, None);
            assert_eq!(upkeep.take(now), None);
            now += wait;
            waits.push(wait);
        }
        assert!(waits.is_sorted() && waits[0] < waits[2], "{waits:?}");
    }
}
