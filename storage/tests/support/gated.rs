//! A backend with a gate before its commits. The bytes are kept by [`Memory`]; only when a batch is committed,
//! and what becomes of it, is up to the test.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tailwater_storage::backend::{
    BackendError, ControlsRequest, ListRequest, Nature, Outcome, Outcomes, ReadError, ReadRequest, Slices,
    Usage,
};
use tailwater_storage::stream::{
    AppendExtent, Record, StreamId, StreamName, StreamState, Timestamp, Transition,
};
use tailwater_storage::{Backend, Memory};

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const PARTITIONS: usize = 2;

type Choice = Box<dyn Fn(&Record) -> bool + Send>;

/// When a listing of control keys waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Before,
    Behind,
}

/// What a backend can be asked in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Load(StreamName),
    /// All streams whose names begin with that.
    List(String),
    Control,
    Read,
}

#[derive(Default)]
struct Gate {
    held: bool,
    /// Batches that may pass although the gate is held.
    passes: [usize; PARTITIONS],
    /// Records of the batch that stands at the gate.
    at_gate: [Option<usize>; PARTITIONS],
    refused: Option<Choice>,
    fails: bool,
    /// Whether the next commit leaves out what became of its last record.
    leaves_one_out: bool,
    /// At what it panics, once.
    panics_at: Option<Question>,
    /// Listings of all streams that fail from now on.
    failing_lists: usize,
    batches: Vec<Vec<Record>>,
    loads: Vec<StreamName>,
    /// Control keys that were told in listings of them.
    controls_told: usize,
    bytes_read: usize,
    reclaimable: Vec<StreamId>,
    controls_held: Option<Held>,
    /// Listings of control keys that have come to where they are held, and those that may pass.
    listings_at_gate: usize,
    listings_let_pass: usize,
    /// A stream that cannot be released or reclaimed.
    damaged: Option<StreamId>,
    /// A name whose stream cannot be loaded.
    unreadable: Option<StreamName>,
    /// A stream whose bytes cannot be read.
    unreadable_bytes: Option<StreamId>,
    releases_held: bool,
    /// Releases that wait.
    releasing: usize,
}

/// A backend of two partitions, each with a committer thread. Names that begin with `b` are in the second one.
pub(crate) struct Gated {
    memory: Memory,
    nature: Nature,
    gate: Mutex<Gate>,
    changed: Condvar,
}

