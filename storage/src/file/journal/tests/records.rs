//! Records of all kinds, made up and arbitrary.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use tailwater_stream::offset::LIMIT;
use tailwater_stream::{
    Append, ContentType, ControlChange, CreateRequest, Created, Epoch, ForkRequest, ForkSource, Lifetime,
    Lineage, MessageEnds, NameLimits, OffsetToken, Part, Position, ProducerId, ProducerMark, Record, Seq,
    Span, StreamId, StreamKind, StreamName, StreamState, Timestamp, Transition,
};

pub(super) fn id(number: u64) -> StreamId {
    StreamId::new(number).expect("an id")
}

/// An append of one message.
pub(super) fn append(stream: u64, start: u64, payload: &'static [u8]) -> Record {
    Record::of(
        id(stream),
        Transition::Append(Append {
            start: Position::new(start).expect("a position"),
            payload: Bytes::from_static(payload),
            ends: MessageEnds::One,
            first_message: start,
            producer: None,
            stream_seq: None,
            closes: false,
            at: Timestamp::from_millis(1000 + start),
        }),
    )
}

/// A record of two parts, of which one is a control key.
pub(super) fn append_with_control(stream: u64, start: u64, payload: &'static [u8]) -> Record {
    let mut record = append(stream, start, payload);
    record.parts.push(Part::Control(ControlChange {
        stream: id(stream),
        key: Bytes::from_static(b"cursor"),
        value: Some(Bytes::from_static(b"12")),
    }));
    record
}

/// The beginning of a stream that is no fork.
pub(super) fn create(stream: u64) -> Record {
    let created = Created {
        id: id(stream),
        name: StreamName::parse("runs/1", NameLimits::default()).expect("a name"),
        kind: StreamKind::Plain,
        beside: None,
        content_type: ContentType::default(),
        lifetime: Lifetime::Forever,
        requested: CreateRequest::default(),
        lineage: Lineage::root(id(stream)),
        source: None,
        oldest: Position::ZERO,
        messages: 0,
        at: Timestamp::from_millis(1),
    };
    Record::of(id(stream), Transition::Create(Box::new(created)))
}

fn ids() -> impl Strategy<Value = StreamId> {
    // Few enough for records to meet in a stream, and the greatest.
    prop_oneof![4 => 1..5_u64, 1 => Just(LIMIT - 1)].prop_map(id)
}

fn positions() -> impl Strategy<Value = Position> {
    prop_oneof![0..1000_u64, Just(LIMIT - 1), 0..LIMIT]
        .prop_map(|number| Position::new(number).expect("below the limit"))
}

fn times() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

fn names() -> impl Strategy<Value = StreamName> {
    "[a-zé]{1,9}(/[a-z0-9]{1,9}){0,3}"
        .prop_map(|text| StreamName::parse(&text, NameLimits::default()).expect("a name"))
}

fn content_types() -> impl Strategy<Value = ContentType> {
    prop_oneof![
        Just("application/json"),
        Just("text/plain; charset=utf-8"),
        Just("image/png")
    ]
    .prop_map(|text| ContentType::parse(text).expect("a content type"))
}

fn lifetimes() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        Just(Lifetime::Forever),
        any::<u64>().prop_map(|seconds| Lifetime::Ttl { seconds }),
        times().prop_map(|at| Lifetime::Until { at }),
    ]
}

fn tokens() -> impl Strategy<Value = OffsetToken> {
    prop_oneof![
        Just(OffsetToken::START),
        (ids(), 1..LIMIT)
            .prop_map(|(owner, at)| OffsetToken::new(owner, Position::new(at).expect("a position"))),
    ]
}

fn requests() -> impl Strategy<Value = CreateRequest> {
    let fork =
        (names(), option::of(tokens()), any::<u64>()).prop_map(|(source, offset, sub_offset)| ForkRequest {
            source,
            offset,
            sub_offset,
        });
    (option::of(content_types()), lifetimes(), option::of(fork)).prop_map(|(content_type, lifetime, fork)| {
        CreateRequest {
            content_type,
            lifetime,
            fork,
        }
    })
}

fn lineages() -> impl Strategy<Value = Lineage> {
    let span = (1..1000_u64, ids(), ids());
    vec(span, 1..4).prop_map(|spans| {
        let mut from = 0;
        let spans = spans.into_iter().map(|(bytes, owner, stored_in)| {
            let span = Span {
                from: Position::new(from).expect("a position"),
                owner,
                stored_in,
            };
            from += bytes;
            span
        });
        Lineage::from_spans(spans.collect()).expect("in order from 0")
    })
}

fn sources() -> impl Strategy<Value = ForkSource> {
    (ids(), names(), positions()).prop_map(|(id, name, point)| ForkSource { id, name, point })
}

