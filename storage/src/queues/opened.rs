//! A queue as the runtime holds it: its turn, and the commands that wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tailwater_stream::queue::{Beat, Change, Envelope, Leased, Now, Settled, Word};
use tailwater_stream::{Position, Queue, StreamId, StreamName, Timestamp};
use tokio::sync::{MutexGuard, Notify, oneshot};

use super::codec;
use super::error::QueueError;
use super::rates::Rates;
use super::show::Gauges;
use crate::engine::{Footing, Held, Reader};
use crate::sync::Mutex;

/// Messages that are looked at in one record, or overdue things that are done.
pub(super) const AT_ONCE_MAX: usize = 256;

/// Who waits for an answer, and may have gone away.
pub(super) type Answer<T> = oneshot::Sender<Result<T, QueueError>>;

/// What a worker waits for.
pub(super) struct Claimant {
    pub(super) worker: Box<str>,
    pub(super) count_max: usize,
    /// Not later than then is it answered, by the monotonic clock.
    pub(super) until_ms: u64,
    pub(super) answer: Answer<Handover>,
}

/// Jobs that were leased to somebody. Those that nobody takes over, because whoever asked has gone away, go back.
pub(super) struct Handover {
    opened: Arc<Opened>,
    leased: Vec<Leased>,
}

impl Handover {
    pub(super) fn new(opened: &Arc<Opened>, leased: Vec<Leased>) -> Self {
        Self {
            opened: Arc::clone(opened),
            leased,
        }
    }

    pub(super) fn leased(&self) -> &[Leased] {
        &self.leased
    }

    /// Somebody has them now.
    pub(super) fn take_over(mut self) {
        self.leased.clear();
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        for leased in self.leased.drain(..) {
            self.opened.send(Command::Return {
                job: leased.job,
                epoch: leased.epoch,
            });
        }
    }
}

/// A job that somebody enqueues by a call of its own.
pub(super) struct Enqueuer {
    pub(super) envelope: Envelope,
    pub(super) answer: Answer<Enqueued>,
}

/// Somebody whose job stands in the queue's stream, and who waits until it is looked at.
pub(super) struct Expecting {
    /// The run that it is to have.
    pub(super) run: StreamName,
    pub(super) answer: Answer<Enqueued>,
}

/// A job that was enqueued by a call of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// Whether this call made it.
    pub new: bool,
    /// The job; none if it is tried anew and its message is not in the queue yet.
    pub job: Option<Position>,
    /// Its run.
    pub run: StreamName,
}

/// What is asked of a queue most often. Such commands are decided together, one after the other, in one turn.
pub(super) enum Command {
    Claim(Claimant),
    Beat {
        run: StreamName,
        epoch: u64,
        /// When it came, by the monotonic clock.
        came_ms: u64,
        answer: Answer<Beat>,
    },
    Settle {
        run: StreamName,
        lease: (u64, u64),
        word: Word,
        /// When it came, by the monotonic clock.
        came_ms: u64,
        answer: Answer<Settled>,
    },
    Enqueue(Enqueuer),
    /// A job was given to somebody who had gone away.
    Return {
        job: Position,
        epoch: u64,
    },
}

impl Command {
    /// Tells whoever asked that it cannot be done.
    pub(super) fn refuse(self, error: &QueueError) {
        // Whoever asked may have gone away.
        match self {
            Self::Claim(claimant) => drop(claimant.answer.send(Err(error.clone()))),
            Self::Beat { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::Settle { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::Enqueue(enqueuer) => drop(enqueuer.answer.send(Err(error.clone()))),
            Self::Return { .. } => {}
        }
    }
}

/// A queue, or the place of one that is being made.
pub(crate) struct Opened {
    pub(super) name: StreamName,
    /// Whoever holds it decides, and nobody else meanwhile. None before the queue is made, and once it is deleted. All but
    /// the queue's own task take it by [`Self::lock`].
    pub(super) turn: tokio::sync::Mutex<Option<Turn>>,
    /// How many wait for the turn to end.
    wanted: AtomicUsize,
    /// Commands that wait for the next turn: at most one for each request.
    inbox: Mutex<Vec<Command>>,
    /// Rung when there is something to do.
    pub(super) bell: Notify,
    /// Whether it was deleted, or never came to be.
    gone: AtomicBool,
    /// What was last counted of it.
    pub(super) gauges: Mutex<Gauges>,
    /// Whether somebody wanted it to be counted while it was somebody's turn.
    pub(super) is_to_count: AtomicBool,
}

impl Opened {
    pub(super) fn new(name: StreamName) -> Self {
        Self {
            name,
            turn: tokio::sync::Mutex::new(None),
            wanted: AtomicUsize::new(0),
            inbox: Mutex::new(Vec::new()),
            bell: Notify::new(),
            gone: AtomicBool::new(false),
            gauges: Mutex::new(Gauges::default()),
            is_to_count: AtomicBool::new(false),
        }
    }

    /// Waits for a turn of one's own, in which nothing is on its way that was decided before.
    pub(super) async fn lock(&self) -> MutexGuard<'_, Option<Turn>> {
        let _wanted = Wanted::new(&self.wanted);
        self.turn.lock().await
    }

    /// Whether somebody waits for the turn to end.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Has a command wait for the next turn. Refused by dropping it if there will be none.
    pub(super) fn send(&self, command: Command) {
        let mut inbox = self.inbox.lock();
        if self.is_gone() {
            return;
        }
        inbox.push(command);
        drop(inbox);
        self.bell.notify_one();
    }

    /// Has messages be looked at that nobody has looked at.
    pub(super) fn ring_for_messages(&self, turn: &Turn) {
        let state = turn.queue.state();
        if !state.deleting && state.admitted.position < turn.reader.incarnation().view().tail {
            self.bell.notify_one();
        }
    }

    pub(super) fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut *self.inbox.lock())
    }

    /// Puts commands back that were not decided, before those that have come since. Refused as [`Self::send`] refuses.
    pub(super) fn put_back(&self, mut commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        let mut inbox = self.inbox.lock();
        if self.is_gone() {
            return;
        }
        commands.append(&mut inbox);
        *inbox = commands;
        drop(inbox);
        self.bell.notify_one();
    }

    pub(super) fn set_gone(&self) {
        let mut inbox = self.inbox.lock();
        self.gone.store(true, Ordering::SeqCst);
        inbox.clear();
        drop(inbox);
        self.bell.notify_one();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

/// Somebody waits, also if they go away before they were served.
struct Wanted<'a>(&'a AtomicUsize);

