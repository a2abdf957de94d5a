//! The reference: PROTOCOL.md in the plainest way, without a line of the crate under test.
//!
//! A fork copies its source byte by byte. A trim empties places. Offsets are compared as text, producers are
//! searched one by one, and a sliding lifetime is worked out anew from the list of all uses.

use super::command::{Append, BEGIN_MS, Create, Fork, Life, NAMES, Request};
use super::outcome::{Answer, Appended, Outcome, Snapshot, Standing};
use super::plain::{Found, Producer, Stream, is_same_type, messages_of};

/// The most bytes of its own that a stream may hold.
pub(crate) const STREAM_BYTES_MAX: usize = 100;
/// The most producers that a stream remembers.
pub(crate) const PRODUCERS_MAX: usize = 2;

#[derive(Debug)]
pub(crate) struct Reference {
    /// Streams that are there, and deleted ones that forks hold.
    streams: Vec<Stream>,
    now_ms: u64,
    incarnations: u64,
    appends: u64,
}

impl Reference {
    pub(crate) fn new() -> Self {
        Self {
            streams: Vec::new(),
            now_ms: BEGIN_MS,
            incarnations: 0,
            appends: 0,
        }
    }

    pub(crate) fn handle(&mut self, request: &Request) -> Outcome {
        self.end_lifetimes();
        let outcome = match request {
            Request::Create(create) => self.create(create),
            Request::Append(append) => self.append(append),
            Request::Delete { name } => match self.standing_of(*name) {
                Standing::Alive(stream) => {
                    stream.deleted = true;
                    Outcome::Deleted
                }
                standing => absent(&standing),
            },
            Request::Trim { name, before } => self.trim(*name, before),
            Request::Use { name } => {
                let now_ms = self.now_ms;
                match self.standing_of(*name) {
                    Standing::Alive(stream) => {
                        stream.uses_ms.push(now_ms);
                        Outcome::Done
                    }
                    standing => absent(&standing),
                }
            }
            Request::Wait { ms } => {
                self.now_ms += ms;
                Outcome::Done
            }
        };
        self.end_lifetimes();
        outcome
    }

    /// The type of the stream of a name, if there is one.
    pub(crate) fn content_type(&self, name: usize) -> Option<&str> {
        self.alive(name).map(|stream| stream.content_type.as_str())
    }

    pub(crate) fn tail(&self, name: usize) -> Option<String> {
        self.alive(name).map(Stream::tail)
    }

    /// When the stream of a name, if there is one, expires.
    pub(crate) fn end_ms(&self, name: usize) -> Option<u64> {
        self.alive(name).and_then(Stream::end_ms)
    }

    /// The greatest sub-offset behind an offset of the stream of a name.
    pub(crate) fn last_sub_offset(&self, name: usize, offset: Option<&str>) -> u64 {
        let found = self
            .alive(name)
            .zip(offset)
            .map(|(stream, offset)| (stream, stream.find(offset)));
        match found {
            Some((stream, Found::At(anchor))) => stream.refinements(anchor).len() as u64 - 1,
            _ => 0,
        }
    }

    /// Epoch and sequence number that a stream knows of a producer.
    pub(crate) fn producer(&self, name: usize, id: &str) -> Option<(u64, u64)> {
        let producer = self.alive(name)?.producers.iter().find(|known| known.id == id)?;
        Some((producer.epoch, producer.seq))
    }

    pub(crate) fn snapshot(&self, name: usize) -> Standing<Snapshot> {
        let Some(stream) = self.streams.iter().find(|stream| stream.name == name) else {
            return Standing::Missing;
        };
        if stream.deleted {
            return Standing::Gone;
        }
        let mut producers: Vec<_> = stream
            .producers
            .iter()
            .map(|known| (known.id.clone(), known.epoch, known.seq, known.end.clone()))
            .collect();
        producers.sort();
        Standing::Alive(Snapshot {
            content_type: stream.content_type.clone(),
            oldest: stream.token(stream.oldest()),
            tail: stream.tail(),
            closed: stream.closed,
            messages: stream.messages(),
            own_bytes: stream.own_bytes() as u64,
            stream_seq: stream.stream_seq.clone(),
            producers,
            last_append_ms: stream.last_append_ms,
            readable: stream.read(&stream.token(stream.oldest())),
        })
    }

    /// What the stream of a name, if there is one, gives from an offset on.
    pub(crate) fn read(&self, name: usize, offset: &str) -> Option<Answer> {
        self.alive(name).map(|stream| stream.read(offset))
    }

