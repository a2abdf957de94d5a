//! What a batch says of one part of a record: all of it but the payload, which stands apart.

use std::ops::Range;

use bytes::Bytes;
use tailwater_stream::{Append, ControlChange, MessageEnds, Part, Position, StreamId, Timestamp, Transition};

use super::header::{known_flags, known_version};
use super::{Newer, Unreadable};
use crate::codec::{Decoder, Encode, Malformed};

const VERSION: u8 = 1;
const WHAT: &str = "an entry";

/// Of every entry: its length, its checksum, version, kind, flags, stream.
pub(super) const ENTRY_HEAD_BYTES: usize = 20;
/// The checksum stands here.
const CRC_AT: Range<usize> = 4..8;
/// The checksum covers the entry from here on, and its payload.
const CHECKED_FROM: usize = 8;
/// Where an append says where its payload stands: start, then this.
const PAYLOAD_AT: Range<usize> = 28..32;

const CREATE: u8 = 1;
const APPEND: u8 = 2;
const DELETE: u8 = 3;
const TRIM: u8 = 4;
const TOUCH: u8 = 5;
const CONTROL: u8 = 6;
const STAGE: u8 = 7;
const IMPORT: u8 = 8;
/// The greatest kind.
const LAST_KIND: u8 = IMPORT;

/// The next entry belongs to the same record.
const GOES_ON: u16 = 1;
/// An append has a producer's mark.
const HAS_PRODUCER: u16 = 2;
/// An append has a `Stream-Seq`.
const HAS_STREAM_SEQ: u16 = 4;
/// An append closes its stream.
const CLOSES: u16 = 8;

/// Encodes the entry of a part. [`set_length`], [`set_payload`] and [`set_checksum`] complete it.
pub(super) fn put_entry(out: &mut impl Encode, part: &Part, goes_on: bool) {
    let goes_on = if goes_on { GOES_ON } else { 0 };
    match part {
        Part::Stream { id, transition } => match transition {
            Transition::Create(created) => {
                assert_eq!(*id, created.id, "a stream begins with its own id");
                put_head(out, CREATE, goes_on, *id);
                out.put_created(created);
            }
            Transition::Stage(created) => {
                assert_eq!(*id, created.id, "a stream begins with its own id");
                put_head(out, STAGE, goes_on, *id);
                out.put_created(created);
            }
            Transition::Import(state) => {
                assert_eq!(*id, state.id, "a stream is imported under its own id");
                put_head(out, IMPORT, goes_on, *id);
                out.put_state(state, 0);
                out.put_producers(&state.producers);
            }
            Transition::Append(append) => {
                put_head(out, APPEND, goes_on | flags_of(append), *id);
                put_append(out, append);
            }
            Transition::Delete { at } => {
                put_head(out, DELETE, goes_on, *id);
                out.put_time(*at);
            }
            Transition::Trim { before, at } => {
                put_head(out, TRIM, goes_on, *id);
                out.put_position(*before);
                out.put_time(*at);
            }
            Transition::Touch { at } => {
                put_head(out, TOUCH, goes_on, *id);
                out.put_time(*at);
            }
        },
        Part::Control(change) => {
            put_head(out, CONTROL, goes_on, change.stream);
            out.put_bytes(&change.key);
            out.put_option(change.value.as_ref(), |out, value| out.put_bytes(value));
        }
    }
}

fn put_head(out: &mut impl Encode, kind: u8, flags: u16, stream: StreamId) {
    out.put_u32(0);
    out.put_u32(0);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u16(flags);
    out.put_id(stream);
}

fn flags_of(append: &Append) -> u16 {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    flag(append.producer.is_some(), HAS_PRODUCER)
        | flag(append.stream_seq.is_some(), HAS_STREAM_SEQ)
        | flag(append.closes, CLOSES)
}

