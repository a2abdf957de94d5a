//! Reads values back.

use bytes::Bytes;
use tailwater_stream::{
    ContentType, CreateRequest, Created, Epoch, ForkRequest, ForkSource, Lifetime, Lineage, MessageEnds,
    NameLimits, OffsetToken, Position, ProducerId, ProducerMark, Producers, Seq, Span, StreamId, StreamKind,
    StreamName, StreamState, Timestamp,
};

use super::{BESIDE, CLOSED, DELETED, Malformed, RUN, STATE_FLAGS, malformed};

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
