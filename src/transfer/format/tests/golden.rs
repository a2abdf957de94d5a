//! The example of docs/export-format.md, read and written byte by byte.

use bytes::Bytes;
use tailwater_storage::engine::{ExportedAppend, ExportedStream};
use tailwater_storage::stream::{
    ContentType, CreateRequest, Epoch, ForkRequest, ForkSource, Lifetime, Lineage, MessageEnds, NameLimits,
    OffsetToken, Position, ProducerId, ProducerMark, Producers, Seq, Span, StreamId, StreamKind, StreamName,
    StreamState, Timestamp,
};

use super::{Read, Section, events, read, written};

const DOCUMENT: &str = include_str!("../../../../docs/export-format.md");

/// The example, which version 0.1.0 wrote.
pub(super) fn example() -> String {
    let (_, example) = DOCUMENT.split_once("```json\n").expect("an example");
    let (example, _) = example.split_once("```").expect("an end of the example");
    example.to_owned()
}

pub(super) fn id(number: u64) -> StreamId {
    StreamId::new(number).expect("an id")
}

pub(super) fn at(number: u64) -> Position {
    Position::new(number).expect("a position")
}

fn name(text: &str) -> StreamName {
    StreamName::parse(text, NameLimits::default()).expect("a name")
}

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_795_213_200_000 + millis)
}

fn append(start: u64, first_message: u64, payload: &[u8], ends: &[u32], millis: u64) -> ExportedAppend {
    ExportedAppend {
        start: at(start),
        at: ms(millis),
        first_message,
        ends: MessageEnds::from_ends(ends.to_vec()),
        payload: Bytes::copy_from_slice(payload),
    }
}

fn producers() -> Producers {
    let mut producers = Producers::default();
    for (producer, epoch, seq, end) in [("worker-2", 1, 0, 54), ("worker-1", 0, 3, 22)] {
        let mark = ProducerMark {
            id: ProducerId::parse(producer).expect("an id"),
            epoch: Epoch::new(epoch).expect("an epoch"),
            seq: Seq::new(seq).expect("a number"),
        };
        producers.record(&mark, at(end), ms(end));
    }
    producers
}

fn trimmed() -> Section {
    let state = StreamState {
        id: id(5),
        name: name("runs/1"),
        kind: StreamKind::Plain,
        beside: None,
        content_type: ContentType::parse("application/json").expect("a type"),
        lifetime: Lifetime::Ttl { seconds: 3600 },
        requested: CreateRequest {
            content_type: ContentType::parse("application/json"),
            lifetime: Lifetime::Ttl { seconds: 3600 },
            fork: None,
        },
        lineage: Lineage::root(id(5)),
        source: None,
        oldest: at(11),
        tail: at(54),
        messages: 4,
        closed: false,
        stream_seq: Some("00042".into()),
        producers: producers(),
        created_at: ms(1),
        last_append_at: Some(ms(54)),
        touched_at: ms(60),
        deleted: false,
    };
    let two = "{\"step\":3},{\"note\":\"fünf Uhr\"},".as_bytes();
    Section {
        stream: ExportedStream {
            state,
            has_forks: true,
        },
        controls: Vec::new(),
        appends: vec![
            append(11, 1, b"{\"step\":2},", &[11], 22),
            append(22, 2, two, &[11, 32], 54),
        ],
        abandoned: None,
    }
}

fn fork(of: &StreamState) -> Section {
    let state = StreamState {
        id: id(7),
        name: name("runs/1/retry"),
        kind: StreamKind::Run,
        beside: Some(name("jobs")),
        lifetime: Lifetime::Until { at: ms(86_400_000) },
        requested: CreateRequest {
            content_type: None,
            lifetime: Lifetime::Until { at: ms(86_400_000) },
            fork: Some(ForkRequest {
                source: name("runs/1"),
                offset: Some(OffsetToken::new(id(5), at(11))),
                sub_offset: 1,
            }),
        },
        lineage: of.lineage.fork(id(7), at(22)),
        source: Some(ForkSource {
            id: id(5),
            name: name("runs/1"),
            point: at(22),
        }),
        tail: at(33),
        messages: 3,
        closed: true,
        stream_seq: None,
        producers: Producers::default(),
        created_at: ms(70),
        last_append_at: Some(ms(71)),
        touched_at: ms(71),
        ..of.clone()
    };
    Section {
        stream: ExportedStream {
            state,
            has_forks: false,
        },
        controls: Vec::new(),
        appends: vec![append(22, 2, b"{\"step\":9},", &[11], 71)],
        abandoned: None,
    }
}

fn plain(number: u64, called: &str, content_type: &str) -> StreamState {
    StreamState {
        id: id(number),
        name: name(called),
        kind: StreamKind::Plain,
        beside: None,
        content_type: ContentType::parse(content_type).expect("a type"),
        lifetime: Lifetime::Forever,
        requested: CreateRequest {
            content_type: ContentType::parse(content_type),
            ..CreateRequest::default()
        },
        lineage: Lineage::root(id(number)),
        source: None,
        oldest: at(0),
        tail: at(0),
        messages: 0,
        closed: false,
        stream_seq: None,
        producers: Producers::default(),
        created_at: ms(80),
        last_append_at: None,
        touched_at: ms(80),
        deleted: false,
    }
}

fn binary() -> Section {
    let state = StreamState {
        lineage: Lineage::root(id(8)).renewed(at(8), id(9)),
        tail: at(8),
        messages: 1,
        last_append_at: Some(ms(81)),
        touched_at: ms(81),
        ..plain(8, "photos/café", "image/png")
    };
    Section {
        stream: ExportedStream {
            state,
            has_forks: false,
        },
        controls: vec![(b"note".to_vec(), vec![0, 255])],
        appends: vec![append(0, 0, b"\x89PNG\r\n\x1a\n", &[8], 81)],
        abandoned: None,
    }
}

fn gone() -> Section {
    Section {
        stream: ExportedStream {
            state: plain(10, "tmp", "text/plain"),
            has_forks: false,
        },
        controls: Vec::new(),
        appends: Vec::new(),
        abandoned: Some(String::from("the stream was deleted")),
    }
}

fn sections() -> [Section; 4] {
    let trimmed = trimmed();
    let fork = fork(&trimmed.stream.state);
    [trimmed, fork, binary(), gone()]
}

fn stored_by_owners(mut spans: Vec<Span>) -> Lineage {
    for span in &mut spans {
        span.stored_in = span.owner;
    }
    Lineage::from_spans(spans).expect("in order from 0")
}

#[test]
fn the_example_of_the_document_is_what_is_written() {
    let file = String::from_utf8(written(&events(&sections()))).expect("JSON is UTF-8");
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(file, example().replacen("\"version\":\"0.1.0\"", &version, 1));
}

#[test]
fn the_example_of_the_document_is_read_as_what_it_says() {
    let mut sections = sections();
    // Written as stored by stream 8, which says nothing elsewhere.
    let spans = sections[2].stream.state.lineage.spans().to_vec();
    assert_eq!((spans[1].owner, spans[1].stored_in), (id(9), id(8)));
    sections[2].stream.state.lineage = stored_by_owners(spans);
    assert_eq!(read(example().as_bytes()), Read::Whole(events(&sections)));
}

#[test]
fn the_table_of_lines_in_the_document_has_each_kind() {
    for kind in [
        "tailwater_export",
        "stream",
        "control",
        "append",
        "end",
        "abandoned",
        "complete",
    ] {
        assert!(DOCUMENT.contains(&format!("\n| `{kind}` |")), "{kind}");
    }
}
