//! The rules of a schedule: when it fires, and what is left to do after a pause of the process or a step of the clock. Pure:
//! time and chance come in, and whoever runs it appends and stores.
//!
//! A fire is **begun**, then appended as the only request of a producer's epoch that is its number, then **done**; each step
//! is stored before the next is made. Whatever a crash interrupts is done again, and the stream knows a repeated append.
//!
//! | file | what stands there |
//! |---|---|
//! | `id.rs` | names of schedules |
//! | `config.rs` | what a client asks for |
//! | `times.rs` | fire times of a cron expression, in a time zone |
//! | `state.rs` | how far it has come |

mod config;
mod id;
mod state;
mod times;

pub use config::{EnqueueAs, Misfire, ScheduleConfig};
pub use id::ScheduleId;
pub use state::{Fired, ScheduleState, Trouble};
pub use times::{CRON_BYTES_MAX, CronRefusal, FireTimes};

use crate::expiry::Timestamp;
use crate::subscription::retry::pause_ms;

/// No pause between attempts is longer, with its part of chance.
const PAUSE_MS_MAX: u64 = 2 * 60_000;

/// The limits that the rules enforce on one schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleLimits {
    /// A fire time that is longer ago has passed, and what is done is up to [`Misfire`].
    pub misfire_after_ms: u64,
    /// Fire times that passed and are made up for at once; of more, the last ones.
    pub make_up_max: u64,
}

/// A fire, to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fire {
    /// The how-manieth it is, from 1 on. No two fires that were appended have the same one.
    pub number: u64,
    /// Its fire time.
    pub at: Timestamp,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing before a time; nothing at all if there is none.
    Wait(Option<Timestamp>),
    /// A state is to be stored, and to be looked at again then.
    Store {
        /// The state.
        state: ScheduleState,
        /// Whether fire times had passed, so that [`Misfire`] said what is done.
        has_misfired: bool,
    },
    /// This fire is to be appended. What became of it is told by [`Schedule::done`] or [`Schedule::failed`].
    Append(Fire),
}

/// A schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// What was asked for.
    pub config: ScheduleConfig,
    /// How far it has come.
    pub state: ScheduleState,
    times: FireTimes,
}

impl Schedule {
    /// A schedule that has come this far. `times` are those of its expression and its time zone.
    pub fn new(config: ScheduleConfig, times: FireTimes, state: ScheduleState) -> Self {
        Self { config, state, times }
    }

    /// What is to be done at `now`.
    pub fn step(&self, now: Timestamp, limits: ScheduleLimits) -> Step {
        if self.config.paused {
            return Step::Wait(None);
        }
        if let Some(at) = self.state.begun {
            return match self.next_attempt_at(now) {
                Some(later) => Step::Wait(Some(later)),
                None => Step::Append(Fire {
                    number: self.state.fires + 1,
                    at,
                }),
            };
        }
        let Some(next) = self.next() else {
            return Step::Wait(None);
        };
        if next > now {
            return Step::Wait(Some(next));
        }
        let is_made_up_for = self.state.making_up_until.is_some_and(|until| next <= until);
        if is_made_up_for || now.millis_since(next) <= limits.misfire_after_ms {
            return Step::Store {
                state: self.begun(next),
                has_misfired: false,
            };
        }
        Step::Store {
            state: self.after_misfire(next, now, limits),
            has_misfired: true,
        }
    }

    /// The next fire time, whatever the clock shows.
    pub fn next(&self) -> Option<Timestamp> {
        let from = match self.config.start_at {
            Some(start_at) => {
                let before = Timestamp::from_millis(start_at.as_millis().saturating_sub(1));
                self.state.settled.max(before)
            }
            None => self.state.settled,
        };
        let next = self.times.after(from)?;
        self.config
            .end_at
            .is_none_or(|end_at| next < end_at)
            .then_some(next)
    }

