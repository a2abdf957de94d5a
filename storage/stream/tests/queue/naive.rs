//! A queue as one would write it down without a thought for speed: a list of jobs.

use tailwater_stream::queue::RunState;

use super::event::{ATTEMPTS_MAX, BASE_MS, CAP_MS, Counts, Ends, Event, LEASE_MS, Message, Run, Said, Shape};

#[derive(Debug, Clone)]
struct Job {
    value: Option<u8>,
    enqueued_at: u64,
    until: u64,
    /// Its time has come, and was seen to have come.
    is_woken: bool,
    /// It is ready where it stands in the stream: that is not forgotten.
    is_plain: bool,
    attempt: u32,
    epoch: u64,
    started_at: Option<u64>,
    lease: Option<Lease>,
    settled: Option<(u64, u64, Ends)>,
    state: RunState,
}

#[derive(Debug, Clone)]
struct Lease {
    ends_ms: u64,
    cancel: bool,
}

/// A lease that somebody was given, by the job's number.
struct Given {
    job: usize,
    epoch: u64,
    next_seq: u64,
    /// The call that ended it, if it was taken.
    settled: Option<(u64, Ends, RunState)>,
}

pub(crate) struct Naive {
    shape: Shape,
    jobs: Vec<Job>,
    given: Vec<Given>,
    /// Jobs without keys expire in order, so times of messages that go back are left out of this.
    newest_message_ms: u64,
    wall_ms: u64,
    monotonic_ms: u64,
    paused: bool,
    dead: u64,
    duplicates: u64,
}