impl Gated {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Self::calling_for(bytes_max, false, true)
    }

    /// One that answers as one on a disk does: off the runtime, and reads only if they may wait.
    pub(crate) fn slow(bytes_max: u64) -> Arc<Self> {
        Self::calling_for(bytes_max, false, false)
    }

    /// One without committer threads.
    pub(crate) fn inline(bytes_max: u64) -> Arc<Self> {
        Self::calling_for(bytes_max, true, true)
    }

    fn calling_for(bytes_max: u64, commits_inline: bool, answers_inline: bool) -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(bytes_max),
            nature: Nature {
                partitions: PARTITIONS,
                commits_inline,
                answers_inline,
            },
            gate: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().expect("no test holds the gate while it fails")
    }

    /// Lets no further batch be committed.
    pub(crate) fn hold(&self) {
        self.gate().held = true;
    }

    /// Lets no stream be released.
    pub(crate) fn hold_releases(&self) {
        self.gate().releases_held = true;
    }

    /// Lets no listing of control keys begin, or end.
    pub(crate) fn hold_controls(&self, held: Held) {
        self.gate().controls_held = Some(held);
    }

    /// Lets one listing of control keys begin, or end, although they are held.
    pub(crate) fn let_one_listing_pass(&self) {
        self.gate().listings_let_pass += 1;
        self.changed.notify_all();
    }

    /// How many listings of control keys have come to where they are held.
    pub(crate) fn listings_at_gate(&self) -> usize {
        self.gate().listings_at_gate
    }

    fn wait_if_controls_are(&self, held: Held) {
        let mut gate = self.gate();
        gate.listings_at_gate += usize::from(gate.controls_held == Some(held));
        while gate.controls_held == Some(held) && gate.listings_let_pass == 0 {
            gate = self.changed.wait(gate).expect("no panic");
        }
        gate.listings_let_pass = gate
            .listings_let_pass
            .saturating_sub(usize::from(gate.controls_held == Some(held)));
    }

    /// Whether a release waits.
    pub(crate) fn is_releasing(&self) -> bool {
        self.gate().releasing > 0
    }

    /// Lets all batches be committed and all streams be released again.
    pub(crate) fn open(&self) {
        let mut gate = self.gate();
        gate.held = false;
        gate.releases_held = false;
        gate.controls_held = None;
        drop(gate);
        self.changed.notify_all();
    }

    /// Lets one batch of a partition be committed.
    pub(crate) fn let_one_pass(&self, partition: usize) {
        self.gate().passes[partition] += 1;
        self.changed.notify_all();
    }

    /// Waits until a batch of the partition stands at the gate; answers how many records it has.
    pub(crate) fn wait_at_gate(&self, partition: usize) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let mut gate = self.gate();
        loop {
            if let Some(records) = gate.at_gate[partition] {
                return records;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no batch came to the gate");
            gate = self.changed.wait_timeout(gate, left).expect("no panic").0;
        }
    }

    /// Whether a batch of the partition stands at the gate.
    pub(crate) fn is_at_gate(&self, partition: usize) -> bool {
        self.gate().at_gate[partition].is_some()
    }

    /// From now on records that are chosen, and those that follow from them, find no space.
    pub(crate) fn refuse(&self, choice: impl Fn(&Record) -> bool + Send + 'static) {
        self.gate().refused = Some(Box::new(choice));
    }

    /// From now on this stream cannot be released or reclaimed.
    pub(crate) fn damage(&self, id: StreamId) {
        self.gate().damaged = Some(id);
    }

    fn check_damage(&self, id: StreamId) -> Result<(), BackendError> {
        if self.gate().damaged != Some(id) {
            return Ok(());
        }
        let what = format!("stream {id}, in a test");
        Err(BackendError::Damaged { what })
    }

    /// From now on the stream of this name cannot be loaded.
    pub(crate) fn damage_name(&self, name: &StreamName) {
        self.gate().unreadable = Some(name.clone());
    }

    /// From now on the bytes of this stream cannot be read.
    pub(crate) fn damage_bytes(&self, id: StreamId) {
        self.gate().unreadable_bytes = Some(id);
    }

    /// From now on every record finds space, as far as there is any.
    pub(crate) fn refuse_none(&self) {
        self.gate().refused = None;
    }

    /// What an earlier run left to be reclaimed.
    pub(crate) fn set_reclaimable(&self, storages: &[StreamId]) {
        self.gate().reclaimable = storages.to_vec();
    }

    /// From now on every commit fails.
    pub(crate) fn fail(&self) {
        self.gate().fails = true;
    }

    /// From now on commits would go well again.
    pub(crate) fn recover(&self) {
        self.gate().fails = false;
    }

    /// The next commit does not say what became of its last record, which no backend may do.
    pub(crate) fn leave_one_out(&self) {
        self.gate().leaves_one_out = true;
    }

    /// It panics when it is next asked that.
    pub(crate) fn panic_at(&self, question: Question) {
        self.gate().panics_at = Some(question);
    }

    /// Whether it has panicked since it was told to.
    pub(crate) fn has_panicked(&self) -> bool {
        self.gate().panics_at.is_none()
    }

    fn go_off(&self, question: &Question) {
        let planted = self.gate().panics_at.take_if(|planted| planted == question);
        assert!(planted.is_none(), "a planted panic at {question:?}");
    }

    /// The next listings of all streams fail.
    pub(crate) fn fail_lists(&self, count: usize) {
        self.gate().failing_lists = count;
    }

    /// How many listings are still to fail.
    pub(crate) fn failing_lists(&self) -> usize {
        self.gate().failing_lists
    }

    /// The batches that were committed, in order.
    pub(crate) fn batches(&self) -> Vec<Vec<Record>> {
        self.gate().batches.clone()
    }

    /// How often a stream of this name was loaded.
    pub(crate) fn loads(&self, name: &StreamName) -> usize {
        self.gate().loads.iter().filter(|loaded| *loaded == name).count()
    }

    /// How many control keys were told in listings of them since this was last asked.
    pub(crate) fn take_controls_told(&self) -> usize {
        std::mem::take(&mut self.gate().controls_told)
    }

    /// How many bytes were read since this was last asked.
    pub(crate) fn take_bytes_read(&self) -> usize {
        std::mem::take(&mut self.gate().bytes_read)
    }

    fn pass_gate(&self, partition: usize, records: usize) {
        let mut gate = self.gate();
        gate.at_gate[partition] = Some(records);
        self.changed.notify_all();
        while gate.held && gate.passes[partition] == 0 {
            gate = self.changed.wait(gate).expect("no panic");
        }
        gate.passes[partition] = gate.passes[partition].saturating_sub(1);
        gate.at_gate[partition] = None;
        self.changed.notify_all();
    }
}

impl Backend for Gated {
    fn nature(&self) -> Nature {
        self.nature
    }

    fn partition_of(&self, id: StreamId) -> usize {
        id.get() as usize % PARTITIONS
    }

    /// Also a fork stands where its name says, so that tests may hold it up and not its source.
    fn next_id(&self, at_least: u64, name: &StreamName, _: Option<StreamId>) -> u64 {
        let partition = usize::from(name.as_str().starts_with('b'));
        at_least + u64::from(at_least as usize % PARTITIONS != partition)
    }

