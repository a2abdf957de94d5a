//! What cannot be seen from outside: what is held in memory, and that a turn comes to an end.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tailwater_stream::subscription::{Delivery, Pattern};
use tailwater_stream::{
    ContentType, CreateCommand, NameLimits, StreamName, SubscriptionConfig, SubscriptionId,
};

use super::deliver::{Deliver, WebhookAnswer, WebhookDelivery};
use super::opened::Opened;
use super::{AckRequest, Claim, NewSubscription, StreamAck, SubscriptionLimits, Subscriptions};
use crate::clock::{Clock, ManualClock};
use crate::engine::AppendRequest;
use crate::panics::Task;
use crate::sync::Mutex;
use crate::{Engine, EngineLimits, Memory};

const LIMITS: SubscriptionLimits = SubscriptionLimits {
    subscriptions_max: 100,
    named_streams_max: 100,
    wake_streams_max: 1_000_000,
};
/// How long it is waited for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody is woken by webhooks here.
struct Nobody;

impl Deliver for Nobody {
    fn deliver(&self, delivery: WebhookDelivery) -> Pin<Box<dyn Future<Output = WebhookAnswer> + Send>> {
        unreachable!("{} has no webhook", delivery.subscription)
    }
}

fn name(text: &str) -> StreamName {
    StreamName::parse(text, NameLimits::default()).expect("a name")
}

fn id() -> SubscriptionId {
    SubscriptionId::parse("s").expect("an id")
}

/// An engine with a subscription of everything below `jobs/`.
async fn subscribed(clock: Arc<dyn Clock>) -> (Engine, Subscriptions) {
    let engine = engine(clock);
    let subscriptions = subscribed_in(&engine).await;
    (engine, subscriptions)
}

fn engine(clock: Arc<dyn Clock>) -> Engine {
    let memory = Arc::new(Memory::new(1 << 30));
    Engine::start(memory, clock, EngineLimits::default()).expect("memory works")
}

async fn subscribed_in(engine: &Engine) -> Subscriptions {
    let started = Subscriptions::start(engine.clone(), Arc::new(Nobody), LIMITS).await;
    let subscriptions = started.expect("memory works");
    create(engine, "wakes").await;
    let asked = NewSubscription {
        id: id(),
        config: SubscriptionConfig {
            delivery: Delivery::PullWake {
                wake_stream: name("wakes"),
            },
            pattern: Some(Pattern::parse("jobs/*").expect("a pattern")),
            streams: BTreeSet::new(),
            lease_ttl_ms: 600_000,
            description: None,
        },
        root: "http://127.0.0.1/v1/stream".into(),
    };
    subscriptions.create(asked, 10).await.expect("made");
    subscriptions
}

async fn create(engine: &Engine, stream: &str) {
    let created = engine.create(&name(stream), CreateCommand::default()).await;
    created.expect("created");
}

async fn append(engine: &Engine, stream: &str) {
    let request = AppendRequest {
        body: Bytes::from_static(b"x"),
        content_type: Some(ContentType::default()),
        ..AppendRequest::default()
    };
    engine.append(&name(stream), request).await.expect("appended");
}

fn opened(subscriptions: &Subscriptions) -> Arc<Opened> {
    subscriptions.find(&id()).expect("it is there")
}

async fn until<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it comes in time");
}

fn whole(claim: &Claim) -> AckRequest {
    let acks = claim.work.iter().map(|told| StreamAck {
        stream: told.stream.clone(),
        offset: told.tail.token(),
    });
    AckRequest {
        token_generation: claim.claimed.generation,
        generation: claim.claimed.generation,
        wake: Some(claim.claimed.wake),
        acks: acks.collect(),
        done: true,
    }
}

/// What the runtime holds of streams: names that have moved, and streams with something new.
async fn held(engine: &Engine, subscriptions: &Subscriptions) -> usize {
    let opened = opened(subscriptions);
    let turn = opened.turn.lock().await;
    let pending = turn.as_ref().expect("it is there").subscription.pending().len();
    let index = engine.moves().index.entries();
    engine.moves().noted_count() + opened.moved_count() + pending + index
}

