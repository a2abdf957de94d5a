//! Lives of schedules: ticks of a clock that is set forward and back, processes that end between any two steps, streams
//! that take nothing for a while. What is enqueued is held against all fire times.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tailwater_stream::schedule::{
    EnqueueAs, Fire, Misfire, Schedule, ScheduleConfig, ScheduleId, ScheduleLimits, ScheduleState, Step,
};
use tailwater_stream::{NameLimits, StreamName, Timestamp};

use super::{at, times};

const LIMITS: ScheduleLimits = ScheduleLimits {
    misfire_after_ms: 5_000,
    make_up_max: 4,
};
const CRON: &str = "*/10 * * * * *";
const PERIOD_MS: u64 = 10_000;
const START: &str = "2026-11-29T11:00:00Z";

fn config(misfire: Misfire) -> ScheduleConfig {
    ScheduleConfig {
        stream: StreamName::parse("jobs", NameLimits::default()).expect("a name"),
        cron: CRON.into(),
        time_zone: "UTC".into(),
        payload: "{\"a\":1}".into(),
        enqueue_as: EnqueueAs::Job,
        misfire,
        paused: false,
        start_at: None,
        end_at: None,
    }
}

/// A schedule whose process may end at any step, and a stream that knows repeated appends.
struct Life {
    stored: ScheduleState,
    config: ScheduleConfig,
    now: Timestamp,
    appended: Vec<Fire>,
    /// Fire times that were due and not longer ago than [`LIMITS`] say when somebody looked.
    seen_in_time: BTreeSet<Timestamp>,
}

#[derive(Debug, Clone)]
enum Event {
    /// Time passes, and the schedule is looked at.
    Tick { ms: u64 },
    /// The clock is set back, and the schedule is looked at.
    SetBack { ms: u64 },
    /// The process ends after so many more steps, and begins again.
    Crash { steps: usize },
    /// The stream takes nothing at the next look.
    Refused,
}

impl Life {
    fn new(misfire: Misfire) -> Self {
        Self {
            stored: ScheduleState::new(at(START)),
            config: config(misfire),
            now: at(START),
            appended: Vec::new(),
            seen_in_time: BTreeSet::new(),
        }
    }

    fn schedule(&self) -> Schedule {
        Schedule::new(self.config.clone(), times(CRON, "UTC"), self.stored.clone())
    }

    /// Takes as many steps as there are, or `steps_max`: a crash leaves what is stored and appended.
    fn look(&mut self, steps_max: usize, is_refused: bool) -> Result<(), TestCaseError> {
        for _ in 0..steps_max {
            match self.schedule().step(self.now, LIMITS) {
                Step::Wait(until) => {
                    prop_assert!(
                        until.is_some_and(|until| until > self.now),
                        "{until:?} at {:?}",
                        self.now
                    );
                    return Ok(());
                }
                Step::Store { state, .. } => {
                    prop_assert!(state.settled > self.stored.settled, "it goes on");
                    self.stored = state;
                }
                Step::Append(_) if is_refused => {
                    self.stored = self.schedule().failed("no".into(), self.now, 0);
                }
                Step::Append(fire) => {
                    self.append(fire)?;
                    // The process may end here.
                    self.stored = self.schedule().done(self.now);
                }
            }
        }
        Ok(())
    }

    /// The stream takes each number once.
    fn append(&mut self, fire: Fire) -> Result<(), TestCaseError> {
        match self.appended.last() {
            Some(last) if last.number == fire.number => {
                prop_assert_eq!(last.at, fire.at, "a number is that of one fire time");
            }
            last => {
                prop_assert_eq!(fire.number, last.map_or(1, |last| last.number + 1));
                self.appended.push(fire);
            }
        }
        Ok(())
    }

