//! A runtime's part for the rules: keeps what is to be stored, reads few messages at a time, and forgets all else when the
//! process ends. Runs judge what is added to them as streams do.

use std::collections::BTreeMap;

use serde_json::json;
use tailwater_stream::producer::ProducerVerdict;
use tailwater_stream::queue::{
    Arrived, Change, Envelope, EnvelopeRefusal, Found, Frontier, Job, JsonText, Now, OpenJob, Purge,
    QueueState, RunEvent, RunState, Word,
};
use tailwater_stream::{
    Epoch, NameLimits, Position, ProducerId, ProducerMark, Producers, Queue, QueueConfig, Seq, StreamName,
    Timestamp,
};

use super::event::{ATTEMPTS_MAX, BASE_MS, CAP_MS, Counts, Ends, Event, LEASE_MS, Message, Run, Said, Shape};

/// How long a message is.
const MESSAGE_BYTES: u64 = 10;
/// Messages that are read at once.
const READ_MESSAGES: usize = 2;

/// What stands in a run's stream.
struct RunStream {
    name: StreamName,
    producers: Producers,
    is_closed: bool,
    ends: usize,
    state: RunState,
    attempt: u32,
}

struct Given {
    run: usize,
    job: Position,
    epoch: u64,
    next_seq: u64,
}

pub(crate) struct Driver {
    config: QueueConfig,
    queue: Queue,
    /// What survives the end of the process.
    state: QueueState,
    jobs: BTreeMap<Position, OpenJob>,
    /// Those messages that are jobs, by number of the message.
    messages: Vec<Option<Job>>,
    runs: Vec<RunStream>,
    given: Vec<Given>,
    newest_message_ms: u64,
    wall_ms: u64,
    monotonic_ms: u64,
    broken: Option<String>,
}

fn name(text: &str) -> StreamName {
    StreamName::parse(text, NameLimits::default()).expect("a name")
}

fn position(message: usize) -> Position {
    Position::new(message as u64 * MESSAGE_BYTES).expect("a position")
}

impl Driver {
    pub(crate) fn new(shape: Shape) -> Self {
        let document = json!({
            "lease_ms": LEASE_MS, "max_attempts": ATTEMPTS_MAX,
            "backoff": { "base_ms": BASE_MS, "cap_ms": CAP_MS, "jitter": 0 },
            "concurrency": shape.concurrency, "concurrency_key": shape.per_value.map(|_| "/v"),
            "concurrency_per_key": shape.per_value, "run_timeout_ms": shape.run_timeout_ms,
            "start_ttl_ms": shape.start_ttl_ms, "run_prefix": "r/",
        });
        let document = document.as_object().expect("an object");
        let config =
            QueueConfig::parse(document, &name("q"), NameLimits::default()).expect("a configuration");
        let mut driver = Self {
            queue: Queue::new(name("q"), config.clone(), QueueState::default(), [], now(0, 0)),
            config,
            state: QueueState::default(),
            jobs: BTreeMap::new(),
            messages: Vec::new(),
            runs: Vec::new(),
            given: Vec::new(),
            newest_message_ms: 0,
            wall_ms: 1_000_000,
            monotonic_ms: 0,
            broken: None,
        };
        driver.restart();
        driver
    }

    fn restart(&mut self) {
        self.queue = Queue::new(
            name("q"),
            self.config.clone(),
            self.state.clone(),
            self.jobs.clone(),
            self.now(),
        );
    }

    fn now(&self) -> Now {
        now(self.wall_ms, self.monotonic_ms)
    }

    pub(crate) fn step(&mut self, event: &Event) -> Said {
        self.look();
        let said = self.happen(event);
        self.look();
        said
    }