impl<'a> Wanted<'a> {
    fn new(wanted: &'a AtomicUsize) -> Self {
        wanted.fetch_add(1, Ordering::Relaxed);
        Self(wanted)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known of a queue, in its turn.
pub(super) struct Turn {
    pub(super) queue: Queue,
    pub(super) created_at: Timestamp,
    /// The queue's stream, held open.
    pub(super) stream: Held,
    pub(super) id: StreamId,
    pub(super) reader: Reader,
    /// What is remembered stands as long as this is the stream's.
    pub(super) footing: Footing,
    /// Where each job that has a key is found by its run.
    pub(super) by_run: HashMap<StreamName, Position, RandomState>,
    /// Runs that are tried anew and wait for their messages, each with the number of its message.
    pub(super) awaited: BTreeMap<StreamName, u64>,
    /// Runs that are not as the queue has them, each with its job as far as that is known.
    pub(super) adrift: BTreeMap<StreamName, Option<Position>>,
    /// Whether one of them was reason to look at all that have keys.
    pub(super) has_looked_at_all: bool,
    /// Messages of runs that are tried anew before this one are in the stream.
    pub(super) retries_sent: u64,
    /// Workers that wait, in the order in which they came.
    pub(super) claimants: VecDeque<Claimant>,
    /// Who waits for messages to be looked at. Between turns all of these messages are durable.
    pub(super) expected: BTreeMap<Position, Expecting>,
    /// Whether all messages were looked at once since it was loaded, and since there was no space the last time. If not, some
    /// may have stood in the stream for long.
    pub(super) has_caught_up: bool,
    /// Up to where the stream was trimmed, and when that was last looked at.
    pub(super) trimmed: (Position, u64),
    /// The oldest group of ended runs that may be there, and when it was last looked at.
    pub(super) ended_from: (u64, u64),
    /// Whether what is remembered may not be what is stored: then it is loaded anew.
    pub(super) is_stale: bool,
    /// Nothing is done by itself before, because there was no space for it.
    pub(super) paused_until_ms: Option<u64>,
    /// Whether the last thing that needed space has found some.
    pub(super) finds_space: bool,
    /// So many messages are looked at, or overdue things done, in one record: few once there was no space for many.
    pub(super) at_once_max: usize,
    /// There was no space the last time, when what is overdue came first, and may have left none for all else: now it does not.
    pub(super) leaves_overdue: bool,
    pub(super) rates: Rates,
}

impl Turn {
    /// There was no space. It is tried again after a pause, with less.
    pub(super) fn pause(&mut self, until_ms: u64) {
        self.paused_until_ms = Some(until_ms);
        self.finds_space = false;
        self.at_once_max = (self.at_once_max / 8).max(1);
        self.leaves_overdue = !self.leaves_overdue;
        self.has_caught_up = false;
    }

    /// Whoever waits for a message before `until` to be looked at is told that it is there, and that it may take long.
    pub(super) fn tell_undecided(&mut self, until: Position) {
        let behind = self.expected.split_off(&until);
        for (job, expecting) in std::mem::replace(&mut self.expected, behind) {
            let run = expecting.run;
            // Whoever asked may have gone away.
            let _ = expecting.answer.send(Err(QueueError::Undecided { job, run }));
        }
    }

    /// There was space.
    pub(super) fn go_on(&mut self) {
        self.at_once_max = (self.at_once_max * 2).min(AT_ONCE_MAX);
    }

    /// Takes over what was decided.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.queue.apply(change);
            self.note(change);
        }
    }

    /// Takes over what was decided and what the queue knows already.
    pub(super) fn note_all(&mut self, changes: &[Change]) {
        for change in changes {
            self.note(change);
        }
    }

    fn note(&mut self, change: &Change) {
        match change {
            Change::Job {
                position,
                job: Some(job),
            } if !job.is_passed() => {
                self.by_run.insert(job.run.clone(), *position);
            }
            Change::Append(append) if append.event.ends_run() => {
                self.by_run.remove(&append.run);
            }
            Change::Adopted { run, .. } => {
                self.awaited.remove(run);
            }
            Change::Ended { at, .. } => {
                // After a step of the clock runs may end in a group before those that were looked at.
                self.ended_from.0 = self.ended_from.0.min(codec::group(*at));
            }
            Change::State(_)
            | Change::Job { .. }
            | Change::LeaseEnds { .. }
            | Change::Begin { .. }
            | Change::Append(_)
            | Change::Dead(_)
            | Change::Buried { .. } => {}
        }
    }

    /// Where the job of a run stands, if it has a key.
    pub(super) fn job_of(&self, run: &StreamName) -> Option<Position> {
        self.by_run.get(run).copied()
    }
}

/// The time as the rules meet it.
pub(super) fn now_of(engine: &crate::engine::Engine) -> Now {
    Now {
        wall: engine.now(),
        monotonic_ms: engine.monotonic_ms(),
    }
}
