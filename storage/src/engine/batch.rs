//! Records that are committed together, the streams that they change, and who waits for them.

use std::ops::Range;
use std::sync::Arc;

use tailwater_stream::{Part, Record};
use tokio::sync::oneshot;

use super::Shared;
use super::pins::StoragePin;
use super::sequencer::{Entry, Settled};
use crate::backend::BackendError;

/// What readers see of streams is called for in groups of so many before it is changed.
const SHOWN_TOGETHER: usize = 32;

/// Who waits for a record that was accepted.
pub(super) struct Waiter {
    pub(super) concerned: Concerned,
    pub(super) answer: oneshot::Sender<Settled>,
    /// What a fork in the making holds: until the record is settled, also when its client has gone away.
    pub(super) pin: Option<Arc<StoragePin>>,
    /// What asked for the record.
    #[cfg(feature = "watched-commits")]
    pub(super) cause: Option<crate::watched_commits::Cause>,
}

/// The streams that a record changes.
pub(super) enum Concerned {
    One(Decided),
    /// Each with a share of the record.
    Several(Box<Several>),
}

/// A stream, as it was when a record was decided on its accepted state.
pub(super) struct Decided {
    pub(super) entry: Arc<Entry>,
    /// The entry's generation then.
    pub(super) generation: u64,
}

/// The streams of one record, and which of its parts concern each.
pub(super) struct Several {
    pub(super) shares: Vec<(Decided, Range<usize>)>,
    /// What forks in the making hold.
    pub(super) _pins: Vec<Arc<StoragePin>>,
}

impl Decided {
    /// Whether the state that the record was decided on has not been taken back.
    fn stands(&self) -> bool {
        self.generation == self.entry.generation()
    }

    /// Sets the accepted state back to the committed one, unless that was done since.
    fn take_back(&self, shared: &Shared) -> Result<(), BackendError> {
        // Of many refused records of a stream only the first has something to take back.
        if !self.stands() {
            return Ok(());
        }
        let committed = shared.backend.load(&self.entry.name)?;
        self.entry.take_back(self.generation, committed, &shared.registry);
        Ok(())
    }
}

impl Waiter {
    fn decided(&self) -> impl Iterator<Item = &Decided> {
        let (one, several) = match &self.concerned {
            Concerned::One(one) => (Some(one), &[][..]),
            Concerned::Several(several) => (None, &several.shares[..]),
        };
        one.into_iter().chain(several.iter().map(|(decided, _)| decided))
    }

    /// The streams, and the parts of the record that concern each.
    fn shares<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = (&'a Decided, &'a [Part])> {
        let (one, several) = match &self.concerned {
            Concerned::One(one) => (Some((one, &record.parts[..])), &[][..]),
            Concerned::Several(several) => (None, &several.shares[..]),
        };
        let several = several
            .iter()
            .map(|(decided, parts)| (decided, &record.parts[parts.clone()]));
        one.into_iter().chain(several)
    }

    /// Calls for what readers see of its streams.
    fn call_for_shown(&self) {
        for decided in self.decided() {
            if let Some(durable) = decided.entry.sequencer.lock().durable() {
                durable.call_for();
            }
        }
    }

    /// Whether nothing that the record was decided on has been taken back.
    fn stands(&self) -> bool {
        self.decided().all(Decided::stands)
    }

    /// Whether some of what the record was decided on has been taken back, and some has not.
    fn is_torn(&self) -> bool {
        let Concerned::Several(several) = &self.concerned else {
            return false;
        };
        let (mut stands, mut is_void) = (false, false);
        for (decided, _) in &several.shares {
            let stood = decided.stands();
            stands |= stood;
            is_void |= !stood;
        }
        stands && is_void
    }

    /// Sets the accepted states of all its streams back to the committed ones. Answers whether the record's decision
    /// still stood.
    pub(super) fn take_back(&self, shared: &Shared) -> Result<bool, BackendError> {
        let stood = self.stands();
        self.decided().try_for_each(|decided| decided.take_back(shared))?;
        Ok(stood)
    }
}

pub(super) fn payload_bytes(record: &Record) -> usize {
    use tailwater_stream::Transition;
    let bytes = |part: &Part| match part {
        Part::Stream {
            transition: Transition::Append(append),
            ..
        } => append.payload.len(),
        Part::Stream { .. } | Part::Control(_) => 0,
    };
    record.parts.iter().map(bytes).sum()
}