    fn happen(&mut self, event: &Event) -> Said {
        match event {
            Event::Enqueue { messages } => self.enqueue(messages),
            Event::Claim { worker, count } => return self.claim(*worker, *count),
            Event::Log { back } => return self.log(*back),
            Event::Beat { back } => return self.beat(*back),
            Event::Settle { back, ends } => return self.settle(*back, *ends),
            Event::Cancel { run } => return self.cancel(*run),
            Event::Pause { paused } => {
                let changes = self.queue.set_paused(*paused);
                self.apply(&changes);
            }
            Event::Purge { all } => self.purge(*all),
            Event::Wait { ms } => {
                self.wall_ms += ms;
                self.monotonic_ms += ms;
            }
            Event::SetBack { ms } => self.wall_ms = self.wall_ms.saturating_sub(*ms),
            Event::Restart => self.restart(),
        }
        Said::Nothing
    }

    fn enqueue(&mut self, messages: &[Message]) {
        let known = self.runs.len();
        self.newest_message_ms = self.newest_message_ms.max(self.wall_ms);
        let mut new_runs = 0;
        let mut arrived = Vec::new();
        let first = self.messages.len();
        for message in messages {
            if matches!(message, Message::Again { run, .. } if *run >= known) {
                continue;
            }
            let number = first + arrived.len();
            let asks = match *message {
                Message::Invalid => Err(EnvelopeRefusal::Unknown { field: "x".into() }),
                Message::Again { run, other_payload } => {
                    let found = if other_payload {
                        Found::OtherPayload
                    } else {
                        Found::Same {
                            is_open: !self.runs[run].is_closed,
                        }
                    };
                    Ok((self.candidate(None, None, self.runs[run].name.clone()), found))
                }
                Message::Job { value, later_ms } => {
                    let run_at = (later_ms > 0).then(|| Timestamp::from_millis(self.wall_ms + later_ms));
                    let run = name(&format!("r/{}", known + new_runs));
                    new_runs += 1;
                    Ok((self.candidate(value, run_at, run), Found::Free))
                }
            };
            arrived.push(Arrived {
                position: position(number),
                end: position(number + 1),
                at: Timestamp::from_millis(self.newest_message_ms),
                asks,
            });
        }
        let decided = self.queue.admit(&arrived, self.now());
        let is_all_known = self.queue.ahead_from().is_none();
        self.messages.resize(first + arrived.len(), None);
        for job in &decided.answer.ready {
            let number = usize::try_from(job.position.get() / MESSAGE_BYTES).expect("few");
            self.messages[number] = Some(job.clone());
        }
        self.apply(&decided.changes);
        if is_all_known && !arrived.is_empty() && arrived.len() % 2 == 0 {
            let end = self.queue.state().admitted;
            self.queue.read_ahead(decided.answer.ready, end);
        }
    }

    fn candidate(
        &self,
        value: Option<u8>,
        run_at: Option<Timestamp>,
        run: StreamName,
    ) -> tailwater_stream::queue::Candidate {
        let envelope = Envelope {
            payload: JsonText::null(),
            id: None,
            run_at,
            max_attempts: None,
        };
        let value = value.filter(|_| self.config.concurrency_key.is_some());
        tailwater_stream::queue::Candidate {
            envelope,
            run,
            value: value.map(|value| value.to_string().into()),
        }
    }

    /// Reads a few more jobs that have no keys. Answers whether there were any to read.
    fn read_ahead(&mut self) -> bool {
        let Some(from) = self.queue.ahead_from() else {
            return false;
        };
        let first = usize::try_from(from.position.get() / MESSAGE_BYTES).expect("few");
        let last = (first + READ_MESSAGES)
            .min(usize::try_from(self.queue.state().admitted.position.get() / MESSAGE_BYTES).expect("few"));
        let jobs: Vec<_> = self.messages[first..last].iter().flatten().cloned().collect();
        let end = Frontier {
            position: position(last),
            messages: last as u64,
        };
        self.queue.read_ahead(jobs, end);
        true
    }

