//! How numbers, texts and the rules' own types become bytes on disk and are read back. FORMAT.md describes them.
//!
//! Numbers are little-endian or, where they are mostly small, LEB128 varints. What comes from a disk is never
//! trusted: reading gives [`Malformed`], never a panic.

use bytes::Bytes;
use tailwater_stream::{
    ContentType, CreateRequest, Created, Epoch, ForkRequest, ForkSource, Lifetime, Lineage, MessageEnds,
    NameLimits, OffsetToken, Position, ProducerId, ProducerMark, Producers, Seq, Span, StreamId, StreamKind,
    StreamName, StreamState, Timestamp,
};

const CLOSED: u8 = 1;
const DELETED: u8 = 2;
const RUN: u8 = 16;
const BESIDE: u8 = 32;
/// The flags of a stream's state that are its own.
const STATE_FLAGS: u8 = CLOSED | DELETED | RUN | BESIDE;

/// Bytes that are not what their place says they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read")]
pub(crate) struct Malformed {
    /// What should have stood there.
    pub(crate) what: &'static str,
}

fn malformed<T>(what: &'static str) -> Result<T, Malformed> {
    Err(Malformed { what })
}

/// Appends values to a buffer.
pub(crate) trait Encode {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_varint(&mut self, value: u64);
    fn put_slice(&mut self, value: &[u8]);

    /// Bytes behind their length.
    fn put_bytes(&mut self, value: &[u8]) {
        self.put_varint(value.len() as u64);
        self.put_slice(value);
    }

    fn put_str(&mut self, value: &str) {
        self.put_bytes(value.as_bytes());
    }

    /// A byte that says whether there is a value, and then the value.
    fn put_option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.put_u8(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }

    fn put_id(&mut self, id: StreamId) {
        self.put_u64(id.get());
    }

    fn put_position(&mut self, position: Position) {
        self.put_u64(position.get());
    }

    fn put_time(&mut self, at: Timestamp) {
        self.put_u64(at.as_millis());
    }

    fn put_lifetime(&mut self, lifetime: Lifetime) {
        match lifetime {
            Lifetime::Forever => self.put_u8(0),
            Lifetime::Ttl { seconds } => {
                self.put_u8(1);
                self.put_u64(seconds);
            }
            Lifetime::Until { at } => {
                self.put_u8(2);
                self.put_time(at);
            }
        }
    }

    fn put_lineage(&mut self, lineage: &Lineage) {
        self.put_varint(lineage.spans().len() as u64);
        for span in lineage.spans() {
            self.put_position(span.from);
            self.put_id(span.owner);
            self.put_id(span.stored_in);
        }
    }

    fn put_fork_source(&mut self, source: &ForkSource) {
        self.put_id(source.id);
        self.put_str(source.name.as_str());
        self.put_position(source.point);
    }

    fn put_create_request(&mut self, request: &CreateRequest) {
        self.put_option(request.content_type.as_ref(), |out, value| {
            out.put_str(value.as_str());
        });
        self.put_lifetime(request.lifetime);
        self.put_option(request.fork.as_ref(), |out, fork| {
            out.put_str(fork.source.as_str());
            out.put_option(fork.offset, |out, token| out.put_str(&token.to_string()));
            out.put_varint(fork.sub_offset);
        });
    }

    fn put_kind(&mut self, kind: StreamKind) {
        self.put_u8(match kind {
            StreamKind::Plain => 0,
            StreamKind::Run => 1,
        });
    }

    fn put_created(&mut self, created: &Created) {
        self.put_id(created.id);
        self.put_str(created.name.as_str());
        self.put_kind(created.kind);
        self.put_option(created.beside.as_ref(), |out, name| out.put_str(name.as_str()));
        self.put_str(created.content_type.as_str());
        self.put_lifetime(created.lifetime);
        self.put_create_request(&created.requested);
        self.put_lineage(&created.lineage);
        self.put_option(created.source.as_ref(), Self::put_fork_source);
        self.put_position(created.oldest);
        self.put_varint(created.messages);
        self.put_time(created.at);
    }