impl Naive {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            jobs: Vec::new(),
            given: Vec::new(),
            newest_message_ms: 0,
            wall_ms: 1_000_000,
            monotonic_ms: 0,
            paused: false,
            dead: 0,
            duplicates: 0,
        }
    }

    pub(crate) fn step(&mut self, event: &Event) -> Said {
        self.look();
        let said = self.happen(event);
        self.look();
        said
    }

    fn happen(&mut self, event: &Event) -> Said {
        match event {
            Event::Enqueue { messages } => {
                let known = self.jobs.len();
                self.newest_message_ms = self.newest_message_ms.max(self.wall_ms);
                messages.iter().for_each(|message| self.enqueue(*message, known));
                Said::Nothing
            }
            Event::Claim { count, .. } => self.claim(*count),
            Event::Log { back } => self.log(*back),
            Event::Beat { back } => self.beat(*back),
            Event::Settle { back, ends } => self.settle(*back, *ends),
            Event::Cancel { run } => self.cancel(*run),
            Event::Pause { paused } => {
                self.paused = *paused;
                Said::Nothing
            }
            Event::Purge { all } => {
                for number in 0..self.jobs.len() {
                    let job = &self.jobs[number];
                    let is_due = job.is_plain || job.until <= self.wall_ms;
                    if *all || (job.lease.is_none() && is_due) {
                        self.cancel(number);
                    }
                }
                Said::Nothing
            }
            Event::Wait { ms } => {
                self.wall_ms += ms;
                self.monotonic_ms += ms;
                Said::Nothing
            }
            Event::SetBack { ms } => {
                self.wall_ms = self.wall_ms.saturating_sub(*ms);
                Said::Nothing
            }
            Event::Restart => {
                let (wall_ms, monotonic_ms) = (self.wall_ms, self.monotonic_ms);
                for job in &mut self.jobs {
                    job.is_woken = job.until <= wall_ms;
                    if let Some(lease) = &mut job.lease {
                        lease.ends_ms = monotonic_ms + LEASE_MS;
                    }
                }
                Said::Nothing
            }
        }
    }

    fn enqueue(&mut self, message: Message, known: usize) {
        match message {
            Message::Job { value, later_ms } => self.jobs.push(Job {
                value,
                enqueued_at: self.newest_message_ms,
                until: if later_ms == 0 { 0 } else { self.wall_ms + later_ms },
                is_woken: later_ms == 0,
                is_plain: later_ms == 0,
                attempt: 0,
                epoch: 0,
                started_at: None,
                lease: None,
                settled: None,
                state: RunState::Queued,
            }),
            Message::Again { run, .. } if run >= known => {}
            Message::Again {
                other_payload: false, ..
            } => self.duplicates += 1,
            Message::Again { .. } | Message::Invalid => self.dead += 1,
        }
    }

    fn claim(&mut self, count: usize) -> Said {
        let mut claimed = Vec::new();
        while claimed.len() < count && !self.paused {
            let leased = self.jobs.iter().filter(|job| job.lease.is_some()).count();
            if self.shape.concurrency.is_some_and(|most| leased >= most as usize) {
                break;
            }
            let Some(number) = (0..self.jobs.len()).find(|number| self.may_be_leased(*number)) else {
                break;
            };
            let (wall_ms, ends_ms) = (self.wall_ms, self.monotonic_ms + LEASE_MS);
            let job = &mut self.jobs[number];
            job.attempt += 1;
            job.epoch += 1;
            job.started_at.get_or_insert(wall_ms);
            job.is_plain = false;
            job.lease = Some(Lease {
                ends_ms,
                cancel: false,
            });
            job.settled = None;
            job.state = RunState::Leased;
            claimed.push((number, job.attempt, job.epoch));
            self.given.push(Given {
                job: number,
                epoch: job.epoch,
                next_seq: 1,
                settled: None,
            });
        }
        Said::Claimed(claimed)
    }

    fn may_be_leased(&self, number: usize) -> bool {
        let job = &self.jobs[number];
        let is_ready = !job.state.has_ended() && job.lease.is_none() && (job.is_plain || job.is_woken);
        let has_room = match (self.shape.per_value, job.value) {
            (Some(most), Some(value)) => {
                let same = |other: &&Job| other.lease.is_some() && other.value == Some(value);
                self.jobs.iter().filter(same).count() < most as usize
            }
            _ => true,
        };
        is_ready && has_room
    }

    fn holder(&self, back: usize) -> Option<(usize, usize, bool)> {
        let given = self.given.len().checked_sub(back + 1)?;
        let Given { job, epoch, .. } = self.given[given];
        let holds = self.jobs[job].lease.is_some() && self.jobs[job].epoch == epoch;
        Some((given, job, holds))
    }

    fn log(&mut self, back: usize) -> Said {
        match self.holder(back) {
            None => Said::Nothing,
            Some((_, _, false)) => Said::Refused,
            Some((given, _, true)) => {
                self.given[given].next_seq += 1;
                Said::Accepted
            }
        }
    }

    fn beat(&mut self, back: usize) -> Said {
        let ends_ms = self.monotonic_ms + LEASE_MS;
        match self.holder(back) {
            None => Said::Nothing,
            Some((_, job, true)) => {
                let lease = self.jobs[job].lease.as_mut().expect("held");
                lease.ends_ms = ends_ms;
                Said::Beat { cancel: lease.cancel }
            }
            Some((_, _, false)) => Said::Refused,
        }
    }

    fn settle(&mut self, back: usize, ends: Ends) -> Said {
        let Some((given, number, holds)) = self.holder(back) else {
            return Said::Nothing;
        };
        let Given {
            epoch,
            next_seq,
            settled,
            ..
        } = self.given[given];
        if !holds {
            // The very same call again, before anybody else had the job.
            let job = &self.jobs[number];
            let same = |(seq, before, _): &(u64, Ends, RunState)| {
                *seq == next_seq && std::mem::discriminant(before) == std::mem::discriminant(&ends)
            };
            return match settled.filter(same) {
                Some(_) if !job.state.has_ended() && job.settled.is_some() && job.epoch == epoch + 1 => {
                    Said::State(job.state)
                }
                _ => Said::Refused,
            };
        }
        let job = &mut self.jobs[number];
        let cancel = job.lease.take().is_some_and(|lease| lease.cancel);
        let wait_ms = |attempt: u32, after_ms: Option<u64>| {
            after_ms.unwrap_or_else(|| (BASE_MS << (attempt - 1).min(20)).min(CAP_MS))
        };
        let (until, gives_back) = match ends {
            Ends::Complete => {
                job.state = RunState::Succeeded;
                (None, false)
            }
            _ if cancel => {
                job.state = RunState::Cancelled;
                (None, false)
            }
            Ends::Fail { retry, .. } if !retry || job.attempt >= ATTEMPTS_MAX => {
                job.state = RunState::Dead;
                self.dead += 1;
                (None, false)
            }
            Ends::Fail { after_ms, .. } => (Some(self.wall_ms + wait_ms(job.attempt, after_ms)), false),
            Ends::Release => (Some(self.wall_ms), true),
        };
        if let Some(until) = until {
            job.attempt -= u32::from(gives_back);
            job.epoch += 1;
            job.until = until;
            job.is_woken = false;
            job.settled = Some((epoch, next_seq, ends));
            job.state = if job.attempt == 0 {
                RunState::Queued
            } else {
                RunState::Retrying
            };
        }
        let state = job.state;
        self.given[given].settled = Some((next_seq, ends, state));
        Said::State(state)
    }

    fn cancel(&mut self, run: usize) -> Said {
        let Some(job) = self.jobs.get_mut(run).filter(|job| !job.state.has_ended()) else {
            return Said::Nothing;
        };
        match &mut job.lease {
            Some(lease) => lease.cancel = true,
            None => job.state = RunState::Cancelled,
        }
        Said::State(job.state)
    }

    /// Ends what is overdue, and sees whose time has come.
    fn look(&mut self) {
        for number in 0..self.jobs.len() {
            let job = &mut self.jobs[number];
            if job.state.has_ended() {
                continue;
            }
            if let Some(lease) = job
                .lease
                .clone()
                .filter(|lease| lease.ends_ms <= self.monotonic_ms)
            {
                job.lease = None;
                job.epoch += 1;
                job.settled = None;
                if lease.cancel {
                    job.state = RunState::Cancelled;
                } else if job.attempt >= ATTEMPTS_MAX {
                    job.state = RunState::Dead;
                    self.dead += 1;
                } else {
                    job.state = RunState::Retrying;
                    job.until = self.wall_ms + (BASE_MS << (job.attempt - 1)).min(CAP_MS);
                    job.is_woken = false;
                }
            }
        }
        for job in &mut self.jobs {
            if job.state.has_ended() {
                continue;
            }
            let is_late = match job.started_at {
                Some(at) => self
                    .shape
                    .run_timeout_ms
                    .is_some_and(|ms| at + ms <= self.wall_ms),
                None => {
                    let ttl_ms = self.shape.start_ttl_ms;
                    ttl_ms.is_some_and(|ms| job.enqueued_at.max(job.until) + ms <= self.wall_ms)
                }
            };
            if is_late {
                job.epoch += u64::from(job.lease.take().is_some());
                job.state = match job.started_at {
                    Some(_) => RunState::TimedOut,
                    None => RunState::Expired,
                };
            }
            job.is_woken |= job.until <= self.wall_ms;
        }
    }

    pub(crate) fn runs(&self) -> Vec<Run> {
        let run = |job: &Job| Run {
            state: job.state,
            attempt: job.attempt,
            epoch: job.epoch,
        };
        self.jobs.iter().map(run).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            leased: u32::try_from(self.jobs.iter().filter(|job| job.lease.is_some()).count()).expect("few"),
            open: self.jobs.iter().filter(|job| !job.state.has_ended()).count(),
            dead: self.dead,
            duplicates: self.duplicates,
        }
    }
}