fn put_append(out: &mut impl Encode, append: &Append) {
    out.put_position(append.start);
    out.put_u32(0);
    out.put_u32(u32::try_from(append.payload.len()).expect("journals are below 4 GiB"));
    out.put_u64(append.first_message);
    out.put_time(append.at);
    out.put_message_ends(&append.ends);
    if let Some(mark) = &append.producer {
        out.put_producer_mark(mark);
    }
    if let Some(seq) = &append.stream_seq {
        out.put_str(seq);
    }
}

/// The bytes of a part that stand apart from its entry, and their stream; none if there are none.
pub(super) fn payload_of(part: &Part) -> Option<(StreamId, &[u8])> {
    match part {
        Part::Stream {
            id,
            transition: Transition::Append(append),
        } if !append.payload.is_empty() => Some((*id, &append.payload)),
        Part::Stream { .. } | Part::Control(_) => None,
    }
}

pub(super) fn set_length(entry: &mut [u8]) {
    let length = u32::try_from(entry.len()).expect("journals are below 4 GiB");
    entry[..CRC_AT.start].copy_from_slice(&length.to_le_bytes());
}

/// Says where the payload of an append stands, counted from the batch's first byte.
pub(super) fn set_payload(append: &mut [u8], at: u32) {
    append[PAYLOAD_AT].copy_from_slice(&at.to_le_bytes());
}

/// The last to be set: it covers what the others set.
pub(super) fn set_checksum(entry: &mut [u8], payload: &[u8]) {
    let crc = checksum(entry, payload);
    entry[CRC_AT].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(entry: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&entry[CHECKED_FROM..]);
    crc.update(payload);
    crc.finalize()
}

/// Checks an entry together with its payload against its checksum.
///
/// # Errors
/// If one of them is not what was written.
pub(in crate::file) fn check_entry(entry: &[u8], payload: &[u8]) -> Result<(), Malformed> {
    let what = "an entry whose checksum is wrong";
    let mut from = Decoder::new(entry);
    let is_whole = from.u32(WHAT)? as usize == entry.len() && entry.len() >= ENTRY_HEAD_BYTES;
    let crc = from.u32(WHAT)?;
    if is_whole && crc == checksum(entry, payload) {
        Ok(())
    } else {
        Err(Malformed { what })
    }
}

/// What the index of an append's bytes is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::file) struct AppendMeta {
    pub(in crate::file) start: Position,
    pub(in crate::file) at: Timestamp,
    pub(in crate::file) first_message: u64,
    pub(in crate::file) ends: MessageEnds,
    pub(in crate::file) payload_len: u32,
}

/// Reads the entry of an append. Does not look at its checksum: that was right when the journal was replayed, or
/// the entry was written since.
///
/// # Errors
/// If the bytes are no append's entry.
pub(in crate::file) fn append_meta(entry: &[u8]) -> Result<AppendMeta, Malformed> {
    let what = "an append's entry";
    match Entry::read(entry) {
        Ok(entry) if entry.kind == APPEND => take_append(&mut entry.body()),
        Ok(_) | Err(Unreadable::Newer(_)) => Err(Malformed { what }),
        Err(Unreadable::Malformed(malformed)) => Err(malformed),
    }
}

fn take_append(from: &mut Decoder<'_>) -> Result<AppendMeta, Malformed> {
    let what = "an append";
    let start = from.position()?;
    from.u32(what)?;
    let payload_len = from.u32(what)?;
    let first_message = from.u64(what)?;
    let at = from.time()?;
    let ends = from.message_ends(payload_len.into())?;
    let messages = ends.count(payload_len as usize);
    if start.advance(payload_len.into()).is_none() || first_message.checked_add(messages).is_none() {
        return Err(Malformed { what });
    }
    Ok(AppendMeta {
        start,
        at,
        first_message,
        ends,
        payload_len,
    })
}

