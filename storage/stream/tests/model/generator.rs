//! Random commands: mostly ones that do something, and every mistake now and then.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::command::{
    AppendPlan, BEGIN_MS, BINARY, Body, BodyPlan, Command, CreatePlan, ForkPlan, JSON, Life, NAMES, Place,
    ProducerPlan, Step, SubOffset, TEXT, Twist, TypePlan,
};

/// A few streams, and then what happens to them.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let first = |name: usize| {
        let lasting = (create(false), lasting()).prop_map(move |(create, lifetime)| CreatePlan {
            name,
            lifetime,
            closed: false,
            ..create
        });
        lasting.prop_map(Command::Create)
    };
    let first = [first(0).boxed(), first(1).boxed(), first(2).boxed()];
    let step = |command: BoxedStrategy<Command>| {
        (command, any::<[Index; 3]>()).prop_map(|(command, probes)| Step { command, probes })
    };
    (first.map(step), vec(step(command().boxed()), 1..80)).prop_map(|(first, mut then)| {
        then.splice(0..0, first);
        then
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => create(false).prop_map(Command::Create),
        12 => create(true).prop_map(Command::Create),
        8 => (any::<Index>(), twist()).prop_map(|(which, twist)| Command::Repeat { which, twist }),
        50 => append().prop_map(Command::Append),
        4 => close().prop_map(Command::Append),
        5 => name().prop_map(|name| Command::Delete { name }),
        6 => (name(), place()).prop_map(|(name, before)| Command::Trim { name, before }),
        8 => name().prop_map(|name| Command::Use { name }),
        8 => select(&[1, 300, 300, 900, 900, 900, 4_999, 20_000][..]).prop_map(|ms| Command::Wait { ms }),
    ]
}

/// Some names come more often, so that streams get long and forks find a source.
fn name() -> impl Strategy<Value = usize> {
    prop_oneof![2 => 0..3_usize, 1 => 0..NAMES]
}

/// Names that are more often free.
fn new_name() -> impl Strategy<Value = usize> {
    prop_oneof![1 => name(), 3 => 3..NAMES]
}

fn create(is_fork: bool) -> impl Strategy<Value = CreatePlan> {
    let fork = (
        name(),
        proptest::option::of(place()),
        prop_oneof![
            6 => Just(SubOffset::Number(0)),
            4 => (1..5_u64).prop_map(SubOffset::Number),
            2 => Just(SubOffset::Last),
            3 => Just(SubOffset::OnePast),
            1 => Just(SubOffset::Number(u64::MAX)),
        ],
    );
    let fork = fork.prop_map(|(source, offset, sub_offset)| ForkPlan {
        source,
        offset,
        sub_offset,
    });
    let fork = if is_fork {
        fork.prop_map(Some).boxed()
    } else {
        Just(None).boxed()
    };
    let content_type = if is_fork {
        prop_oneof![4 => Just(TypePlan::Absent), 2 => Just(TypePlan::Fitting),
            1 => Just(TypePlan::Respelled), 1 => named_type()]
        .boxed()
    } else {
        prop_oneof![1 => Just(TypePlan::Absent), 6 => named_type()].boxed()
    };
    (
        new_name(),
        content_type,
        life(),
        prop::bool::weighted(0.05),
        fork,
        body_plan(0.4),
    )
        .prop_map(|(name, content_type, lifetime, closed, fork, body)| CreatePlan {
            name,
            content_type,
            lifetime,
            closed,
            fork,
            body,
        })
}

fn named_type() -> impl Strategy<Value = TypePlan> {
    prop_oneof![
        3 => Just(JSON),
        2 => Just(TEXT),
        1 => Just(BINARY),
        1 => Just("Application/JSON; charset=utf-8"),
    ]
    .prop_map(TypePlan::Named)
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        12 => Just(Life::Unsaid),
        4 => select(&[5, 20, 60, u64::MAX][..]).prop_map(Life::TtlSeconds),
        1 => Just(Life::TtlSeconds(0)),
        2 => select(&[10_000, 40_000, 9_000_000][..]).prop_map(|after| Life::UntilMs(BEGIN_MS + after)),
    ]
}

/// Lifetimes under which a stream does not end before most of a case is over.
fn lasting() -> impl Strategy<Value = Life> {
    prop_oneof![
        3 => Just(Life::Unsaid),
        3 => select(&[5, 5, 20, 60][..]).prop_map(Life::TtlSeconds),
        1 => Just(Life::UntilMs(BEGIN_MS + 40_000)),
    ]
}

fn twist() -> impl Strategy<Value = Twist> {
    prop_oneof![
        4 => Just(Twist::Nothing),
        2 => Just(Twist::WithoutContentType),
        2 => Just(Twist::RespelledContentType),
        1 => Just(Twist::OtherContentType),
        1 => Just(Twist::OtherClosure),
        1 => Just(Twist::OtherLifetime),
        1 => Just(Twist::OtherSubOffset),
        1 => Just(Twist::AsNoFork),
    ]
}

