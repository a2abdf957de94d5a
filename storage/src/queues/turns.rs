//! What is done in a queue's turn: all commands that wait are decided one after the other, each becomes a record, the
//! records go to the log in that order, and once they are durable all are answered.

use std::sync::Arc;
use std::time::Duration;

use tailwater_stream::Position;
use tailwater_stream::queue::Change;
use tokio::sync::watch;

use super::admit::Read;
use super::beside::Beside;
use super::error::QueueError;
use super::opened::{Command, Enqueuer, Handover, Opened, Turn, now_of};
use super::pending::Pending;
use super::record::Extra;
use super::{Queues, TICK_MS};
use crate::engine::View;
use crate::panics::{Task, TaskPanics};

/// What could not be stored for want of space is tried again after so long.
pub(super) const PAUSE_MS: u64 = 1_000;
/// Overdue things that are done in one record.
const OVERDUE_MAX: usize = 64;
/// No more of them are done in one record once the jobs that are given up in it have so many bytes: their letters have them too.
const DEAD_BYTES: u64 = 1 << 20;
/// Such records that are made in one turn; more wait for the next, so that workers are answered in between.
const OVERDUE_RECORDS_MAX: usize = 16;
/// Batches of messages that are looked at in one turn; more wait for the next.
const ADMISSIONS_MAX: usize = 16;
/// Jobs that are read ahead of the taken frontier, in bytes.
pub(super) const AHEAD_BYTES: u64 = 256 << 10;

impl Queues {
    /// Takes a queue's turns as long as it exists.
    pub(super) async fn keep(self, opened: Arc<Opened>) {
        let panics = &self.shared.engine.stats().panics;
        while panics.watch(Task::Queue, self.take_turns(&opened)).await.is_err() {
            self.doubt(&opened).await;
            TaskPanics::pause().await;
        }
        // Nobody gives jobs to those who still wait, or looks at those that they have enqueued.
        if let Some(turn) = opened.lock().await.as_mut() {
            for claimant in turn.claimants.drain(..) {
                let _ = claimant.answer.send(Ok(Handover::new(&opened, Vec::new())));
            }
            turn.tell_undecided(Position::LAST);
        }
    }

    /// A turn has panicked: what is stored decides, and nothing is done by itself for a while. Whoever waits for a job to
    /// be looked at is told, for that may take longer than they wait.
    async fn doubt(&self, opened: &Opened) {
        if let Some(turn) = opened.lock().await.as_mut() {
            turn.is_stale = true;
            turn.pause(self.shared.engine.monotonic_ms() + PAUSE_MS);
            turn.tell_undecided(Position::LAST);
        }
    }