    /// All that is known of a stream but its id and its producers. `flags` are the caller's own, above
    /// [`STATE_FLAGS`].
    fn put_state(&mut self, state: &StreamState, flags: u8) {
        debug_assert_eq!(flags & STATE_FLAGS, 0, "flags of the state itself");
        let is_run = state.kind == StreamKind::Run;
        let own = [
            (state.closed, CLOSED),
            (state.deleted, DELETED),
            (is_run, RUN),
            (state.beside.is_some(), BESIDE),
        ];
        let own = own.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag);
        self.put_u8(own.fold(flags, |flags, flag| flags | flag));
        self.put_str(state.name.as_str());
        if let Some(beside) = &state.beside {
            self.put_str(beside.as_str());
        }
        self.put_str(state.content_type.as_str());
        self.put_lifetime(state.lifetime);
        self.put_create_request(&state.requested);
        self.put_lineage(&state.lineage);
        self.put_option(state.source.as_ref(), Self::put_fork_source);
        self.put_position(state.oldest);
        self.put_position(state.tail);
        self.put_varint(state.messages);
        self.put_option(state.stream_seq.as_deref(), Self::put_str);
        self.put_time(state.created_at);
        self.put_option(state.last_append_at, Self::put_time);
        self.put_time(state.touched_at);
    }

    /// Producers with what is remembered of them, in the order of their ids.
    fn put_producers(&mut self, producers: &Producers) {
        let mut sorted: Vec<_> = producers.iter().collect();
        sorted.sort_unstable_by_key(|(id, _)| id.as_str());
        self.put_varint(sorted.len() as u64);
        for (id, state) in sorted {
            self.put_str(id.as_str());
            self.put_varint(state.epoch.get());
            self.put_varint(state.seq.get());
            self.put_position(state.end);
            self.put_time(state.at);
        }
    }

    fn put_producer_mark(&mut self, mark: &ProducerMark) {
        self.put_str(mark.id.as_str());
        self.put_varint(mark.epoch.get());
        self.put_varint(mark.seq.get());
    }

    /// The ends of the messages of one append: 0 for one message, or how many there are and how long each is.
    fn put_message_ends(&mut self, ends: &MessageEnds) {
        match ends {
            MessageEnds::One => self.put_varint(0),
            MessageEnds::Many(ends) => {
                self.put_varint(ends.len() as u64);
                let mut start = 0;
                for end in ends.iter() {
                    self.put_varint(u64::from(end - start));
                    start = *end;
                }
            }
        }
    }
}

impl Encode for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_slice(&mut self, value: &[u8]) {
        self.extend_from_slice(value);
    }
}