fn append() -> impl Strategy<Value = AppendPlan> {
    let content_type = prop_oneof![
        12 => Just(TypePlan::Fitting),
        2 => Just(TypePlan::Respelled),
        1 => Just(TypePlan::Absent),
        1 => named_type(),
    ];
    let producer = proptest::option::weighted(0.5, (select(&["p", "p", "q", "q", "r"][..]), producer_plan()));
    let stream_seq = proptest::option::weighted(0.2, "[0-9aBz\u{e9}]{0,3}");
    let if_match = prop_oneof![
        8 => Just(None),
        2 => Just(Some(Place::Tail)),
        1 => place().prop_map(Some),
    ];
    let closes = prop::bool::weighted(0.03);
    (
        name(),
        content_type,
        body_plan(0.05),
        producer,
        stream_seq,
        if_match,
        closes,
    )
        .prop_map(
            |(name, content_type, body, producer, stream_seq, if_match, closes)| AppendPlan {
                name,
                content_type,
                body,
                producer,
                stream_seq,
                if_match,
                closes,
            },
        )
}

/// A close without content.
fn close() -> impl Strategy<Value = AppendPlan> {
    append().prop_map(|append| AppendPlan {
        body: BodyPlan {
            json: empty(),
            bytes: empty(),
        },
        closes: true,
        ..append
    })
}

fn producer_plan() -> impl Strategy<Value = ProducerPlan> {
    prop_oneof![
        6 => Just(ProducerPlan::Next),
        2 => Just(ProducerPlan::LastAgain),
        1 => Just(ProducerPlan::EarlierAgain),
        1 => Just(ProducerPlan::Skip),
        3 => Just(ProducerPlan::OldEpoch),
        3 => Just(ProducerPlan::NewEpoch),
        1 => Just(ProducerPlan::NewEpochTooFar),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        1 => Just(Place::Start),
        2 => Just(Place::Tail),
        2 => any::<Index>().prop_map(Place::Issued),
        6 => any::<Index>().prop_map(Place::IssuedHere),
        1 => (any::<Index>(), select(&[-2, -1, 1, 2][..]))
            .prop_map(|(which, by)| Place::MadeUp(which, by)),
    ]
}

fn empty() -> Body {
    Body {
        raw: Vec::new(),
        messages: None,
    }
}

fn body_plan(empty_weight: f64) -> impl Strategy<Value = BodyPlan> {
    let plan = (json_body(), bytes_body()).prop_map(|(json, bytes)| BodyPlan { json, bytes });
    (prop::bool::weighted(empty_weight), plan).prop_map(|(is_empty, plan)| {
        if is_empty {
            BodyPlan {
                json: empty(),
                bytes: empty(),
            }
        } else {
            plan
        }
    })
}

/// Letters that do not happen to be JSON.
fn bytes_body() -> impl Strategy<Value = Body> {
    prop_oneof![30 => "[a-e]{1,12}", 1 => "[a-e]{101}"].prop_map(|text| Body {
        raw: text.into_bytes(),
        messages: None,
    })
}

fn json_body() -> impl Strategy<Value = Body> {
    const SPACES: &[&str] = &["", "", " ", "\n", "\r\n\t "];
    const INVALID: &[&[u8]] = &[
        b"{",
        b"[1,",
        b"[1,]",
        b"1 2",
        b"nul",
        b"[1] x",
        b"\"\xff\"",
        b"\xef\xbb\xbf1",
    ];
    let scalar = || {
        select(
            &[
                "0",
                "-1.5e3",
                "null",
                "true",
                "\"\"",
                "\"a\\n,]\"",
                "{}",
                "{\"a\": [\n1 ]}",
            ][..],
        )
    };
    let value = || prop_oneof![2 => scalar(), 1 => select(&["[]", "[1,2]", "[[[3]],\r\n4]", "[[ ]]"][..])];
    let batch = (
        vec((value(), select(SPACES), select(SPACES)), 0..5),
        select(SPACES),
    );
    let batch = batch.prop_map(|(values, space)| {
        let elements: Vec<String> = values
            .iter()
            .map(|(value, before, after)| format!("{before}{value}{after}"))
            .collect();
        Body {
            raw: format!("{space}[{}{space}]{space}", elements.join(",")).into_bytes(),
            messages: Some(values.iter().map(|(value, _, _)| without_breaks(value)).collect()),
        }
    });
    let single = (scalar(), select(SPACES)).prop_map(|(value, space)| Body {
        raw: format!("{space}{value}{space}").into_bytes(),
        messages: Some(vec![without_breaks(value)]),
    });
    let invalid = select(INVALID).prop_map(|raw| Body {
        raw: raw.to_vec(),
        messages: None,
    });
    let long = Just(vec!["0".to_owned(); 60]).prop_map(|values| Body {
        raw: format!("[{}]", values.join(",")).into_bytes(),
        messages: Some(values),
    });
    prop_oneof![20 => batch, 10 => single, 2 => invalid, 1 => long]
}

fn without_breaks(value: &str) -> String {
    value.replace(['\r', '\n'], "")
}