    async fn take_turns(&self, opened: &Arc<Opened>) {
        let mut stopping = self.shared.is_stopping.subscribe();
        let mut view: Option<watch::Receiver<View>> = None;
        loop {
            let wait = {
                let mut turn = opened.turn.lock().await;
                let Some(turn) = turn.as_mut() else { return };
                if *stopping.borrow() {
                    return;
                }
                let view = view.get_or_insert_with(|| turn.reader.incarnation().subscribe());
                view.mark_unchanged();
                self.take_turn(opened, turn, view).await;
                if opened.is_gone() {
                    return;
                }
                self.wait(turn)
            };
            let moved = async {
                match &mut view {
                    Some(view) => drop(view.changed().await),
                    None => std::future::pending().await,
                }
            };
            let sleep = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = opened.bell.notified() => {}
                () = moved => {}
                () = sleep => {}
                _ = stopping.changed() => return,
            }
        }
    }

    /// How many milliseconds nothing is due by itself; none if nothing will be.
    pub(super) fn due_by_itself_ms(&self, turn: &Turn) -> Option<u64> {
        let now = now_of(&self.shared.engine);
        let by_wall = turn.queue.next_at().map(|at| at.millis_since(now.wall));
        let keeps = turn.queue.config().run_retention_ms.map(|_| turn.ended_from.1);
        let trims = (turn.trimmed.0 < turn.queue.state().taken.position).then(|| turn.trimmed.1 + TICK_MS);
        let since_now = |at_ms: u64| at_ms.saturating_sub(now.monotonic_ms);
        let by_monotonic = [turn.queue.next_at_ms(), keeps, trims]
            .into_iter()
            .flatten()
            .min()
            .map(since_now);
        let by_itself = [by_wall, by_monotonic].into_iter().flatten().min();
        // Without space nothing is done before it is tried again.
        match turn.paused_until_ms.map(since_now) {
            Some(paused) => Some(by_itself.map_or(paused, |due| due.max(paused))),
            None => by_itself,
        }
    }

    /// How long nothing is due; none if nothing will be.
    fn wait(&self, turn: &Turn) -> Option<Duration> {
        let now_ms = self.shared.engine.monotonic_ms();
        let claimants = turn.claimants.iter();
        let claimant = claimants
            .map(|claimant| claimant.until_ms.saturating_sub(now_ms))
            .min();
        let by_itself = self.due_by_itself_ms(turn);
        let due_ms = [by_itself, claimant].into_iter().flatten().min()?;
        // The wall clock may be set meanwhile.
        Some(Duration::from_millis(due_ms.clamp(1, TICK_MS)))
    }

    /// One turn: all that waits, and all that is due; and what comes while that is on its way, of which `view` tells too.
    pub(super) async fn take_turn(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        view: &mut watch::Receiver<View>,
    ) {
        let now = now_of(&self.shared.engine);
        turn.rates.note(now.monotonic_ms, turn.queue.state().counters);
        let mut pending = Pending::default();
        let mut left = opened.take_commands();
        // What somebody else's append that found no space has taken back with it is found out before it is decided on.
        turn.is_stale |= turn.reader.incarnation().view().deleted || turn.stream.footing() != turn.footing;
        if turn.is_stale
            && let Err(error) = self.reload(opened, turn).await
        {
            self.note_trouble(opened, turn, &error);
            turn.tell_undecided(Position::LAST);
            left.into_iter().for_each(|command| command.refuse(&error));
            return;
        }
        turn.queue.forget_ended_leases();
        // What is not durable yet is looked at in a later turn.
        let durable = turn.reader.incarnation().view().tail;
        let decided = match self.decide_all(opened, turn, &mut left, &mut pending).await {
            // That is put right below.
            Err(QueueError::Adrift { .. }) => Ok(()),
            decided => decided,
        };
        if let Err(error) = &decided {
            self.note_trouble(opened, turn, error);
        }
        if !turn.is_stale {
            opened.put_back(std::mem::take(&mut left));
        }
        let beside = match &decided {
            Ok(()) => Beside::all(turn, view),
            Err(_) => Beside::nothing(),
        };
        let mut settled = decided.and(self.answer(opened, turn, pending, beside).await);
        if turn.is_stale
            && let Err(error) = self.reload(opened, turn).await
        {
            self.note_trouble(opened, turn, &error);
            settled = Err(error);
        }
        if settled.is_err() {
            turn.tell_undecided(durable);
        }
        if !turn.adrift.is_empty() && self.does_things_by_itself(turn) {
            self.agree_with_runs(opened, turn).await;
        }
        opened.put_back(left);
        self.count_if_asked(opened, turn);
    }

    /// What cannot be stored now is tried again later.
    pub(super) fn note_trouble(&self, opened: &Opened, turn: &mut Turn, error: &QueueError) {
        tracing::warn!(queue = %opened.name, %error, "a queue has to wait");
        turn.pause(self.shared.engine.monotonic_ms() + PAUSE_MS);
    }

    async fn decide_all(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        commands: &mut Vec<Command>,
        pending: &mut Pending,
    ) -> Result<(), QueueError> {
        let by_itself = self.does_things_by_itself(turn);
        let (in_time, others): (Vec<_>, Vec<_>) = std::mem::take(commands)
            .into_iter()
            .partition(|command| came_in_time(turn, command));
        let mut enqueuers = Vec::new();
        // However long the turns before took, nobody loses a lease who has spoken while it lasted.
        self.decide(turn, in_time, &mut enqueuers, commands, pending)
            .await;
        let mut done = Ok(());
        // It makes space, and what finds none takes back whatever comes after it.
        if by_itself && !turn.is_stale {
            done = self.tidy(turn, pending).await;
        }
        if by_itself && !turn.is_stale && !turn.leaves_overdue {
            match self.do_overdue(turn, pending).await {
                Ok(false) => {}
                Ok(true) => opened.bell.notify_one(),
                Err(error) => {
                    commands.extend(others);
                    return Err(error);
                }
            }
        }
        self.decide(turn, others, &mut enqueuers, commands, pending).await;
        let later = self.enqueue_all(turn, enqueuers, pending).await;
        commands.extend(later.into_iter().map(Command::Enqueue));
        if by_itself && !turn.is_stale {
            done = done.and(self.take_in(opened, turn, pending).await);
        }
        if !turn.is_stale {
            done = done.and(self.serve(opened, turn, pending).await);
        }
        done
    }

    /// What is no longer needed goes.
    async fn tidy(&self, turn: &mut Turn, pending: &mut Pending) -> Result<(), QueueError> {
        self.trim(turn, pending).await?;
        if turn.is_stale {
            return Ok(());
        }
        self.delete_ended(turn, pending).await
    }

    /// Looks at messages that nobody has looked at.
    async fn take_in(
        &self,
        opened: &Opened,
        turn: &mut Turn,
        pending: &mut Pending,
    ) -> Result<(), QueueError> {
        // One whose message cannot be sent keeps no other from coming.
        let sent = self.send_retries(turn, pending).await;
        if turn.is_stale {
            return sent;
        }
        for _ in 0..ADMISSIONS_MAX {
            if !self.admit(turn, pending).await? {
                break;
            }
        }
        opened.ring_for_messages(turn);
        turn.has_caught_up |= turn.queue.state().admitted.position >= turn.reader.incarnation().view().tail;
        sent
    }

    /// Decides commands, one after the other. Those that are left once the queue has to be loaded anew are `left`.
    pub(super) async fn decide(
        &self,
        turn: &mut Turn,
        commands: Vec<Command>,
        enqueuers: &mut Vec<Enqueuer>,
        left: &mut Vec<Command>,
        pending: &mut Pending,
    ) {
        for command in commands {
            if turn.is_stale {
                left.push(command);
                continue;
            }
            match command {
                Command::Claim(claimant) => turn.claimants.push_back(claimant),
                Command::Beat {
                    run, epoch, answer, ..
                } => self.beat(turn, &run, epoch, answer, pending),
                Command::Settle {
                    run,
                    lease,
                    word,
                    answer,
                    ..
                } => self.settle(turn, &run, lease, &word, answer, pending).await,
                Command::Enqueue(enqueuer) => enqueuers.push(enqueuer),
                // Otherwise it waits for the end of its lease.
                Command::Return { job, epoch } => drop(self.give_back(turn, job, epoch, pending).await),
            }
        }
    }

    /// Whether enough time has passed since there was no space.
    fn does_things_by_itself(&self, turn: &mut Turn) -> bool {
        let now_ms = self.shared.engine.monotonic_ms();
        if turn.paused_until_ms.is_some_and(|until_ms| now_ms < until_ms) {
            return false;
        }
        if turn.paused_until_ms.take().is_none() {
            turn.leaves_overdue = false;
        }
        true
    }

    /// Ends what is overdue. Answers whether there may be more of it.
    async fn do_overdue(&self, turn: &mut Turn, pending: &mut Pending) -> Result<bool, QueueError> {
        for _ in 0..OVERDUE_RECORDS_MAX {
            if turn.queue.ahead().is_empty() {
                self.read_ahead(turn).await?;
            }
            let now = now_of(&self.shared.engine);
            turn.queue.wake(now);
            let mut changes: Vec<Change> = Vec::new();
            let (mut count, mut dead_bytes) = (0, 0);
            while count < OVERDUE_MAX.min(turn.at_once_max)
                && dead_bytes < DEAD_BYTES
                && let Some(decided) = turn.queue.overdue(now, fastrand::u64(..))
            {
                dead_bytes += dead_letter_bytes(turn, &decided);
                turn.queue.apply_all(&decided);
                changes.extend(decided);
                count += 1;
            }
            if count == 0 {
                return Ok(false);
            }
            let settling = self.record(turn, &changes, Extra::default(), true).await?;
            pending.push_silent(settling);
            if turn.is_stale {
                return Ok(false);
            }
            turn.go_on();
        }
        Ok(true)
    }

    /// Reads more jobs that have no keys. Answers whether there were any to read.
    pub(super) async fn read_ahead(&self, turn: &mut Turn) -> Result<bool, QueueError> {
        let Some(from) = turn.queue.ahead_from() else {
            return Ok(false);
        };
        let view = turn.reader.incarnation().view();
        if from.position >= view.tail {
            return Ok(false);
        }
        let until = turn.queue.state().admitted.position;
        let read = self.read_messages(turn, from, until, AHEAD_BYTES).await?;
        let Some(end) = read.last().map(Read::frontier) else {
            return Ok(false);
        };
        let (config, made_at) = (turn.queue.config(), turn.created_at);
        let jobs = read
            .into_iter()
            .filter_map(|message| message.into_job(config, made_at));
        let jobs: Vec<_> = jobs.collect();
        turn.queue.read_ahead(jobs, end);
        Ok(true)
    }
}

/// Whether a worker said something while its lease lasted.
fn came_in_time(turn: &Turn, command: &Command) -> bool {
    let (Command::Beat { run, came_ms, .. } | Command::Settle { run, came_ms, .. }) = command else {
        return false;
    };
    let lease_ends_ms = turn
        .job_of(run)
        .and_then(|position| turn.queue.index().lease_ends_ms(position));
    lease_ends_ms.is_some_and(|ends_ms| *came_ms < ends_ms)
}

/// The bytes of the messages of those jobs that are given up.
fn dead_letter_bytes(turn: &Turn, changes: &[Change]) -> u64 {
    let length = |change: &Change| match change {
        Change::Dead(dead) => {
            let job = turn.queue.jobs().get(&dead.job);
            job.map_or(0, |job| job.end.since(dead.job))
        }
        _ => 0,
    };
    changes.iter().map(length).sum()
}
