//! Which of the jobs that have keys is next, and when to look again. All of it follows from the jobs themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::config::QueueConfig;
use super::job::{JobPhase, OpenJob};
use crate::expiry::Timestamp;
use crate::offset::Position;

/// Jobs with an equal value at the concurrency key.
#[derive(Debug, Clone, Default)]
struct Lane {
    /// How many of them workers have.
    leased: u32,
    /// Those that are ready.
    waiting: BTreeSet<Position>,
    /// The one of `waiting` that may be given to a worker.
    head: Option<Position>,
}

/// The order of those jobs of a queue that have keys, and their times.
#[derive(Debug, Clone)]
pub struct Index {
    /// How many jobs with an equal value may be leased at once; none if no value is looked at.
    leases_per_value: Option<u32>,
    leased: u32,
    /// Jobs whose time had not come when it was last looked at.
    later: BTreeSet<(Timestamp, Position)>,
    /// Jobs that may be given to a worker.
    ready: BTreeSet<Position>,
    lanes: HashMap<Box<str>, Lane, RandomState>,
    /// Ready jobs in lanes, those that may be given to a worker included.
    in_lanes: usize,
    lease_ends: BTreeSet<(u64, Position)>,
    lease_end_of: HashMap<Position, u64, RandomState>,
    /// When runs end because they take too long, or were not begun.
    run_ends: BTreeSet<(Timestamp, Position)>,
}

impl Index {
    pub(super) fn new(leases_per_value: Option<u32>) -> Self {
        Self {
            leases_per_value,
            leased: 0,
            later: BTreeSet::new(),
            ready: BTreeSet::new(),
            lanes: HashMap::default(),
            in_lanes: 0,
            lease_ends: BTreeSet::new(),
            lease_end_of: HashMap::default(),
            run_ends: BTreeSet::new(),
        }
    }

    /// How many jobs workers have.
    pub fn leased(&self) -> u32 {
        self.leased
    }

    /// Jobs whose time has not come.
    pub fn later(&self) -> usize {
        self.later.len()
    }

    /// Ready jobs that only their concurrency key holds back.
    pub fn held(&self) -> usize {
        let heads = self.lanes.values().filter(|lane| lane.head.is_some()).count();
        self.in_lanes - heads
    }

    /// Ready jobs that have concurrency keys, whether these hold them back or not.
    pub(super) fn in_lanes(&self) -> usize {
        self.in_lanes
    }

    /// Jobs that may be given to a worker, in order.
    pub fn ready(&self) -> impl Iterator<Item = Position> + '_ {
        self.ready.iter().copied()
    }

    /// The first of them.
    pub fn next_ready(&self) -> Option<Position> {
        self.ready.first().copied()
    }

    /// Whether another job with this value may be leased.
    pub fn has_room(&self, value: Option<&str>) -> bool {
        match (self.leases_per_value, value) {
            (Some(most), Some(value)) => self.lanes.get(value).is_none_or(|lane| lane.leased < most),
            _ => true,
        }
    }

    /// When a lease ends, by the monotonic clock.
    pub fn lease_ends_ms(&self, position: Position) -> Option<u64> {
        self.lease_end_of.get(&position).copied()
    }

    /// The lease that ends first, and when.
    pub fn first_lease_end(&self) -> Option<(u64, Position)> {
        self.lease_ends.first().copied()
    }

    /// The run that takes too long first, and from when on.
    pub fn first_run_end(&self) -> Option<(Timestamp, Position)> {
        self.run_ends.first().copied()
    }

    /// When a job's time comes next.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.later.first().map(|(until, _)| *until)
    }

    pub(super) fn set_lease_end(&mut self, position: Position, at_ms: Option<u64>) {
        if let Some(known) = self.lease_end_of.remove(&position) {
            self.lease_ends.remove(&(known, position));
        }
        if let Some(at_ms) = at_ms {
            self.lease_ends.insert((at_ms, position));
            self.lease_end_of.insert(position, at_ms);
        }
    }

    pub(super) fn insert(&mut self, position: Position, job: &OpenJob, config: &QueueConfig) {
        match &job.phase {
            JobPhase::Waiting { until, .. } => {
                self.later.insert((*until, position));
            }
            JobPhase::Leased { .. } => {
                self.leased += 1;
                self.change_lane(job, |lane| lane.leased += 1);
            }
            JobPhase::Passed => {}
        }
        self.run_ends
            .extend(run_end(job, config).map(|at| (at, position)));
    }

    pub(super) fn remove(&mut self, position: Position, job: &OpenJob, config: &QueueConfig) {
        match &job.phase {
            JobPhase::Waiting { until, .. } => {
                if !self.later.remove(&(*until, position)) {
                    self.ready.remove(&position);
                    let mut was_there = false;
                    self.change_lane(job, |lane| was_there = lane.waiting.remove(&position));
                    self.in_lanes -= usize::from(was_there);
                }
            }
            JobPhase::Leased { .. } => {
                self.leased -= 1;
                self.change_lane(job, |lane| lane.leased -= 1);
                self.set_lease_end(position, None);
            }
            JobPhase::Passed => {}
        }
        if let Some(at) = run_end(job, config) {
            self.run_ends.remove(&(at, position));
        }
    }

    /// Has jobs whose time has come stand among those that are ready.
    pub(super) fn wake(&mut self, now: Timestamp, jobs: &BTreeMap<Position, OpenJob>) {
        while let Some((until, position)) = self.later.first().copied() {
            if until > now {
                return;
            }
            self.later.pop_first();
            let job = jobs.get(&position).expect("what waits has a key");
            let mut is_in_lane = false;
            self.change_lane(job, |lane| is_in_lane = lane.waiting.insert(position));
            if is_in_lane {
                self.in_lanes += 1;
            } else {
                self.ready.insert(position);
            }
        }
    }

    /// Changes the lane of a job, if it has one, and brings its head up to date.
    fn change_lane(&mut self, job: &OpenJob, change: impl FnOnce(&mut Lane)) {
        let (Some(most), Some(value)) = (self.leases_per_value, &job.value) else {
            return;
        };
        let lane = self.lanes.entry(value.clone()).or_default();
        change(lane);
        let head = lane.waiting.first().copied().filter(|_| lane.leased < most);
        if head != lane.head {
            if let Some(before) = lane.head {
                self.ready.remove(&before);
            }
            self.ready.extend(head);
            lane.head = head;
        }
        if lane.leased == 0 && lane.waiting.is_empty() {
            self.lanes.remove(value);
        }
    }
}

/// When a run ends because it takes too long, or was not begun.
fn run_end(job: &OpenJob, config: &QueueConfig) -> Option<Timestamp> {
    if job.is_passed() {
        return None;
    }
    match job.started_at {
        Some(at) => config.run_timeout_ms.map(|timeout_ms| at.plus_millis(timeout_ms)),
        None => config.start_ttl_ms.and_then(|ttl_ms| job.start_by(ttl_ms)),
    }
}