    /// Notes which fire times are due and in time, of those that the clock has not shown before.
    fn note_seen(&mut self) {
        let from = self.stored.settled.as_millis();
        let due = (from / PERIOD_MS + 1..).map(|count| count * PERIOD_MS);
        for time in due.take_while(|time| *time <= self.now.as_millis()) {
            if self.now.as_millis() - time <= LIMITS.misfire_after_ms {
                self.seen_in_time.insert(Timestamp::from_millis(time));
            }
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1..4_000_u64).prop_map(|ms| Event::Tick { ms }),
        2 => (4_000..100_000_u64).prop_map(|ms| Event::Tick { ms }),
        1 => (1..60_000_u64).prop_map(|ms| Event::SetBack { ms }),
        2 => (0..5_usize).prop_map(|steps| Event::Crash { steps }),
        1 => Just(Event::Refused),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_fire_time_is_enqueued_once_whatever_happens(
        misfire in prop::sample::select(vec![Misfire::Skip, Misfire::Once, Misfire::All]),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut life = Life::new(misfire);
        let mut crashed_with_work = false;
        for event in events {
            match event {
                Event::Tick { ms } => life.now = life.now.plus_millis(ms),
                Event::SetBack { ms } => life.now = Timestamp::from_millis(life.now.as_millis() - ms),
                Event::Crash { steps } => {
                    life.note_seen();
                    life.look(steps, false)?;
                    crashed_with_work = true;
                    continue;
                }
                Event::Refused => {
                    life.look(usize::MAX, true)?;
                    crashed_with_work = true;
                    continue;
                }
            }
            if !crashed_with_work {
                life.note_seen();
            }
            crashed_with_work = false;
            life.look(usize::MAX, false)?;
        }
        let enqueued: Vec<_> = life.appended.iter().map(|fire| fire.at).collect();
        prop_assert!(enqueued.is_sorted_by(|a, b| a < b), "each once, in order: {enqueued:?}");
        prop_assert!(enqueued.iter().all(|at| at.as_millis() % PERIOD_MS == 0));
        for seen in &life.seen_in_time {
            let is_lost = *seen <= life.stored.settled && life.stored.begun != Some(*seen) && !enqueued.contains(seen);
            // What was in time when the process ended may have passed when the next one looks.
            prop_assert!(!is_lost || misfire != Misfire::All, "{seen:?} is lost");
        }
        prop_assert_eq!(life.stored.fires + u64::from(life.appended.len() as u64 > life.stored.fires), life.appended.len() as u64);
    }

    #[test]
    fn after_a_pause_of_the_process_the_policy_says_what_is_made_up_for(
        misfire in prop::sample::select(vec![Misfire::Skip, Misfire::Once, Misfire::All]),
        away_ms in 0..200_000_u64,
    ) {
        let mut life = Life::new(misfire);
        life.now = life.now.plus_millis(away_ms);
        life.look(usize::MAX, false)?;
        let start = at(START).as_millis();
        let all: Vec<_> = (1..=away_ms / PERIOD_MS).map(|count| start + count * PERIOD_MS).collect();
        let (in_time, passed): (Vec<u64>, Vec<u64>) = all.into_iter().partition(|at| start + away_ms - at <= LIMITS.misfire_after_ms);
        let kept = match misfire {
            Misfire::Skip => 0,
            Misfire::Once => 1,
            Misfire::All => usize::try_from(LIMITS.make_up_max).expect("small"),
        };
        let made_up_for = &passed[passed.len().saturating_sub(kept)..];
        let expected: Vec<_> = made_up_for.iter().chain(&in_time).copied().collect();
        let enqueued: Vec<_> = life.appended.iter().map(|fire| fire.at.as_millis()).collect();
        prop_assert_eq!(enqueued, expected);
    }
}

fn pass_ms(life: &mut Life, ms: u64) {
    life.now = life.now.plus_millis(ms);
    life.look(usize::MAX, false).expect("in order");
}

#[test]
fn a_clock_that_is_set_back_runs_nothing_twice_and_goes_on_where_it_was() {
    let mut life = Life::new(Misfire::All);
    for _ in 0..6 {
        pass_ms(&mut life, PERIOD_MS);
    }
    life.now = at(START);
    for _ in 0..6 {
        pass_ms(&mut life, PERIOD_MS);
    }
    assert_eq!(life.appended.len(), 6);
    pass_ms(&mut life, PERIOD_MS);
    assert_eq!(life.appended.len(), 7);
}

#[test]
fn a_stream_that_takes_nothing_is_tried_again_after_pauses_and_not_after_a_step_of_the_clock() {
    let mut life = Life::new(Misfire::Once);
    life.now = life.now.plus_millis(PERIOD_MS);
    life.look(usize::MAX, true).expect("in order");
    let trouble = life.stored.trouble.clone().expect("it failed");
    assert_eq!(trouble.failures, 1);
    assert!(life.schedule().step(life.now, LIMITS) == Step::Wait(Some(trouble.next_attempt_at)));
    life.now = Timestamp::from_millis(life.now.as_millis() - 3_600_000);
    life.look(usize::MAX, false).expect("in order");
    assert_eq!((life.appended.len(), life.stored.trouble.clone()), (1, None));
}

#[test]
fn start_and_end_bound_the_fire_times() {
    let mut life = Life::new(Misfire::All);
    life.config.start_at = Some(at("2026-11-29T11:00:30Z"));
    life.config.end_at = Some(at("2026-11-29T11:01:00Z"));
    for _ in 0..4 {
        life.now = life.now.plus_millis(PERIOD_MS);
        assert!(life.look_to_the_end());
    }
    life.now = life.now.plus_millis(3_600_000);
    assert!(life.look_to_the_end());
    let enqueued: Vec<_> = life.appended.iter().map(|fire| fire.at).collect();
    assert_eq!(
        enqueued,
        ["30", "40", "50"].map(|second| at(&format!("2026-11-29T11:00:{second}Z")))
    );
}

#[test]
fn what_passed_in_a_pause_or_by_another_expression_is_not_made_up_for() {
    let mut life = Life::new(Misfire::All);
    pass_ms(&mut life, PERIOD_MS);
    let paused = ScheduleConfig {
        paused: true,
        ..life.config.clone()
    };
    life.change(paused);
    life.now = life.now.plus_millis(35_000);
    assert_eq!(life.schedule().step(life.now, LIMITS), Step::Wait(None));
    life.change(config(Misfire::All));
    assert_eq!(
        life.schedule().step(life.now, LIMITS),
        Step::Wait(Some(at("2026-11-29T11:00:50Z")))
    );
    life.now = life.now.plus_millis(20_000);
    let another = ScheduleConfig {
        cron: "0 0 * * *".into(),
        ..config(Misfire::All)
    };
    let changed = life
        .schedule()
        .changed(another, times("0 0 * * *", "UTC"), life.now);
    assert_eq!(
        changed.step(life.now, LIMITS),
        Step::Wait(Some(at("2026-11-30T00:00:00Z")))
    );
    // Another payload is no other schedule: what is due is still due.
    let payload = ScheduleConfig {
        payload: "2".into(),
        ..config(Misfire::All)
    };
    life.change(payload);
    pass_ms(&mut life, 0);
    assert_eq!(life.appended.len(), 3);
}

#[test]
fn a_message_is_an_envelope_with_an_id_of_its_fire_time_or_the_payload() {
    let life = Life::new(Misfire::Once);
    let fire = Fire {
        number: 1,
        at: at("2026-11-29T11:00:10Z"),
    };
    let id = ScheduleId::parse("a \"b\"").expect("an id");
    let schedule = life.schedule();
    let message: serde_json::Value = serde_json::from_str(&schedule.message(&id, fire)).expect("JSON");
    assert_eq!(
        message,
        serde_json::json!({"payload": {"a": 1}, "id": "a \"b\"-2026-11-29T11:00:10Z"})
    );
    let mut schedule = schedule;
    schedule.config.enqueue_as = EnqueueAs::Message;
    assert_eq!(schedule.message(&id, fire), "{\"a\":1}");
}

impl Life {
    /// Takes all steps, of a schedule that may be over.
    fn look_to_the_end(&mut self) -> bool {
        loop {
            match self.schedule().step(self.now, LIMITS) {
                Step::Wait(until) => return until.is_none_or(|until| until > self.now),
                Step::Store { state, .. } => {
                    assert!(state.settled > self.stored.settled, "it goes on");
                    self.stored = state;
                }
                Step::Append(fire) => {
                    self.append(fire).expect("in order");
                    self.stored = self.schedule().done(self.now);
                }
            }
        }
    }

    fn change(&mut self, config: ScheduleConfig) {
        let changed = self
            .schedule()
            .changed(config.clone(), times(CRON, "UTC"), self.now);
        self.config = config;
        self.stored = changed.state;
    }
}