    fn claim(&mut self, worker: u8, count: usize) -> Said {
        let mut claimed = Vec::new();
        loop {
            let worker = format!("worker-{worker}");
            let decided = self
                .queue
                .claim(&worker, count - claimed.len(), 1_000, self.now());
            self.store(&decided.changes);
            for leased in decided.answer {
                let run = self.run(&leased.run);
                claimed.push((run, leased.attempt, leased.epoch));
                self.given.push(Given {
                    run,
                    job: leased.job,
                    epoch: leased.epoch,
                    next_seq: 1,
                });
            }
            let wants_more = claimed.len() < count && self.queue.may_lease() && self.queue.ahead().is_empty();
            if !wants_more || !self.read_ahead() {
                return Said::Claimed(claimed);
            }
        }
    }

    fn log(&mut self, back: usize) -> Said {
        let Some(given) = self.given.len().checked_sub(back + 1) else {
            return Said::Nothing;
        };
        let Given {
            run, epoch, next_seq, ..
        } = self.given[given];
        if self.append(run, Some((epoch, next_seq))) {
            self.given[given].next_seq += 1;
            Said::Accepted
        } else {
            Said::Refused
        }
    }

    /// Adds something to a run as its stream does. Answers whether it was accepted.
    fn append(&mut self, run: usize, producer: Option<(u64, u64)>) -> bool {
        let run = &mut self.runs[run];
        if run.is_closed {
            return false;
        }
        let Some((epoch, seq)) = producer else { return true };
        let mark = ProducerMark {
            id: ProducerId::parse("lease").expect("an id"),
            epoch: Epoch::new(epoch).expect("an epoch"),
            seq: Seq::new(seq).expect("a number"),
        };
        let is_next = run.producers.judge(&mark, 1) == Ok(ProducerVerdict::Next);
        if is_next {
            run.producers.record(&mark, Position::ZERO, Timestamp::default());
        }
        is_next
    }

    fn beat(&mut self, back: usize) -> Said {
        let Some(given) = self.given.len().checked_sub(back + 1) else {
            return Said::Nothing;
        };
        let Given { job, epoch, .. } = self.given[given];
        match self.queue.heartbeat(job, epoch, self.now()) {
            Ok(decided) => {
                self.apply(&decided.changes);
                Said::Beat {
                    cancel: decided.answer.cancel,
                }
            }
            Err(_) => Said::Refused,
        }
    }

    fn settle(&mut self, back: usize, ends: Ends) -> Said {
        let Some(given) = self.given.len().checked_sub(back + 1) else {
            return Said::Nothing;
        };
        let Given {
            job, epoch, next_seq, ..
        } = self.given[given];
        let word = match ends {
            Ends::Complete => Word::Complete { result: None },
            Ends::Fail { retry, after_ms } => Word::Fail {
                error: JsonText::null(),
                retry,
                retry_after_ms: after_ms,
            },
            Ends::Release => Word::Release,
        };
        match self.queue.settle(job, (epoch, next_seq), &word, self.now(), 0) {
            Ok(decided) => {
                self.apply(&decided.changes);
                Said::State(decided.answer.state)
            }
            Err(_) => Said::Refused,
        }
    }

    fn cancel(&mut self, run: usize) -> Said {
        let Some(found) = self.runs.get(run).filter(|run| !run.is_closed) else {
            return Said::Nothing;
        };
        let run_name = found.name.clone();
        let keyed = self
            .jobs
            .iter()
            .find(|(_, job)| job.run == run_name && !job.is_passed());
        if let Some(job) = keyed.map(|(position, _)| *position) {
            let decided = self.queue.cancel(job, None, self.now()).expect("there");
            self.apply(&decided.changes);
            return Said::State(decided.answer.state);
        }
        let job = self
            .messages
            .iter()
            .flatten()
            .find(|job| job.run == run_name)
            .expect("there")
            .clone();
        let changes = self.queue.cancel_unkeyed(&job, None, self.now());
        self.apply(&changes);
        Said::State(RunState::Cancelled)
    }