    /// The state once the fire that was begun is appended, or is known to have been.
    pub fn done(&self, now: Timestamp) -> ScheduleState {
        let mut state = self.state.clone();
        if let Some(at) = state.begun.take() {
            state.fires += 1;
            state.last = Some(Fired { at, enqueued_at: now });
        }
        state.trouble = None;
        state
    }

    /// The state once it is known that the fire that was begun was not appended. `random` is any number.
    pub fn failed(&self, error: Box<str>, now: Timestamp, random: u64) -> ScheduleState {
        let failures = self
            .state
            .trouble
            .as_ref()
            .map_or(1, |trouble| trouble.failures.saturating_add(1));
        ScheduleState {
            trouble: Some(Trouble {
                failures,
                next_attempt_at: now.plus_millis(pause_ms(failures, random)),
                failed_at: now,
                error,
            }),
            ..self.state.clone()
        }
    }

    /// The schedule once something else is asked of it. A fire that was begun must not be on its way.
    ///
    /// Fire times that passed before are those of another schedule, or of a pause, and are not looked at again.
    #[must_use]
    pub fn changed(&self, config: ScheduleConfig, times: FireTimes, now: Timestamp) -> Self {
        let mut state = self.state.clone();
        let fires_anew = !config.fires_like(&self.config) || (self.config.paused && !config.paused);
        if fires_anew {
            state.settled = state.settled.max(now);
            state.making_up_until = None;
        }
        if fires_anew || config.paused {
            state.begun = None;
        }
        state.trouble = None;
        Self { config, state, times }
    }

    /// The message of a fire, as JSON.
    pub fn message(&self, id: &ScheduleId, fire: Fire) -> String {
        match self.config.enqueue_as {
            EnqueueAs::Message => self.config.payload.to_string(),
            EnqueueAs::Job => {
                let job = serde_json::Value::from(format!("{id}-{}", times::text(fire.at)));
                format!("{{\"payload\":{},\"id\":{job}}}", self.config.payload)
            }
        }
    }

    /// When a fire that could not be appended is tried again; none if that is now. A clock that was set back makes nobody
    /// wait for longer than a pause lasts.
    fn next_attempt_at(&self, now: Timestamp) -> Option<Timestamp> {
        let at = self.state.trouble.as_ref()?.next_attempt_at;
        (now < at && at.millis_since(now) <= PAUSE_MS_MAX).then_some(at)
    }

    fn begun(&self, at: Timestamp) -> ScheduleState {
        ScheduleState {
            settled: at,
            begun: Some(at),
            ..self.state.clone()
        }
    }

    /// What becomes of fire times from `first` on that have passed by `now`.
    fn after_misfire(&self, first: Timestamp, now: Timestamp, limits: ScheduleLimits) -> ScheduleState {
        let late = now.as_millis().saturating_sub(limits.misfire_after_ms + 1);
        let late = match self.config.end_at {
            Some(end_at) => late.min(end_at.as_millis().saturating_sub(1)),
            None => late,
        };
        let last = self.times.until(Timestamp::from_millis(late));
        let last = last.unwrap_or(first).max(first);
        match self.config.misfire {
            Misfire::Skip => ScheduleState {
                settled: last,
                ..self.state.clone()
            },
            Misfire::Once => self.begun(last),
            Misfire::All => ScheduleState {
                making_up_until: Some(last),
                ..self.begun(self.first_made_up_for(first, last, limits.make_up_max))
            },
        }
    }

    /// The earliest fire time from `first` on that is among the last `count_max` up to `last`.
    fn first_made_up_for(&self, first: Timestamp, last: Timestamp, count_max: u64) -> Timestamp {
        let mut earliest = last;
        for _ in 1..count_max {
            let before = Timestamp::from_millis(earliest.as_millis().saturating_sub(1));
            match self.times.until(before) {
                Some(earlier) if earlier >= first => earliest = earlier,
                _ => break,
            }
        }
        earliest
    }
}
