//! Segments against a model that keeps everything in vectors and searches it from the front.

mod answers;
mod crafted;
mod damage;
mod layout;
mod recording;

use std::path::PathBuf;

use tailwater_stream::{AppendExtent, MessageEnds, Position, StreamId, Timestamp};
use tempfile::TempDir;

use super::{AppendHead, Run, Segment, SegmentWriter};
use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::RealDisk;

const STORE: StoreId = StoreId(*b"one of the store");
const NUMBER: u64 = 7;

fn id(number: u64) -> StreamId {
    StreamId::new(number).expect("an id")
}

fn at(number: u64) -> Position {
    Position::new(number).expect("a position")
}

/// An append as it was given to the writer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    start: u64,
    at: u64,
    first_message: u64,
    ends: MessageEnds,
    payload: Vec<u8>,
}

impl Given {
    fn end(&self) -> u64 {
        self.start + self.payload.len() as u64
    }

    fn message_ends(&self) -> impl Iterator<Item = u64> + '_ {
        let ends = self.ends.relative(self.payload.len());
        ends.map(|end| self.start + u64::from(end))
    }

    fn head(&self) -> AppendHead<'_> {
        AppendHead {
            at: Timestamp::from_millis(self.at),
            first_message: self.first_message,
            ends: &self.ends,
        }
    }
}

/// A run as it was given to the writer. Has at least one append.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Model {
    stream: StreamId,
    from: u64,
    appends: Vec<Given>,
}

impl Model {
    fn new(stream: u64, from: u64) -> Self {
        Self {
            stream: id(stream),
            from,
            appends: Vec::new(),
        }
    }

    fn until(&self) -> u64 {
        self.appends.last().map_or(self.from, Given::end)
    }

    /// Adds an append whose messages are so long.
    fn push(&mut self, at: u64, messages: &[u32]) {
        let start = self.until();
        let ends: Vec<_> = messages
            .iter()
            .scan(0, |end, bytes| {
                *end += bytes;
                Some(*end)
            })
            .collect();
        let bytes = u64::from(*ends.last().expect("at least one message"));
        let mut rng = fastrand::Rng::with_seed(start ^ self.stream.get() << 40);
        let mut payload = vec![0; bytes as usize];
        rng.fill(&mut payload);
        let first_message = self
            .appends
            .last()
            .map_or(3, |last| last.first_message + last.ends.count(last.payload.len()));
        self.appends.push(Given {
            start,
            at,
            first_message,
            ends: MessageEnds::from_ends(ends),
            payload,
        });
    }

    fn message_ends(&self) -> Vec<u64> {
        self.appends.iter().flat_map(Given::message_ends).collect()
    }

    fn last_message_end(&self, from: u64, limit: u64) -> Option<Position> {
        let ends = self.message_ends().into_iter();
        ends.filter(|end| *end > from && *end <= limit).max().map(at)
    }

    fn first_message_end(&self, from: u64) -> Position {
        let ends = self.message_ends().into_iter();
        ends.filter(|end| *end > from).min().map(at).expect("one follows")
    }

    fn extents(&self, from: u64, until: u64, begins_before: u64) -> Vec<AppendExtent> {
        let within = |append: &&Given| append.end() > from && append.start < until && from < until;
        let all = self.appends.iter().filter(within).enumerate();
        all.filter(|(number, append)| *number == 0 || append.start < begins_before)
            .map(|(_, append)| AppendExtent {
                start: at(append.start),
                end: at(append.end().min(until)),
                at: Timestamp::from_millis(append.at),
                first_message: append.first_message,
                ends: append.ends.clone(),
            })
            .collect()
    }

    fn bytes(&self, from: u64, until: u64) -> Vec<u8> {
        let all: Vec<u8> = self
            .appends
            .iter()
            .flat_map(|append| append.payload.clone())
            .collect();
        all[(from - self.from) as usize..(until - self.from) as usize].to_vec()
    }
}

/// A segment's file in a directory of its own.
struct Kept {
    path: PathBuf,
    _dir: TempDir,
}

impl Kept {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        Self {
            path: dir.path().join("0000000000000007.segment"),
            _dir: dir,
        }
    }

    fn of(bytes: &[u8]) -> Self {
        let kept = Self::new();
        kept.replace(bytes);
        kept
    }

    fn replace(&self, bytes: &[u8]) {
        std::fs::write(&self.path, bytes).expect("written");
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("read")
    }

    fn writer(&self) -> SegmentWriter {
        SegmentWriter::create(&RealDisk, &self.path, NUMBER, STORE).expect("made")
    }

    fn open(&self) -> Result<Segment, BackendError> {
        Segment::open(&RealDisk, &self.path, NUMBER, STORE)
    }
}

fn write_run(writer: &mut SegmentWriter, model: &Model) -> Run {
    writer.begin_run(model.stream, at(model.from));
    for append in &model.appends {
        writer.append(append.head(), &append.payload).expect("written");
    }
    writer
        .end_run()
        .expect("written")
        .expect("there was at least one append")
}

/// Writes a segment of these runs, and answers where they are in it.
fn write(models: &[Model]) -> (Kept, Vec<Run>) {
    let kept = Kept::new();
    let mut writer = kept.writer();
    let runs = models.iter().map(|model| write_run(&mut writer, model)).collect();
    let len = writer.len();
    let summary = writer.finish().expect("finished");
    assert_eq!(summary.number, NUMBER);
    assert_eq!(summary.runs, models.len() as u64);
    assert_eq!(summary.bytes, kept.bytes().len() as u64);
    assert_eq!(summary.bytes, len + 48 * summary.runs + 64);
    let payload_bytes = models.iter().map(|model| model.until() - model.from);
    assert_eq!(summary.payload_bytes, payload_bytes.sum::<u64>());
    (kept, runs)
}

/// What `copy_run` gives.
fn copied(segment: &Segment, run: &Run, from: u64) -> Result<Vec<Given>, BackendError> {
    let mut given = Vec::new();
    segment.copy_run(run, at(from), &mut |start, head, payload| {
        given.push(Given {
            start: start.get(),
            at: head.at.as_millis(),
            first_message: head.first_message,
            ends: head.ends.clone(),
            payload: payload.to_vec(),
        });
        Ok(())
    })?;
    Ok(given)
}

/// The text of the damage that this must be.
fn damage<T>(result: Result<T, BackendError>) -> String {
    match result {
        Err(BackendError::Damaged { what }) => what,
        Err(other) => panic!("not damage but {other}"),
        Ok(_) => panic!("no damage was found"),
    }
}

/// A few small runs of all kinds: many messages, alike appends, one append.
fn small() -> Vec<Model> {
    let mut mixed = Model::new(1, 40);
    mixed.push(1_000_000, &[3, 4, 5]);
    mixed.push(1_000_000, &[9]);
    mixed.push(1_000_007, &[9]);
    mixed.push(1_000_014, &[9]);
    mixed.push(999_000, &[200, 1, 1]);
    let mut alike = Model::new(2, 0);
    (0..50).for_each(|_| alike.push(5, &[2, 3]));
    // As long and at the same time, and yet not alike.
    alike.push(5, &[3, 2]);
    alike.push(5, &[5]);
    alike.push(5, &[2, 3]);
    let mut one = Model::new(900, 1_000_000_000);
    one.push(77, &[10]);
    vec![mixed, alike, one]
}