    fn purge(&mut self, all: bool) {
        let purge = if all { Purge::All } else { Purge::Ready };
        let until = self.queue.state().admitted.position;
        loop {
            let decided = self.queue.purge(purge, "purged", until, 2, self.now());
            self.store(&decided.changes);
            if decided.answer < 2 && !self.read_ahead() {
                return;
            }
        }
    }

    /// Does what is overdue.
    fn look(&mut self) {
        loop {
            self.queue.wake(self.now());
            if let Some(changes) = self.queue.overdue(self.now(), 0) {
                self.apply(&changes);
            } else if !self.queue.ahead().is_empty() || !self.read_ahead() {
                return;
            }
        }
    }

    fn apply(&mut self, changes: &[Change]) {
        self.queue.apply_all(changes);
        self.store(changes);
    }

    fn store(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::State(state) => self.state.clone_from(state),
                Change::Job { position, job } => match job {
                    Some(job) => drop(self.jobs.insert(*position, OpenJob::clone(job))),
                    None => drop(self.jobs.remove(position)),
                },
                Change::Begin {
                    run, event, status, ..
                } => {
                    assert!(matches!(event, RunEvent::Queued { .. }));
                    self.runs.push(RunStream {
                        name: run.clone(),
                        producers: Producers::default(),
                        is_closed: false,
                        ends: 0,
                        state: status.state,
                        attempt: 0,
                    });
                    let number = self.runs.len() - 1;
                    if !self.append(number, Some((0, 0))) {
                        self.broken = Some(format!("the run {run} cannot begin"));
                    }
                }
                Change::Append(append) => {
                    let number = self.run(&append.run);
                    if !self.append(number, append.producer) {
                        self.broken = Some(format!("{append:?} is refused"));
                    }
                    let run = &mut self.runs[number];
                    run.is_closed |= append.event.ends_run();
                    run.ends += usize::from(append.event.ends_run());
                    if let Some(status) = &append.status {
                        (run.state, run.attempt) = (status.state, status.attempt);
                        if status.state.has_ended() != append.event.ends_run() {
                            self.broken = Some(format!("{append:?} says two things"));
                        }
                    }
                }
                Change::LeaseEnds { .. }
                | Change::Dead(_)
                | Change::Buried { .. }
                | Change::Adopted { .. }
                | Change::Ended { .. } => {}
            }
        }
    }

    fn run(&self, name: &StreamName) -> usize {
        self.runs
            .iter()
            .position(|run| run.name == *name)
            .expect("there is one")
    }

    pub(crate) fn runs(&self) -> Vec<Run> {
        let run = |run: &RunStream| Run {
            state: run.state,
            attempt: run.attempt,
            epoch: run
                .producers
                .get(&ProducerId::parse("lease").expect("an id"))
                .map_or(0, |known| known.epoch.get()),
        };
        self.runs.iter().map(run).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        let keyed = self.queue.jobs().values().filter(|job| !job.is_passed()).count();
        Counts {
            leased: self.queue.index().leased(),
            open: keyed + usize::try_from(self.queue.unkeyed()).expect("few"),
            dead: self.queue.state().dead_letters,
            duplicates: self.queue.state().counters.duplicates,
        }
    }

    pub(crate) fn jobs_with_keys(&self) -> usize {
        self.jobs.len()
    }

    /// What must never be.
    pub(crate) fn broken(&self) -> Option<String> {
        let twice = self.runs.iter().find(|run| run.ends > 1);
        let twice = twice.map(|run| format!("{} has ended {} times", run.name, run.ends));
        let forgotten = *self.queue.state() != self.state || *self.queue.jobs() != self.jobs;
        let forgotten = forgotten.then(|| "what is known is not what is stored".to_owned());
        self.broken.clone().or(twice).or(forgotten)
    }
}

fn now(wall_ms: u64, monotonic_ms: u64) -> Now {
    Now {
        wall: Timestamp::from_millis(wall_ms),
        monotonic_ms,
    }
}
