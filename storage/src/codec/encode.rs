//! Appends values to a buffer.

use tailwater_stream::{
    CreateRequest, Created, ForkSource, Lifetime, Lineage, MessageEnds, Position, ProducerMark, Producers,
    StreamId, StreamKind, StreamState, Timestamp,
};

use super::{BESIDE, CLOSED, DELETED, RUN, STATE_FLAGS};

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