/// Reads values from the front of some bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Of bytes that begin with their version, if they have this one.
    pub(crate) fn versioned(bytes: &'a [u8], version: u8, what: &'static str) -> Result<Self, Malformed> {
        let mut from = Self::new(bytes);
        if from.u8(what)? == version {
            Ok(from)
        } else {
            malformed(what)
        }
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Asserts that everything was read.
    pub(crate) fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            malformed(what)
        }
    }

    pub(crate) fn slice(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (slice, rest) = self.rest.split_at_checked(count).ok_or(Malformed { what })?;
        self.rest = rest;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Malformed { what })?;
        self.rest = rest;
        Ok(*array)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array(what).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                return malformed(what);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        malformed(what)
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let count = self.varint(what)?;
        self.slice(usize::try_from(count).ok().ok_or(Malformed { what })?, what)
    }

    pub(crate) fn str(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(what)?)
            .ok()
            .ok_or(Malformed { what })
    }

    pub(crate) fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.u8(what)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => malformed(what),
        }
    }

    pub(crate) fn id(&mut self) -> Result<StreamId, Malformed> {
        let what = "a stream's id";
        StreamId::new(self.u64(what)?).ok_or(Malformed { what })
    }

    pub(crate) fn position(&mut self) -> Result<Position, Malformed> {
        let what = "a position";
        Position::new(self.u64(what)?).ok_or(Malformed { what })
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, Malformed> {
        self.u64("a time").map(Timestamp::from_millis)
    }

    pub(crate) fn name(&mut self) -> Result<StreamName, Malformed> {
        let what = "a stream's name";
        StreamName::parse_stored(self.str(what)?, NameLimits::NONE)
            .ok()
            .ok_or(Malformed { what })
    }

    fn kind(&mut self) -> Result<StreamKind, Malformed> {
        let what = "what a stream is for";
        match self.u8(what)? {
            0 => Ok(StreamKind::Plain),
            1 => Ok(StreamKind::Run),
            _ => malformed(what),
        }
    }

    pub(crate) fn content_type(&mut self) -> Result<ContentType, Malformed> {
        let what = "a content type";
        ContentType::parse(self.str(what)?).ok_or(Malformed { what })
    }

    pub(crate) fn lifetime(&mut self) -> Result<Lifetime, Malformed> {
        let what = "a lifetime";
        match self.u8(what)? {
            0 => Ok(Lifetime::Forever),
            1 => Ok(Lifetime::Ttl {
                seconds: self.u64(what)?,
            }),
            2 => Ok(Lifetime::Until { at: self.time()? }),
            _ => malformed(what),
        }
    }

    pub(crate) fn lineage(&mut self) -> Result<Lineage, Malformed> {
        let what = "a lineage";
        let count = self.varint(what)?;
        let mut spans = Vec::new();
        for _ in 0..count {
            spans.push(Span {
                from: self.position()?,
                owner: self.id()?,
                stored_in: self.id()?,
            });
        }
        Lineage::from_spans(spans).ok_or(Malformed { what })
    }

    pub(crate) fn fork_source(&mut self) -> Result<ForkSource, Malformed> {
        Ok(ForkSource {
            id: self.id()?,
            name: self.name()?,
            point: self.position()?,
        })
    }

    pub(crate) fn create_request(&mut self) -> Result<CreateRequest, Malformed> {
        let what = "what a stream was created with";
        Ok(CreateRequest {
            content_type: self.option(what, Self::content_type)?,
            lifetime: self.lifetime()?,
            fork: self.option(what, |from| {
                Ok(ForkRequest {
                    source: from.name()?,
                    offset: from.option(what, |from| {
                        OffsetToken::parse(from.str(what)?).ok_or(Malformed { what })
                    })?,
                    sub_offset: from.varint(what)?,
                })
            })?,
        })
    }

    pub(crate) fn created(&mut self) -> Result<Created, Malformed> {
        let what = "a stream's beginning";
        Ok(Created {
            id: self.id()?,
            name: self.name()?,
            kind: self.kind()?,
            beside: self.option(what, Self::name)?,
            content_type: self.content_type()?,
            lifetime: self.lifetime()?,
            requested: self.create_request()?,
            lineage: self.lineage()?,
            source: self.option(what, Self::fork_source)?,
            oldest: self.position()?,
            messages: self.varint(what)?,
            at: self.time()?,
        })
    }

    /// The state of a stream without its producers, and the caller's flags, which are among `known`.
    pub(crate) fn state(&mut self, id: StreamId, known: u8) -> Result<(StreamState, u8), Malformed> {
        let what = "the state of a stream";
        let flags = self.u8(what)?;
        if flags & !(STATE_FLAGS | known) != 0 {
            return malformed(what);
        }
        let state = StreamState {
            id,
            name: self.name()?,
            kind: match flags & RUN {
                0 => StreamKind::Plain,
                _ => StreamKind::Run,
            },
            beside: match flags & BESIDE {
                0 => None,
                _ => Some(self.name()?),
            },
            content_type: self.content_type()?,
            lifetime: self.lifetime()?,
            requested: self.create_request()?,
            lineage: self.lineage()?,
            source: self.option(what, Self::fork_source)?,
            oldest: self.position()?,
            tail: self.position()?,
            messages: self.varint(what)?,
            closed: flags & CLOSED != 0,
            stream_seq: self.option(what, |from| from.str(what).map(Into::into))?,
            producers: Producers::default(),
            created_at: self.time()?,
            last_append_at: self.option(what, Self::time)?,
            touched_at: self.time()?,
            deleted: flags & DELETED != 0,
        };
        if state.oldest > state.tail {
            return malformed(what);
        }
        Ok((state, flags & !STATE_FLAGS))
    }

    pub(crate) fn producers(&mut self) -> Result<Producers, Malformed> {
        let mut producers = Producers::default();
        for _ in 0..self.varint("producers")? {
            let mark = self.producer_mark()?;
            producers.record(&mark, self.position()?, self.time()?);
        }
        Ok(producers)
    }

    pub(crate) fn producer_id(&mut self) -> Result<ProducerId, Malformed> {
        let what = "a producer's id";
        ProducerId::parse(self.str(what)?).ok_or(Malformed { what })
    }

    pub(crate) fn epoch(&mut self) -> Result<Epoch, Malformed> {
        let what = "an epoch";
        Epoch::new(self.varint(what)?).ok_or(Malformed { what })
    }

    pub(crate) fn seq(&mut self) -> Result<Seq, Malformed> {
        let what = "a sequence number";
        Seq::new(self.varint(what)?).ok_or(Malformed { what })
    }

    pub(crate) fn producer_mark(&mut self) -> Result<ProducerMark, Malformed> {
        Ok(ProducerMark {
            id: self.producer_id()?,
            epoch: self.epoch()?,
            seq: self.seq()?,
        })
    }

    /// The ends of the messages in a payload of `payload_bytes`; the last one must be the payload's end.
    pub(crate) fn message_ends(&mut self, payload_bytes: u64) -> Result<MessageEnds, Malformed> {
        let what = "the ends of messages";
        let count = self.varint(what)?;
        if count == 0 {
            return Ok(MessageEnds::One);
        }
        let mut ends = Vec::with_capacity(self.rest.len().min(usize::try_from(count).unwrap_or(usize::MAX)));
        let mut end = 0_u64;
        for _ in 0..count {
            let bytes = self.varint(what)?;
            end = end.saturating_add(bytes);
            if bytes == 0 || end > payload_bytes {
                return malformed(what);
            }
            ends.push(u32::try_from(end).ok().ok_or(Malformed { what })?);
        }
        if end != payload_bytes {
            return malformed(what);
        }
        Ok(MessageEnds::from_ends(ends))
    }

    /// A value of a control key.
    pub(crate) fn owned_bytes(&mut self, what: &'static str) -> Result<Bytes, Malformed> {
        self.bytes(what).map(Bytes::copy_from_slice)
    }
}