/// Records in the order in which they were accepted, and who waits for each. They stay in place, for there are many and they
/// are large.
#[derive(Default)]
pub(super) struct Batch {
    records: Vec<Record>,
    waiters: Vec<Waiter>,
}

impl Batch {
    pub(super) fn with_capacity(records: usize) -> Self {
        Self {
            records: Vec::with_capacity(records),
            waiters: Vec::with_capacity(records),
        }
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// What asked for them.
    #[cfg(feature = "watched-commits")]
    pub(super) fn causes(&self) -> impl Iterator<Item = crate::watched_commits::Cause> {
        self.waiters.iter().filter_map(|waiter| waiter.cause)
    }

    pub(super) fn push(&mut self, record: Record, waiter: Waiter) {
        self.records.push(record);
        self.waiters.push(waiter);
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (Record, Waiter)> {
        self.records.into_iter().zip(self.waiters)
    }

    /// Takes the first `count` out.
    pub(super) fn take_first(&mut self, count: usize) -> Self {
        Self {
            records: self.records.drain(..count).collect(),
            waiters: self.waiters.drain(..count).collect(),
        }
    }

    /// Takes out those that were decided on what has been taken back. What others have decided on these is taken back as
    /// well, so that a record over several streams is void in all of them.
    ///
    /// # Errors
    /// If the committed states cannot be read. Nothing is taken out then.
    pub(super) fn take_void(&mut self, shared: &Shared) -> Result<Self, BackendError> {
        let mut void = Self::default();
        if self.waiters.iter().all(Waiter::stands) {
            return Ok(void);
        }
        // Each round takes a stream back, whose records in this batch are void then.
        while let Some(torn) = self.waiters.iter().find(|waiter| waiter.is_torn()) {
            torn.take_back(shared)?;
        }
        let all = std::mem::take(self);
        for (record, waiter) in all.into_iter() {
            let to = if waiter.stands() { &mut *self } else { &mut void };
            to.push(record, waiter);
        }
        Ok(void)
    }

    pub(super) fn settled(self, settled: Settled) -> SettledBatch {
        let settled = vec![settled; self.records.len()];
        SettledBatch { batch: self, settled }
    }
}

/// A batch that is settled: each record, and what became of it.
#[derive(Default)]
pub(super) struct SettledBatch {
    batch: Batch,
    settled: Vec<Settled>,
}

impl SettledBatch {
    pub(super) fn push(&mut self, record: Record, waiter: Waiter, settled: Settled) {
        self.batch.push(record, waiter);
        self.settled.push(settled);
    }

    pub(super) fn and(mut self, mut other: Self) -> Self {
        if self.settled.is_empty() {
            return other;
        }
        self.batch.records.append(&mut other.batch.records);
        self.batch.waiters.append(&mut other.batch.waiters);
        self.settled.append(&mut other.settled);
        self
    }

    /// Shows what has become durable, then answers those who wait for it. Not the request's work but the
    /// committer's: a client that goes away stalls nothing.
    pub(super) fn publish(self, shared: &Shared) {
        let Self { batch, settled } = self;
        let mut records = batch.records.iter().zip(settled);
        let mut waiters = batch.waiters.into_iter();
        while !waiters.as_slice().is_empty() {
            let group = waiters.as_slice().iter().take(SHOWN_TOGETHER);
            group.for_each(Waiter::call_for_shown);
            let group = waiters.by_ref().take(SHOWN_TOGETHER);
            for (waiter, (record, settled)) in group.zip(records.by_ref()) {
                publish_record(shared, record, settled, waiter);
            }
        }
    }
}

fn publish_record(shared: &Shared, record: &Record, settled: Settled, waiter: Waiter) {
    for (decided, parts) in waiter.shares(record) {
        let mut sequencer = decided.entry.sequencer.lock();
        if settled == Settled::Durable {
            shared.show(&mut sequencer, parts);
        }
        if settled == Settled::Failed {
            sequencer.fail();
        }
        sequencer.settle();
    }
    let Waiter {
        concerned,
        answer,
        pin,
        ..
    } = waiter;
    // Whoever is answered finds the streams and the fork's source unpinned.
    drop((concerned, pin));
    // Whoever waited may have gone away.
    let _ = answer.send(settled);
}