fn creations() -> impl Strategy<Value = Created> {
    let kinds = any::<bool>().prop_map(|is_run| {
        if is_run {
            StreamKind::Run
        } else {
            StreamKind::Plain
        }
    });
    let belongs = (kinds, option::of(names()));
    let identity = (ids(), names(), belongs, content_types(), lifetimes(), requests());
    let history = (
        lineages(),
        option::of(sources()),
        positions(),
        any::<u64>(),
        times(),
    );
    (identity, history).prop_map(
        |(
            (id, name, (kind, beside), content_type, lifetime, requested),
            (lineage, source, oldest, messages, at),
        )| Created {
            id,
            name,
            kind,
            beside,
            content_type,
            lifetime,
            requested,
            lineage,
            source,
            oldest,
            messages,
            at,
        },
    )
}

fn marks() -> impl Strategy<Value = ProducerMark> {
    const NUMBER_MAX: u64 = (1 << 53) - 1;
    ("[ -~]{1,40}", 0..=NUMBER_MAX, 0..=NUMBER_MAX).prop_map(|(id, epoch, seq)| ProducerMark {
        id: ProducerId::parse(&id).expect("an id"),
        epoch: Epoch::new(epoch).expect("an epoch"),
        seq: Seq::new(seq).expect("a number"),
    })
}

/// The payload and the ends of the messages in it: none, one, or many.
fn payloads() -> impl Strategy<Value = (Bytes, MessageEnds)> {
    let whole = vec(any::<u8>(), 0..300).prop_map(|bytes| (bytes.into(), MessageEnds::One));
    let many = vec(vec(any::<u8>(), 1..200), 2..40).prop_map(|messages| {
        let ends = messages.iter().scan(0_usize, |end, message| {
            *end += message.len();
            Some(*end as u32)
        });
        let ends = MessageEnds::from_ends(ends.collect());
        (messages.concat().into(), ends)
    });
    prop_oneof![3 => whole, 1 => many]
}

fn appends() -> impl Strategy<Value = Append> {
    let content = (
        0..LIMIT - 10_000,
        payloads(),
        any::<u64>().prop_map(|number| number / 2),
    );
    let marks = (
        option::of(marks()),
        option::of("[a-z0-9é]{0,30}"),
        any::<bool>(),
        times(),
    );
    (content, marks).prop_map(
        |((start, (payload, ends), first_message), (producer, stream_seq, closes, at))| Append {
            start: Position::new(start).expect("a position"),
            closes: closes || payload.is_empty(),
            payload,
            ends,
            first_message,
            producer,
            stream_seq: stream_seq.map(Box::from),
            at,
        },
    )
}

fn part_of(id: StreamId, transition: Transition) -> Part {
    Part::Stream { id, transition }
}

/// States with all that appends can make of them.
fn imports() -> impl Strategy<Value = StreamState> {
    let producers = vec((marks(), positions(), times()), 0..4);
    (creations(), vec(appends(), 0..3), producers, any::<bool>()).prop_map(
        |(created, appends, producers, deleted)| {
            let mut state = StreamState::created(&created);
            state.oldest = state.oldest.min(state.tail);
            state.deleted = deleted;
            for append in appends {
                state.closed = append.closes;
                state.stream_seq = append.stream_seq;
                state.last_append_at = Some(append.at);
            }
            for (mark, end, at) in producers {
                state.producers.record(&mark, end, at);
            }
            state
        },
    )
}

fn arbitrary_parts() -> BoxedStrategy<Part> {
    let values = || vec(any::<u8>(), 0..50).prop_map(Bytes::from);
    prop_oneof![
        2 => creations().prop_map(|created| part_of(created.id, Transition::Create(Box::new(created)))),
        1 => creations().prop_map(|created| part_of(created.id, Transition::Stage(Box::new(created)))),
        1 => imports().prop_map(|state| part_of(state.id, Transition::Import(Box::new(state)))),
        8 => (ids(), appends()).prop_map(|(id, append)| part_of(id, Transition::Append(append))),
        1 => (ids(), times()).prop_map(|(id, at)| part_of(id, Transition::Delete { at })),
        1 => (ids(), positions(), times())
            .prop_map(|(id, before, at)| part_of(id, Transition::Trim { before, at })),
        1 => (ids(), times()).prop_map(|(id, at)| part_of(id, Transition::Touch { at })),
        2 => (ids(), values(), option::of(values()))
            .prop_map(|(stream, key, value)| Part::Control(ControlChange { stream, key, value })),
    ]
    .boxed()
}

/// Records of one part or several.
pub(super) fn arbitrary(count_max: usize) -> impl Strategy<Value = Vec<Record>> {
    let several = vec(arbitrary_parts(), 2..5);
    let record = prop_oneof![3 => arbitrary_parts().prop_map(|part| vec![part]), 1 => several];
    let record = record.prop_map(|parts| Record { parts: parts.into() });
    vec(record, 0..=count_max)
}
