//! The order of one stream: decides one command after the other on the accepted state, and shows what has
//! become durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tailwater_stream::{Lifetime, Part, Record, StreamId, StreamName, StreamState, Timestamp, Transition};
use tokio::sync::{OnceCell, oneshot};

use super::changes::Changes;
use super::leftovers::{Leftover, Leftovers};
use super::pins::StoragePin;
use super::registry::Registry;
use super::watch::Incarnation;
use crate::backend::BackendError;
use crate::stats::EngineStats;
use crate::subscriptions::Moves;
use crate::sync::{AtomicU64, Mutex};
use crate::timers::TimerKey;

/// An open stream name. Whoever holds it pins it in the registry.
///
/// Where there are very many streams it has to be fetched from memory for every append, so what an append looks at stands
/// together: all before the sequencer, and the beginnings of that and of the states in it.
#[repr(C)]
pub(super) struct Entry {
    pub(super) name: StreamName,
    pub(super) loaded: OnceCell<()>,
    /// Grows, while the stream is locked, when accepted state is taken back; records of an older generation are void. It
    /// stands beside the lock because a committer asks for it for each record: whoever shares a core with it may have been
    /// stopped while it held the lock.
    generation: AtomicU64,
    /// Whether the registry has it, or had: the registry watches over no other.
    pub(super) is_registered: bool,
    pub(super) sequencer: Mutex<Sequencer>,
}

impl Entry {
    /// For the registry.
    pub(super) fn new(name: StreamName) -> Self {
        Self {
            is_registered: true,
            ..Self::unregistered(name)
        }
    }

    /// For a stream that is not there under its name yet.
    pub(super) fn unregistered(name: StreamName) -> Self {
        Self {
            is_registered: false,
            name,
            loaded: OnceCell::new(),
            sequencer: Mutex::new(Sequencer::default()),
            generation: AtomicU64::new(0),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Takes back all that is accepted but not committed, unless that was done since `generation`: the backend had no space
    /// for a record of it.
    pub(super) fn take_back(
        self: &Arc<Self>,
        generation: u64,
        committed: Option<StreamState>,
        registry: &Registry,
    ) {
        let mut sequencer = self.sequencer.lock();
        if self.generation() == generation {
            self.generation.store(generation + 1, Ordering::Release);
            sequencer.take_back(committed);
            registry.watch_end(self, &mut sequencer);
        }
    }
}

/// What a command finds.
pub(super) enum Standing<'a> {
    /// No stream has this name.
    Missing,
    /// The stream was deleted; whether its name is free again depends on its forks.
    Deleted(StreamId),
    /// Its lifetime is over, which must be recorded first.
    Expired,
    /// It is there.
    Alive(&'a StreamState),
}

/// What is to be done about a command.
pub(super) enum Decision<T> {
    /// Say this at once: it promises nothing.
    Look(T),
    /// Say this once the state it was decided on is durable.
    Answer(T),
    /// Commit this, and say that once it is durable.
    Commit(Record, T),
    /// Likewise, and hold the fork's source until then.
    CommitFork(Record, Arc<StoragePin>, T),
}

/// What became of something that waited for the committer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is durable.
    Durable,
    /// There was no space for it.
    Full,
    /// What it was decided on was taken back.
    DecideAgain,
    /// The storage failed.
    Failed,
}

struct Waiting {
    /// Settled once so many records of the stream are.
    number: u64,
    sender: oneshot::Sender<Settled>,
}

/// The accepted state of a stream, and the durable one.
#[derive(Default)]
#[repr(C)]
pub(super) struct Sequencer {
    /// The last use of the accepted incarnation, recorded or not.
    used_at: Timestamp,
    /// Records queued so far.
    queued: u64,
    /// Records of those that are durable or refused. Always <= `queued`; equal means clean.
    settled: u64,
    waiting: Vec<Waiting>,
    /// Whether it is unknown what became of something that was accepted: then nothing more can be answered.
    failed: bool,
    durable: Option<Arc<Incarnation>>,
    accepted: Option<StreamState>,
    /// The last uses of those that it replaced and that may still be durable, or come back if it is refused.
    replaced_used_at: Vec<(StreamId, Timestamp)>,
    /// When a use was last to be recorded. There may have been no space for that.
    touch_tried_at: Timestamp,
    /// The greatest id that a stream of this name has had since this was loaded.
    newest: Option<StreamId>,
    /// When the registry looks at its lifetime.
    pub(super) timer: Option<TimerKey>,
}

impl Sequencer {
    /// Takes over what the backend has stored.
    pub(super) fn load(&mut self, state: Option<StreamState>) {
        self.used_at = state.as_ref().map_or(Timestamp::default(), assumed_use);
        self.replaced_used_at.clear();
        self.durable = state.as_ref().map(|state| Arc::new(Incarnation::new(state)));
        self.newest = state.as_ref().map(|state| state.id);
        self.accepted = state;
    }

