//! Any streams that an export can have.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use tailwater_storage::engine::{ExportedAppend, ExportedStream};
use tailwater_storage::stream::offset::LIMIT;
use tailwater_storage::stream::producer::NUMBER_MAX;
use tailwater_storage::stream::{
    ContentType, CreateRequest, Epoch, ForkRequest, ForkSource, Lifetime, Lineage, MessageEnds, NameLimits,
    OffsetToken, ProducerId, ProducerMark, Producers, Seq, Span, StreamId, StreamKind, StreamName,
    StreamState, Timestamp,
};

use super::Section;
use super::golden::{at, id};

/// More bytes than all appends of a generated stream have.
const BYTES_MAX: u64 = 100_000;

fn names() -> impl Strategy<Value = StreamName> {
    let parse = |text: String| StreamName::parse(&text, NameLimits::default()).expect("a name");
    "[a-zé\"\\\\🦀 ]{1,5}(/[a-z_.\u{202e}]{3,5}){0,3}".prop_map(parse)
}

fn ids() -> impl Strategy<Value = StreamId> {
    prop_oneof![1..10_u64, 1..LIMIT].prop_map(id)
}

fn times() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

fn lifetimes() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        Just(Lifetime::Forever),
        any::<u64>().prop_map(|seconds| Lifetime::Ttl { seconds }),
        times().prop_map(|at| Lifetime::Until { at }),
    ]
}

fn content_types() -> impl Strategy<Value = ContentType> {
    let text = prop_oneof![
        3 => Just("application/json; charset=utf-8"),
        3 => Just("Text/Plain;format=\"a\\b\""),
        3 => Just(ContentType::DEFAULT),
    ];
    text.prop_map(|text| ContentType::parse(text).expect("a type"))
}