    fn alive(&self, name: usize) -> Option<&Stream> {
        self.streams
            .iter()
            .find(|stream| stream.name == name && !stream.deleted)
    }

    fn standing_of(&mut self, name: usize) -> Standing<&mut Stream> {
        match self.streams.iter_mut().find(|stream| stream.name == name) {
            None => Standing::Missing,
            Some(stream) if stream.deleted => Standing::Gone,
            Some(stream) => Standing::Alive(stream),
        }
    }

    /// Deletes what has expired, and removes deleted streams that no fork holds, over and over.
    fn end_lifetimes(&mut self) {
        let now_ms = self.now_ms;
        for stream in &mut self.streams {
            stream.deleted |= stream.end_ms().is_some_and(|end| end <= now_ms);
        }
        for _ in 0..=NAMES {
            let sources: Vec<u64> = self.streams.iter().filter_map(|stream| stream.source).collect();
            self.streams
                .retain(|stream| !stream.deleted || sources.contains(&stream.incarnation));
        }
    }

    /// PROTOCOL.md §5.1, §4.2.
    fn create(&mut self, create: &Create) -> Outcome {
        match self.standing_of(create.name) {
            Standing::Alive(stream) if stream.is_asked_for_again(create) => {
                return Outcome::Exists(stream.describe());
            }
            Standing::Alive(_) => return Outcome::Conflict,
            Standing::Gone => return Outcome::HeldByForks,
            Standing::Missing => {}
        }
        let mut stream = Stream {
            incarnation: self.incarnations + 1,
            name: create.name,
            content_type: create
                .content_type
                .clone()
                .unwrap_or("application/octet-stream".into()),
            asked: create.clone(),
            lifetime: create.lifetime,
            bytes: Vec::new(),
            inherited: 0,
            closed: create.closed,
            producers: Vec::new(),
            stream_seq: None,
            uses_ms: vec![self.now_ms],
            last_append_ms: None,
            source: None,
            deleted: false,
        };
        if let Some(fork) = &create.fork
            && let Err(refusal) = self.inherit(&mut stream, fork)
        {
            return refusal;
        }
        let Some(messages) = messages_of(&stream.content_type, &create.body) else {
            return Outcome::InvalidJson;
        };
        if messages.concat().len() > STREAM_BYTES_MAX {
            return Outcome::TooLarge;
        }
        self.incarnations += 1;
        self.appends += 1;
        stream.add(&messages, self.appends, self.now_ms);
        let outcome = Outcome::Created(stream.describe());
        self.streams.push(stream);
        outcome
    }

    fn inherit(&self, stream: &mut Stream, fork: &Fork) -> Result<(), Outcome> {
        let source = self.streams.iter().find(|stream| stream.name == fork.source);
        let source = source.ok_or(Outcome::SourceNotFound)?;
        if source.deleted {
            return Err(Outcome::SourceGone);
        }
        if stream
            .asked
            .content_type
            .as_ref()
            .is_some_and(|asked| !is_same_type(asked, &source.content_type))
        {
            return Err(Outcome::ForkContentType {
                expected: source.content_type.clone(),
            });
        }
        let anchor = match &fork.offset {
            None => source.bytes.len(),
            Some(offset) => match source.find(offset) {
                Found::At(position) => position,
                Found::Unknown => return Err(Outcome::ForkOffset),
                Found::Trimmed => return Err(Outcome::ForkTrimmed),
            },
        };
        let nth = usize::try_from(fork.sub_offset).ok();
        let refinements = source.refinements(anchor);
        let point = nth
            .and_then(|nth| refinements.get(nth).copied())
            .ok_or(Outcome::ForkSubOffset)?;
        stream.bytes = source.bytes[..point].to_vec();
        stream.inherited = point;
        stream.source = Some(source.incarnation);
        stream.content_type.clone_from(&source.content_type);
        if stream.lifetime == Life::Unsaid {
            stream.lifetime = source.lifetime;
        }
        Ok(())
    }