    /// Whether a stream that got its id later than `id` has had this name since.
    pub(super) fn has_had_newer_than(&self, id: StreamId) -> bool {
        self.newest > Some(id)
    }

    pub(super) fn standing(&self, now: Timestamp) -> Standing<'_> {
        match &self.accepted {
            None => Standing::Missing,
            Some(state) if state.deleted => Standing::Deleted(state.id),
            Some(state) if state.lifetime.is_over(self.used_at, now) => Standing::Expired,
            Some(state) => Standing::Alive(state),
        }
    }

    pub(super) fn accepted(&self) -> Option<&StreamState> {
        self.accepted.as_ref()
    }

    /// What readers see; none if nothing is durable yet, or any more.
    pub(super) fn durable(&self) -> Option<&Arc<Incarnation>> {
        self.durable.as_ref()
    }

    /// Starts the sliding lifetime of an incarnation anew, if it is not over. Answers whether that must be recorded, which
    /// is to be tried then. If there is no space for it, it is tried again only as late as another record would be due.
    pub(super) fn mark_used(&mut self, id: StreamId, now: Timestamp) -> bool {
        let mut replaced = self.replaced_used_at.iter_mut();
        if let Some((_, used_at)) = replaced.find(|(replaced, _)| *replaced == id) {
            // Its end is accepted. This use counts if that is refused; it cannot be recorded before.
            *used_at = now.max(*used_at);
            return false;
        }
        let Standing::Alive(state) = self.standing(now) else {
            return false;
        };
        if state.id != id {
            return false;
        }
        let recorded = state.touched_at.max(self.touch_tried_at);
        let wants_touch = state.lifetime.wants_touch(recorded, now);
        self.used_at = self.used_at.max(now);
        if wants_touch {
            self.touch_tried_at = now;
        }
        wants_touch
    }