/// An entry of a version, a kind and flags that are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    kind: u8,
    flags: u16,
    stream: StreamId,
    bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The entry that begins where `from` stands; reads on behind it.
    pub(super) fn take(from: &mut Decoder<'a>) -> Result<Self, Unreadable> {
        let length = Decoder::new(from.rest()).u32(WHAT)?;
        Self::read(from.slice(length as usize, WHAT)?)
    }

    fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut from = Decoder::new(bytes);
        let length = from.u32(WHAT)?;
        if length as usize != bytes.len() {
            return Err(Malformed { what: WHAT }.into());
        }
        from.u32(WHAT)?;
        known_version(WHAT, from.u8(WHAT)?.into(), VERSION.into())?;
        let kind = from.u8(WHAT)?;
        let flags = from.u16(WHAT)?;
        let known = match kind {
            0 => return Err(Malformed { what: WHAT }.into()),
            APPEND => GOES_ON | HAS_PRODUCER | HAS_STREAM_SEQ | CLOSES,
            CREATE..=LAST_KIND => GOES_ON,
            found => {
                return Err(Newer::Kind {
                    found,
                    known: LAST_KIND,
                }
                .into());
            }
        };
        known_flags(WHAT, flags.into(), known.into())?;
        Ok(Self {
            kind,
            flags,
            stream: from.id()?,
            bytes,
        })
    }

    fn body(&self) -> Decoder<'a> {
        Decoder::new(&self.bytes[ENTRY_HEAD_BYTES..])
    }

    /// The entry as it stands in the journal.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether the next entry belongs to the same record.
    pub(super) fn goes_on(&self) -> bool {
        self.flags & GOES_ON != 0
    }

    /// Where the payload stands, counted from the batch's first byte; none if there is no payload.
    pub(super) fn payload(&self) -> Result<Option<Range<u64>>, Malformed> {
        if self.kind != APPEND {
            return Ok(None);
        }
        let mut from = self.body();
        from.position()?;
        let at = u64::from(from.u32(WHAT)?);
        let len = u64::from(from.u32(WHAT)?);
        Ok((len > 0).then(|| at..at + len))
    }

    /// The part, whose payload is as long as the entry says.
    pub(super) fn part(&self, payload: Bytes) -> Result<Part, Malformed> {
        let mut from = self.body();
        let part = match self.kind {
            CREATE => self.transition(Transition::Create(Box::new(from.created()?))),
            STAGE => self.transition(Transition::Stage(Box::new(from.created()?))),
            IMPORT => {
                let (mut state, _) = from.state(self.stream, 0)?;
                state.producers = from.producers()?;
                self.transition(Transition::Import(Box::new(state)))
            }
            APPEND => self.transition(Transition::Append(self.append(&mut from, payload)?)),
            DELETE => self.transition(Transition::Delete { at: from.time()? }),
            TRIM => self.transition(Transition::Trim {
                before: from.position()?,
                at: from.time()?,
            }),
            TOUCH => self.transition(Transition::Touch { at: from.time()? }),
            _ => Part::Control(ControlChange {
                stream: self.stream,
                key: from.owned_bytes("a control key")?,
                value: from.option("a control key's value", |from| {
                    from.owned_bytes("a control key's value")
                })?,
            }),
        };
        from.end("an entry's end")?;
        match &part {
            Part::Stream {
                transition: Transition::Create(created) | Transition::Stage(created),
                ..
            } if created.id != self.stream => Err(Malformed {
                what: "a stream's beginning",
            }),
            _ => Ok(part),
        }
    }

    fn transition(&self, transition: Transition) -> Part {
        Part::Stream {
            id: self.stream,
            transition,
        }
    }

    fn append(&self, from: &mut Decoder<'_>, payload: Bytes) -> Result<Append, Malformed> {
        let AppendMeta {
            start,
            at,
            first_message,
            ends,
            ..
        } = take_append(from)?;
        let has = |flag| self.flags & flag != 0;
        let producer = has(HAS_PRODUCER).then(|| from.producer_mark()).transpose()?;
        let stream_seq = has(HAS_STREAM_SEQ)
            .then(|| from.str("a Stream-Seq"))
            .transpose()?;
        Ok(Append {
            start,
            payload,
            ends,
            first_message,
            producer,
            stream_seq: stream_seq.map(Box::from),
            closes: has(CLOSES),
            at,
        })
    }
}