    /// PROTOCOL.md §5.2, §5.2.1, §5.3; the refusals in the order in which they are promised.
    fn append(&mut self, append: &Append) -> Outcome {
        let now_ms = self.now_ms;
        self.appends += 1;
        let number = self.appends;
        let stream = match self.standing_of(append.name) {
            Standing::Alive(stream) => stream,
            standing => return absent(&standing),
        };
        let has_body = !append.body.raw.is_empty();
        if !has_body && !append.closes {
            return Outcome::Empty;
        }
        let claim = append.producer.as_ref();
        let known = claim.and_then(|(id, _, _)| stream.producers.iter().find(|known| known.id == *id));
        let duplicate = match (claim, known) {
            (Some((_, epoch, seq)), Some(known)) if *epoch == known.epoch && *seq <= known.seq => {
                Some(Outcome::Duplicate(Appended {
                    tail: known.end.clone(),
                    closed: stream.closed,
                    producer: Some((known.epoch, known.seq)),
                }))
            }
            _ => None,
        };
        let tail = stream.tail();
        if stream.closed {
            return match duplicate {
                Some(duplicate) => duplicate,
                None if claim.is_none() && !has_body => Outcome::AlreadyClosed { tail },
                None => Outcome::Closed { tail },
            };
        }
        let fits = append
            .content_type
            .as_ref()
            .is_some_and(|sent| is_same_type(sent, &stream.content_type));
        if has_body && !fits {
            return Outcome::ContentType {
                expected: stream.content_type.clone(),
            };
        }
        if let Some(duplicate) = duplicate {
            return duplicate;
        }
        if let Some((_, epoch, seq)) = claim
            && let Some(refusal) = refuse_claim(known, stream.producers.len(), *epoch, *seq)
        {
            return refusal;
        }
        if append.if_match.as_ref().is_some_and(|expected| *expected != tail) {
            return Outcome::TailMismatch { tail };
        }
        if let (Some(next), Some(last)) = (&append.stream_seq, &stream.stream_seq)
            && next.as_bytes() <= last.as_bytes()
        {
            return Outcome::StreamSeq { last: last.clone() };
        }
        let Some(messages) = messages_of(&stream.content_type, &append.body) else {
            return Outcome::InvalidJson;
        };
        let added = messages.concat().len();
        if has_body && added == 0 {
            return Outcome::NoMessages;
        }
        if added > 0 && stream.own_bytes() + added > STREAM_BYTES_MAX {
            return Outcome::StreamFull;
        }
        stream.add(&messages, number, now_ms);
        stream.closed = append.closes;
        stream.uses_ms.push(now_ms);
        let tail = stream.tail();
        if let Some((id, epoch, seq)) = claim {
            stream.producers.retain(|known| known.id != *id);
            stream.producers.push(Producer {
                id: id.clone(),
                epoch: *epoch,
                seq: *seq,
                end: tail.clone(),
            });
        }
        if append.stream_seq.is_some() {
            stream.stream_seq.clone_from(&append.stream_seq);
        }
        Outcome::Appended(Appended {
            tail,
            closed: stream.closed,
            producer: claim.map(|(_, epoch, seq)| (*epoch, *seq)),
        })
    }

    fn trim(&mut self, name: usize, before: &str) -> Outcome {
        let now_ms = self.now_ms;
        let stream = match self.standing_of(name) {
            Standing::Alive(stream) => stream,
            standing => return absent(&standing),
        };
        let oldest = stream.oldest();
        match stream.find(before) {
            Found::Unknown => Outcome::UnknownOffset,
            Found::At(position) if position > oldest => {
                for byte in &mut stream.bytes[..position] {
                    byte.value = None;
                }
                stream.uses_ms.push(now_ms);
                Outcome::Trimmed {
                    oldest: stream.token(position),
                }
            }
            Found::At(_) | Found::Trimmed => Outcome::AlreadyTrimmed {
                oldest: stream.token(oldest),
            },
        }
    }
}

fn absent<T>(standing: &Standing<T>) -> Outcome {
    match standing {
        Standing::Gone => Outcome::Gone,
        Standing::Missing | Standing::Alive(_) => Outcome::NotFound,
    }
}

/// PROTOCOL.md §5.2.1, for claims that are no duplicates.
fn refuse_claim(known: Option<&Producer>, producers: usize, epoch: u64, seq: u64) -> Option<Outcome> {
    let gap = |expected| Outcome::Gap {
        expected,
        received: seq,
    };
    match known {
        None if seq != 0 => Some(gap(0)),
        None => (producers >= PRODUCERS_MAX).then_some(Outcome::TooManyProducers),
        Some(known) if epoch < known.epoch => Some(Outcome::Fenced { current: known.epoch }),
        Some(known) if epoch > known.epoch => (seq != 0).then_some(Outcome::EpochStart),
        Some(known) => (seq != known.seq + 1).then(|| gap(known.seq + 1)),
    }
}