    /// When the accepted incarnation's lifetime is over, unless it is used until then; none if it has no end.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        let alive = self.accepted.as_ref().filter(|state| !state.deleted);
        alive.and_then(|state| state.lifetime.deadline(self.used_at))
    }

    /// Whether the stream would end earlier if it were loaded again, because there was no space to record a use.
    pub(super) fn has_unrecorded_use(&self) -> bool {
        self.accepted.as_ref().is_some_and(|state| {
            matches!(state.lifetime, Lifetime::Ttl { .. })
                && !state.deleted
                && self.used_at > assumed_use(state)
        })
    }

    /// The last use of an incarnation, recorded or not; none if it is neither accepted nor what that replaced.
    pub(super) fn used_at(&self, id: StreamId) -> Option<Timestamp> {
        if self.accepted.as_ref().is_some_and(|state| state.id == id) {
            return Some(self.used_at);
        }
        let replaced = self.replaced_used_at.iter().find(|(replaced, _)| *replaced == id);
        replaced.map(|(_, used_at)| *used_at)
    }

    /// Whether all that was accepted is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.queued == self.settled
    }

    /// How many records were queued so far; none if not all of them are settled.
    pub(super) fn settled_records(&self) -> Option<u64> {
        self.is_settled().then_some(self.queued)
    }

    /// Likewise, and nobody waits.
    pub(super) fn is_clean(&self) -> bool {
        self.is_settled() && self.waiting.is_empty()
    }

    /// Whether the entry is worth nothing: no stream, nothing queued.
    pub(super) fn is_vacant(&self) -> bool {
        self.accepted.is_none() && self.is_clean()
    }

    /// Forgets a deleted stream that the backend has released.
    pub(super) fn forget_released(&mut self, id: StreamId) {
        if self.is_clean() && self.accepted.as_ref().is_some_and(|state| state.id == id) {
            self.accepted = None;
            self.durable = None;
        }
    }

    /// Makes the accepted state what it is after `parts` of a record, none of which concerns a stream of another name.
    /// Answers whether that begins another incarnation.
    #[must_use = "another incarnation ends at another time"]
    pub(super) fn accept(&mut self, parts: &[Part]) -> bool {
        let mut begins = false;
        for part in parts {
            let Part::Stream { id, transition } = part else {
                continue;
            };
            let begun = match transition {
                Transition::Create(created) => Some(StreamState::created(created)),
                Transition::Stage(created) => Some(StreamState::staged(created)),
                Transition::Import(state) => Some(StreamState::clone(state)),
                _ => None,
            };
            if let Some(state) = begun {
                if let Some(replaced) = &self.accepted {
                    self.replaced_used_at.push((replaced.id, self.used_at));
                }
                self.used_at = state.touched_at;
                self.touch_tried_at = Timestamp::default();
                self.newest = self.newest.max(Some(state.id));
                self.accepted = Some(state);
                begins = true;
            } else if let Some(state) = self.accepted.as_mut().filter(|state| state.id == *id) {
                state.apply(transition);
                self.used_at = self.used_at.max(state.touched_at);
            }
        }
        begins
    }

    /// Counts a record that goes to the committer.
    pub(super) fn count_queued(&mut self) {
        self.queued += 1;
    }

    /// Something to wait on until all that is accepted now is durable; none if it is.
    ///
    /// # Errors
    /// If that is not known, because the storage has failed.
    pub(super) fn wait_until_settled(&mut self) -> Result<Option<oneshot::Receiver<Settled>>, BackendError> {
        if self.failed {
            return Err(BackendError::Poisoned);
        }
        if self.is_settled() {
            return Ok(None);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.push(Waiting {
            number: self.queued,
            sender,
        });
        Ok(Some(receiver))
    }

    /// Shows parts of a record that has become durable to readers and to the change feed. None of them concerns a stream
    /// of another name.
    pub(super) fn show(
        &mut self,
        parts: &[Part],
        changes: &Changes,
        stats: &EngineStats,
        leftovers: &Leftovers,
        moves: &Moves,
    ) {
        for part in parts {
            let Part::Stream { id, transition } = part else {
                continue;
            };
            let begun = match transition {
                Transition::Create(created) => Some(Incarnation::new(&StreamState::created(created))),
                Transition::Import(state) => Some(Incarnation::new(state)),
                _ => None,
            };
            if let Some(incarnation) = begun {
                let incarnation = Arc::new(incarnation);
                self.durable = Some(Arc::clone(&incarnation));
                self.replaced_used_at.retain(|(replaced, _)| *replaced >= *id);
                changes.created(&incarnation);
                moves.begun(&incarnation, transition);
                stats.creates.add(1);
            } else if let Some(incarnation) = self.durable.as_ref().filter(|durable| durable.id == *id) {
                incarnation.show(transition);
                changes.changed(incarnation, transition);
                moves.changed(incarnation, transition);
                note_leftover(incarnation, transition, leftovers);
            }
            if let Transition::Append(append) = transition {
                stats.appends.add(1);
                stats.append_bytes.add(append.payload.len() as u64);
                stats.append_messages.add(append.message_count());
            }
        }
    }

    /// Counts a queued record as settled, and answers those who waited for it.
    pub(super) fn settle(&mut self) {
        self.settled += 1;
        debug_assert!(
            self.settled <= self.queued,
            "more records are settled than were queued"
        );
        let settled = self.settled;
        for waiting in self.waiting.extract_if(.., |waiting| waiting.number <= settled) {
            // Whoever waited may have gone away.
            let _ = waiting.sender.send(Settled::Durable);
        }
    }

    fn take_back(&mut self, committed: Option<StreamState>) {
        if let Some(state) = &committed {
            self.used_at = self.used_at(state.id).unwrap_or_else(|| assumed_use(state));
            self.replaced_used_at.retain(|(replaced, _)| *replaced < state.id);
        }
        self.accepted = committed;
        self.answer_waiting(Settled::DecideAgain);
    }

    /// Gives up: the storage has failed, and what is accepted may or may not be there.
    pub(super) fn fail(&mut self) {
        self.failed = true;
        self.answer_waiting(Settled::Failed);
    }

    /// Answers all who wait.
    fn answer_waiting(&mut self, settled: Settled) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.sender.send(settled);
        }
    }
}

/// The last use to assume of a stream of which only what is recorded is known.
fn assumed_use(state: &StreamState) -> Timestamp {
    state.lifetime.touched_at_load(state.touched_at)
}

fn note_leftover(incarnation: &Incarnation, transition: &Transition, leftovers: &Leftovers) {
    let spans = incarnation.lineage.spans();
    match transition {
        Transition::Delete { .. } => {
            leftovers.note(Leftover::Deleted(incarnation.id));
            // What its ancestors have trimmed may have been kept for it alone.
            if let [inherited @ .., _] = spans
                && !inherited.is_empty()
            {
                leftovers.note(Leftover::Trimmed(
                    inherited.iter().map(|span| span.stored_in).collect(),
                ));
            }
        }
        Transition::Trim { .. } => {
            leftovers.note(Leftover::Trimmed(
                spans.iter().map(|span| span.stored_in).collect(),
            ));
        }
        Transition::Create(_)
        | Transition::Stage(_)
        | Transition::Import(_)
        | Transition::Append(_)
        | Transition::Touch { .. } => {}
    }
}
