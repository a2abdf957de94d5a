//! What may happen to a subscription.

use proptest::prelude::*;

/// Streams that may exist. The first two are meant by the pattern, the third is named, the last neither at first.
pub(crate) const STREAMS: [&str; 4] = ["jobs/a", "jobs/b", "orders", "notes"];
/// The pattern of the subscription.
pub(crate) const PATTERN: &str = "jobs/*";
/// The streams that it names when it is made.
pub(crate) const NAMED: [&str; 1] = ["orders"];
/// Its lease.
pub(crate) const LEASE_TTL_MS: u64 = 1_000;

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A stream is made, if there is none.
    Create {
        stream: usize,
    },
    /// So many bytes are appended, if there is such a stream.
    Append {
        stream: usize,
        bytes: u64,
    },
    /// A stream is deleted, if there is one.
    Delete {
        stream: usize,
    },
    /// A stream is deleted and another one of its name has so many bytes before anybody looks, if there is one.
    Replace {
        stream: usize,
        bytes: u64,
    },
    Name {
        stream: usize,
    },
    Unname {
        stream: usize,
    },
    Claim {
        worker: u8,
    },
    /// Whoever was given the how-manieth wake from the end says that it has processed so much of these streams.
    Ack {
        back: usize,
        acks: Vec<(usize, Place)>,
        done: bool,
    },
    Release {
        back: usize,
    },
    /// An attempt to send ends.
    Sent {
        back: usize,
        outcome: Outcome,
    },
    Wait {
        ms: u64,
    },
    /// Time passes, and nobody looks at what is over by then.
    Nap {
        ms: u64,
    },
    /// The process ends and begins anew.
    Restart,
}

/// A place in a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// As far as it reached when the worker was told.
    AsTold,
    /// The beginning.
    Start,
    /// Beyond the end.
    Beyond,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Taken,
    Done,
    Failed,
}

pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 1..60)
}

fn event() -> impl Strategy<Value = Event> {
    let stream = 0..STREAMS.len();
    // Mostly the newest wake, and now and then one that is long gone.
    let back = prop_oneof![5 => Just(0_usize), 1 => 1..4_usize];
    let place = prop_oneof![6 => Just(Place::AsTold), 1 => Just(Place::Start), 1 => Just(Place::Beyond)];
    let acks = prop::collection::vec((stream.clone(), place), 0..4);
    let outcome = prop_oneof![Just(Outcome::Taken), Just(Outcome::Done), Just(Outcome::Failed)];
    prop_oneof![
        2 => stream.clone().prop_map(|stream| Event::Create { stream }),
        6 => (stream.clone(), 1..50_u64).prop_map(|(stream, bytes)| Event::Append { stream, bytes }),
        1 => stream.clone().prop_map(|stream| Event::Delete { stream }),
        1 => (stream.clone(), 0..50_u64).prop_map(|(stream, bytes)| Event::Replace { stream, bytes }),
        1 => stream.clone().prop_map(|stream| Event::Name { stream }),
        1 => stream.prop_map(|stream| Event::Unname { stream }),
        4 => (0..3_u8).prop_map(|worker| Event::Claim { worker }),
        6 => (back.clone(), acks, any::<bool>()).prop_map(|(back, acks, done)| Event::Ack { back, acks, done }),
        2 => back.clone().prop_map(|back| Event::Release { back }),
        4 => (back, outcome).prop_map(|(back, outcome)| Event::Sent { back, outcome }),
        2 => prop_oneof![1..500_u64, 900..1_200_u64].prop_map(|ms| Event::Wait { ms }),
        1 => (900..1_200_u64).prop_map(|ms| Event::Nap { ms }),
        2 => Just(Event::Restart),
    ]
}