/// Streams under a pattern cost the runtime nothing while they are idle, though each was processed once.
#[tokio::test]
async fn a_hundred_thousand_idle_streams_under_one_pattern_are_not_held() {
    const STREAMS: usize = 100_000;
    let clock = Arc::new(ManualClock::at_millis(1_000));
    let (engine, subscriptions) = subscribed(clock).await;
    for stream in 0..STREAMS {
        let stream = format!("jobs/{stream}");
        create(&engine, &stream).await;
        append(&engine, &stream).await;
    }
    let claim = subscriptions.claim(&id(), "w").await.expect("work");
    assert_eq!(claim.work.len(), STREAMS);
    assert!(held(&engine, &subscriptions).await >= STREAMS, "they are pending");
    let acked = subscriptions.ack(&id(), whole(&claim)).await;
    assert!(!acked.expect("the lease is held").next_wake);
    until(|| async { held(&engine, &subscriptions).await <= 1 }).await;
    append(&engine, "jobs/7").await;
    let claim = subscriptions.claim(&id(), "w").await.expect("work");
    assert_eq!(claim.work.len(), 1);
    assert_eq!(
        held(&engine, &subscriptions).await,
        2,
        "the pattern, and one stream"
    );
}

/// A clock that makes the next stream move whenever somebody looks at it, so also whenever something is stored.
#[derive(Default)]
struct Restless {
    moving: Mutex<Option<(Arc<Opened>, usize)>>,
}

impl Clock for Restless {
    fn now_micros(&self) -> u64 {
        if let Some((opened, next)) = &mut *self.moving.lock() {
            opened.note(name(&format!("jobs/{next}")));
            *next += 1;
        }
        1_000_000
    }

    fn monotonic_ms(&self) -> u64 {
        1_000
    }
}

/// A turn looked at what had moved until nothing more moved. Under many streams that never rest it never came to making a
/// wake, nor to answering a claim.
#[tokio::test]
async fn a_turn_ends_though_streams_never_stop_moving() {
    const STREAMS: usize = 1_000;
    let clock = Arc::new(Restless::default());
    let (engine, subscriptions) = subscribed(Arc::<Restless>::clone(&clock)).await;
    // From here on nothing is done but for the claim.
    subscriptions.stop();
    tokio::task::yield_now().await;
    for stream in 0..STREAMS {
        let stream = format!("jobs/{stream}");
        create(&engine, &stream).await;
        append(&engine, &stream).await;
    }
    engine.moves().take();
    let opened = opened(&subscriptions);
    opened.note(name("jobs/0"));
    *clock.moving.lock() = Some((Arc::clone(&opened), 1));
    let claim = subscriptions.claim(&id(), "w").await.expect("work");
    *clock.moving.lock() = None;
    assert_eq!(claim.work.len(), 1, "what had moved when the turn began");
    assert!(opened.moved_count() > 0, "the others are left to the next turn");
}

/// Each of these tasks ended without a word, and without any one of them nobody was woken, or no lease ended.
#[tokio::test]
async fn workers_are_woken_and_leases_end_after_panics_of_the_tasks_behind_it() {
    let tasks = [
        Task::SubscriptionMoves,
        Task::SubscriptionRecovery,
        Task::SubscriptionClock,
    ];
    let clock = Arc::new(ManualClock::at_millis(1_000));
    let engine = engine(Arc::<ManualClock>::clone(&clock));
    let panics = &engine.stats().panics;
    tasks.into_iter().for_each(|task| panics.plant(task));
    let subscriptions = subscribed_in(&engine).await;
    create(&engine, "jobs/a").await;
    append(&engine, "jobs/a").await;
    until(|| async { subscriptions.stats().wakes.get() == 1 }).await;
    subscriptions.claim(&id(), "w").await.expect("work");
    until(|| async { tasks.iter().all(|task| panics.of(*task) == 1) }).await;
    // From here on nobody but the clock's task looks at it.
    clock.advance_millis(600_000);
    until(|| async { subscriptions.stats().expired_leases.get() == 1 }).await;
}
