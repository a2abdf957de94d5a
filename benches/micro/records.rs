//! Records as an engine would write them, of streams that get the same payload again and again.

use bytes::Bytes;
use tailwater_storage::stream::{
    Append, ContentType, CreateRequest, Created, Lifetime, Lineage, MessageEnds, NameLimits, Position,
    Record, StreamId, StreamKind, StreamName, Timestamp, Transition,
};

/// Writes to its streams in turn.
pub(crate) struct Author {
    payload: Bytes,
    /// How many appends each stream has, by stream.
    appends: Vec<u64>,
    next: usize,
}

impl Author {
    pub(crate) fn new(streams: usize, payload_bytes: usize) -> Self {
        Self {
            payload: vec![b'p'; payload_bytes].into(),
            appends: vec![0; streams],
            next: 0,
        }
    }

    /// The beginning of every stream.
    pub(crate) fn creates(&self) -> Vec<Record> {
        (0..self.appends.len()).map(create).collect()
    }

    /// The next appends, as many as asked for.
    pub(crate) fn appends(&mut self, count: usize) -> Vec<Record> {
        (0..count).map(|_| self.append()).collect()
    }

    fn append(&mut self) -> Record {
        let stream = self.next;
        self.next = (stream + 1) % self.appends.len();
        let number = self.appends[stream];
        self.appends[stream] += 1;
        let append = Append {
            start: at(number * self.payload.len() as u64),
            payload: self.payload.clone(),
            ends: MessageEnds::One,
            first_message: number,
            producer: None,
            stream_seq: None,
            closes: false,
            at: Timestamp::from_millis(number),
        };
        Record::of(id(stream), Transition::Append(append))
    }
}

pub(crate) fn id(stream: usize) -> StreamId {
    StreamId::new(stream as u64 + 1).expect("an id")
}

pub(crate) fn at(position: u64) -> Position {
    Position::new(position).expect("a position")
}

fn create(stream: usize) -> Record {
    let id = id(stream);
    let created = Created {
        id,
        name: StreamName::parse(&format!("stream-{stream}"), NameLimits::default()).expect("a name"),
        kind: StreamKind::Plain,
        beside: None,
        content_type: ContentType::default(),
        lifetime: Lifetime::Forever,
        requested: CreateRequest::default(),
        lineage: Lineage::root(id),
        source: None,
        oldest: Position::ZERO,
        messages: 0,
        at: Timestamp::from_millis(1),
    };
    Record::of(id, Transition::Create(Box::new(created)))
}
