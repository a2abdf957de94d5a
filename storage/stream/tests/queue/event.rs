//! What may happen to a queue.

use proptest::prelude::*;

pub(crate) const LEASE_MS: u64 = 1_000;
pub(crate) const BASE_MS: u64 = 100;
pub(crate) const CAP_MS: u64 = 1_000;
pub(crate) const ATTEMPTS_MAX: u32 = 3;

/// How the queue is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) concurrency: Option<u32>,
    pub(crate) per_value: Option<u32>,
    pub(crate) run_timeout_ms: Option<u64>,
    pub(crate) start_ttl_ms: Option<u64>,
}

pub(crate) fn shapes() -> impl Strategy<Value = Shape> {
    let maybe = |number: std::ops::Range<u64>| prop::option::weighted(0.4, number);
    (maybe(1..4), maybe(1..3), maybe(500..5_000), maybe(500..5_000)).prop_map(
        |(concurrency, per_value, run_timeout_ms, start_ttl_ms)| Shape {
            concurrency: concurrency.map(|most| u32::try_from(most).expect("small")),
            per_value: per_value
                .map(|most| u32::try_from(most).expect("small"))
                .map(|most| most.min(concurrency.map_or(most, |all| u32::try_from(all).expect("small")))),
            run_timeout_ms,
            start_ttl_ms,
        },
    )
}

/// What a message asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Message {
    /// A job, with a value at the concurrency key, and how much later it is to run.
    Job { value: Option<u8>, later_ms: u64 },
    /// The job of the how-manieth run once more.
    Again { run: usize, other_payload: bool },
    /// None that can be meant.
    Invalid,
}

/// How a worker ends its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Complete,
    Fail { retry: bool, after_ms: Option<u64> },
    Release,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Messages come and are looked at together.
    Enqueue {
        messages: Vec<Message>,
    },
    Claim {
        worker: u8,
        count: usize,
    },
    /// Whoever was given the how-manieth lease from the end adds an event to the run.
    Log {
        back: usize,
    },
    Beat {
        back: usize,
    },
    Settle {
        back: usize,
        ends: Ends,
    },
    /// The how-manieth run is called off.
    Cancel {
        run: usize,
    },
    Pause {
        paused: bool,
    },
    Purge {
        all: bool,
    },
    /// Time passes by both clocks.
    Wait {
        ms: u64,
    },
    /// The wall clock is set.
    SetBack {
        ms: u64,
    },
    /// The process ends and begins anew.
    Restart,
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        8 => (prop::option::of(0..3_u8), prop_oneof![3 => Just(0), 1 => 1..3_000_u64])
            .prop_map(|(value, later_ms)| Message::Job { value, later_ms }),
        1 => (0..8_usize, prop::bool::weighted(0.3))
            .prop_map(|(run, other_payload)| Message::Again { run, other_payload }),
        1 => Just(Message::Invalid),
    ]
}

fn ends() -> impl Strategy<Value = Ends> {
    prop_oneof![
        3 => Just(Ends::Complete),
        2 => (prop::bool::weighted(0.8), prop::option::weighted(0.2, 0..2_000_u64))
            .prop_map(|(retry, after_ms)| Ends::Fail { retry, after_ms }),
        1 => Just(Ends::Release),
    ]
}

pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    let back = || prop_oneof![3 => 0..2_usize, 1 => 0..8_usize];
    let event = prop_oneof![
        4 => prop::collection::vec(message(), 1..5).prop_map(|messages| Event::Enqueue { messages }),
        6 => (0..3_u8, 1..4_usize).prop_map(|(worker, count)| Event::Claim { worker, count }),
        3 => back().prop_map(|back| Event::Log { back }),
        2 => back().prop_map(|back| Event::Beat { back }),
        5 => (back(), ends()).prop_map(|(back, ends)| Event::Settle { back, ends }),
        1 => (0..12_usize).prop_map(|run| Event::Cancel { run }),
        1 => any::<bool>().prop_map(|paused| Event::Pause { paused }),
        1 => any::<bool>().prop_map(|all| Event::Purge { all }),
        4 => (1..1_500_u64).prop_map(|ms| Event::Wait { ms }),
        1 => (1..3_000_u64).prop_map(|ms| Event::SetBack { ms }),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 1..60)
}

/// What was said to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Nothing,
    /// Jobs by number, each with attempt and epoch.
    Claimed(Vec<(usize, u32, u64)>),
    Accepted,
    Refused,
    Beat {
        cancel: bool,
    },
    State(tailwater_stream::queue::RunState),
}

/// What is seen of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) state: tailwater_stream::queue::RunState,
    pub(crate) attempt: u32,
    pub(crate) epoch: u64,
}

/// What is counted of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) leased: u32,
    pub(crate) open: usize,
    pub(crate) dead: u64,
    pub(crate) duplicates: u64,
}