    fn commit(&self, partition: usize, batch: &[Record]) -> Result<Outcomes, BackendError> {
        assert!(!batch.is_empty(), "a batch of nothing");
        self.pass_gate(partition, batch.len());
        let chosen: Vec<bool> = {
            let mut gate = self.gate();
            gate.batches.push(batch.to_vec());
            if gate.fails {
                return Err(BackendError::Io {
                    what: "while writing in a test".into(),
                    source: Arc::new(std::io::ErrorKind::StorageFull.into()),
                });
            }
            let refused = |record| gate.refused.as_ref().is_some_and(|choice| choice(record));
            batch.iter().map(refused).collect()
        };
        let mut refused = Vec::new();
        let mut outcomes = Outcomes::new();
        for (record, chosen) in batch.iter().zip(chosen) {
            let follows = record.streams().any(|stream| refused.contains(&stream));
            let outcome = if chosen || follows {
                Outcome::Full
            } else {
                self.memory.commit(partition, std::slice::from_ref(record))?[0]
            };
            if outcome != Outcome::Durable {
                refused.extend(record.streams());
            }
            outcomes.push(outcome);
        }
        if std::mem::take(&mut self.gate().leaves_one_out) {
            outcomes.pop();
        }
        Ok(outcomes)
    }

    fn read(&self, request: ReadRequest) -> Result<Slices, ReadError> {
        if !self.nature.answers_inline && !request.may_wait {
            return Err(ReadError::Cold);
        }
        self.go_off(&Question::Read);
        if self.gate().unreadable_bytes == Some(request.stream) {
            let what = format!("the bytes of stream {}, in a test", request.stream);
            return Err(BackendError::Damaged { what }.into());
        }
        let read = self.memory.read(request)?;
        self.gate().bytes_read += read.len();
        Ok(read)
    }

    fn extents(&self, request: ReadRequest) -> Result<Vec<AppendExtent>, ReadError> {
        if !self.nature.answers_inline && !request.may_wait {
            return Err(ReadError::Cold);
        }
        self.memory.extents(request)
    }

    fn load(&self, name: &StreamName) -> Result<Option<StreamState>, BackendError> {
        let mut gate = self.gate();
        gate.loads.push(name.clone());
        if gate.unreadable.as_ref() == Some(name) {
            let what = format!("the stream {name}, in a test");
            return Err(BackendError::Damaged { what });
        }
        drop(gate);
        self.go_off(&Question::Load(name.clone()));
        self.memory.load(name)
    }

    fn list(&self, request: &ListRequest<'_>) -> Result<Vec<StreamState>, BackendError> {
        let mut gate = self.gate();
        if request.prefix.is_empty() && gate.failing_lists > 0 {
            gate.failing_lists -= 1;
            return Err(BackendError::Io {
                what: "while listing in a test".into(),
                source: Arc::new(std::io::ErrorKind::Interrupted.into()),
            });
        }
        drop(gate);
        self.go_off(&Question::List(request.prefix.to_owned()));
        self.memory.list(request)
    }

    fn has_forks(&self, id: StreamId) -> Result<bool, BackendError> {
        self.memory.has_forks(id)
    }

    fn release(&self, id: StreamId) -> Result<Option<StreamId>, BackendError> {
        let mut gate = self.gate();
        gate.releasing += 1;
        while gate.releases_held {
            gate = self.changed.wait(gate).expect("no panic");
        }
        gate.releasing -= 1;
        drop(gate);
        self.check_damage(id)?;
        self.memory.release(id)
    }

    fn deleted(&self) -> Result<Vec<StreamId>, BackendError> {
        self.memory.deleted()
    }

    fn reclaim(&self, id: StreamId) -> Result<(), BackendError> {
        self.check_damage(id)?;
        self.memory.reclaim(id)
    }

    fn reclaimable(&self) -> Result<Vec<StreamId>, BackendError> {
        Ok(self.gate().reclaimable.clone())
    }

    fn due(&self, now: Timestamp, count_max: usize) -> Result<Vec<StreamName>, BackendError> {
        self.memory.due(now, count_max)
    }

    fn control(&self, stream: StreamId, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        self.go_off(&Question::Control);
        self.memory.control(stream, key)
    }

    fn list_controls(
        &self,
        stream: StreamId,
        request: &ControlsRequest<'_>,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.wait_if_controls_are(Held::Before);
        let listed = self.memory.list_controls(stream, request)?;
        self.wait_if_controls_are(Held::Behind);
        self.gate().controls_told += listed.len();
        Ok(listed)
    }

    fn last_id(&self) -> Option<StreamId> {
        self.memory.last_id()
    }

    fn usage(&self) -> Usage {
        self.memory.usage()
    }
}

/// Whether a record appends this payload.
pub(crate) fn appends(record: &Record, payload: &str) -> bool {
    transitions(record).any(|transition| match transition {
        Transition::Append(append) => append.payload == payload,
        _ => false,
    })
}

/// The transitions of a record.
pub(crate) fn transitions(record: &Record) -> impl Iterator<Item = &Transition> {
    use tailwater_storage::stream::Part;
    record.parts.iter().filter_map(|part| match part {
        Part::Stream { transition, .. } => Some(transition),
        Part::Control(_) => None,
    })
}