fn requests() -> impl Strategy<Value = CreateRequest> {
    let token = prop_oneof![
        Just(OffsetToken::START),
        (ids(), 1..LIMIT).prop_map(|(owner, number)| OffsetToken::new(owner, at(number))),
    ];
    let fork =
        (names(), option::of(token), any::<u64>()).prop_map(|(source, offset, sub_offset)| ForkRequest {
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

/// Texts with what JSON has to escape, and what it must not.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        vec(any::<char>(), 1..12).prop_map(String::from_iter),
        "[ -~]{1,30}",
        "[\"\\\\\0\n\r\t\u{8}\u{c}\u{1f}\u{7f}\u{2028}aé]{1,12}",
    ]
}

/// The payloads of a stream of JSON, divided into messages, or those of any other stream.
fn payloads(is_json: bool) -> BoxedStrategy<Vec<(Vec<u8>, MessageEnds)>> {
    if is_json {
        let value = prop_oneof![
            texts().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            vec(texts(), 0..3).prop_map(serde_json::Value::from),
        ];
        let message = value.prop_map(|value| format!("{value},"));
        let append = vec(message, 1..4).prop_map(|messages| {
            let mut end = 0;
            let ends = messages.iter().map(|message| {
                end += message.len() as u32;
                end
            });
            (
                messages.concat().into_bytes(),
                MessageEnds::from_ends(ends.collect()),
            )
        });
        return vec(append, 0..5).boxed();
    }
    let payload = prop_oneof![texts().prop_map(String::into_bytes), vec(any::<u8>(), 1..40),];
    vec(payload.prop_map(|payload| (payload, MessageEnds::One)), 0..5).boxed()
}

/// Where the stream's own bytes begin, before which messages, and its appends.
fn appends(is_json: bool) -> impl Strategy<Value = (u64, u64, Vec<ExportedAppend>)> {
    let start = prop_oneof![Just(0), 0..1000_u64, LIMIT - 2 * BYTES_MAX..LIMIT - BYTES_MAX];
    (start, any::<u64>(), payloads(is_json), times()).prop_map(|(start, messages, payloads, time)| {
        let before = messages % (start + 1);
        let (mut next, mut first_message) = (start, before);
        let appends = payloads.into_iter().map(|(payload, ends)| {
            let append = ExportedAppend {
                start: at(next),
                at: time,
                first_message,
                ends,
                payload: Bytes::from(payload),
            };
            next += append.payload.len() as u64;
            first_message += append.ends.count(append.payload.len());
            append
        });
        let appends = appends.collect();
        (start, before, appends)
    })
}

fn lineage(places: &[u64], tail: u64) -> Lineage {
    let from: BTreeSet<_> = places.iter().map(|place| place % (tail + 1)).chain([0]).collect();
    let spans = from.into_iter().map(|from| Span {
        from: at(from),
        owner: id(from + 1),
        stored_in: id(from + 1),
    });
    Lineage::from_spans(spans.collect()).expect("in order from 0")
}

type ProducerNumbers = (u64, u64, u64, Timestamp);

fn producers(of: impl IntoIterator<Item = (String, ProducerNumbers)>, tail: u64) -> Producers {
    let mut producers = Producers::default();
    for (text, (epoch, seq, end, time)) in of {
        let mark = ProducerMark {
            id: ProducerId::parse(&text).expect("an id"),
            epoch: Epoch::new(epoch).expect("an epoch"),
            seq: Seq::new(seq).expect("a number"),
        };
        producers.record(&mark, at(end % (tail + 1)), time);
    }
    producers
}

/// The oldest position and the source of a stream whose own bytes begin at `start`.
fn beginning(source: Option<(StreamId, StreamName, u64, bool)>, start: u64) -> (u64, Option<ForkSource>) {
    let Some((id, name, number, is_trimmed)) = source else {
        return (start, None);
    };
    let before = number % (start + 1);
    let (oldest, point) = if is_trimmed {
        (start, before)
    } else {
        (before, start)
    };
    let point = at(point);
    (oldest, Some(ForkSource { id, name, point }))
}

fn sections_of(content_type: ContentType) -> impl Strategy<Value = Section> {
    let is_json = content_type.as_str().starts_with("application/json");
    let numbers = (0..=NUMBER_MAX, 0..=NUMBER_MAX, any::<u64>(), times());
    let kinds = any::<bool>().prop_map(|is_run| {
        if is_run {
            StreamKind::Run
        } else {
            StreamKind::Plain
        }
    });
    let identity = (
        ids(),
        names(),
        (kinds, option::of(names())),
        lifetimes(),
        requests(),
    );
    let history = (
        appends(is_json),
        vec(any::<u64>(), 0..3),
        option::of((ids(), names(), any::<u64>(), any::<bool>())),
        btree_map("[a-c\"é]{1,3}", numbers, 0..4),
        option::of(texts()),
    );
    let facts = (any::<[bool; 3]>(), times(), option::of(times()), times());
    let bytes = || vec(any::<u8>(), 0..6);
    let rest = (vec((bytes(), bytes()), 0..3), option::weighted(0.2, texts()));
    (identity, history, facts, rest).prop_map(move |(identity, history, facts, rest)| {
        let (id, name, (kind, beside), lifetime, requested) = identity;
        let ((start, before, appends), places, source, producing, stream_seq) = history;
        let ([closed, deleted, has_forks], created_at, last_append_at, touched_at) = facts;
        let bytes: usize = appends.iter().map(|append| append.payload.len()).sum();
        let messages: u64 = appends
            .iter()
            .map(|append| append.ends.count(append.payload.len()))
            .sum();
        let tail = start + bytes as u64;
        let (oldest, source) = beginning(source, start);
        let state = StreamState {
            id,
            name,
            kind,
            beside,
            content_type: content_type.clone(),
            lifetime,
            requested,
            lineage: lineage(&places, tail),
            source,
            oldest: at(oldest),
            tail: at(tail),
            messages: before + messages,
            closed,
            stream_seq: stream_seq.map(String::into_boxed_str),
            producers: producers(producing, tail),
            created_at,
            last_append_at,
            touched_at,
            deleted,
        };
        let (controls, abandoned) = rest;
        Section {
            stream: ExportedStream { state, has_forks },
            controls,
            appends,
            abandoned,
        }
    })
}

/// Any streams, also such as went away while they were exported.
pub(super) fn sections() -> impl Strategy<Value = Vec<Section>> {
    vec(content_types().prop_flat_map(sections_of), 0..4)
}
