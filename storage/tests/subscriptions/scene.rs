//! An engine with subscriptions over each kind of backend, a receiver that does as it is told, and how to wait for what
//! must come.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tailwater_storage::clock::ManualClock;
use tailwater_storage::engine::Incarnation;
use tailwater_storage::stream::subscription::{Delivery, Link, Pattern, Phase, SubscriptionState};
use tailwater_storage::stream::{OffsetToken, StreamName, SubscriptionConfig, SubscriptionId};
use tailwater_storage::subscriptions::deliver::{Deliver, WebhookAnswer, WebhookDelivery};
use tailwater_storage::subscriptions::{
    AckRequest, Claim, Described, LinksPage, NewSubscription, StreamAck, SubscribeError, Subscribed,
    SubscriptionError, SubscriptionLimits,
};
use tailwater_storage::{Backend, Engine, EngineLimits, Memory, Subscriptions};

pub(crate) use crate::support::ask::until;
use crate::support::ask::{Rig, name};
use crate::support::faulty_disk::FaultyDisk;
pub(crate) use crate::support::stores::{acid_store, fast_store, file_store};

pub(crate) const LIMITS: SubscriptionLimits = SubscriptionLimits {
    subscriptions_max: 10,
    named_streams_max: 5,
    wake_streams_max: 3,
};
pub(crate) const LEASE_MS: u64 = 1_000;

/// A receiver of webhooks: keeps what it is sent, and answers as it is told, or when it is.
#[derive(Default, Clone)]
pub(crate) struct Receiver {
    letters: Arc<Mutex<Vec<WebhookDelivery>>>,
    answers: Arc<Mutex<VecDeque<WebhookAnswer>>>,
    is_done_always: Arc<AtomicBool>,
    /// Whose wakes are never answered.
    hangs: Arc<Mutex<BTreeSet<SubscriptionId>>>,
    /// Whose next wake makes whoever sends it panic.
    panics: Arc<Mutex<BTreeSet<SubscriptionId>>>,
}

impl Receiver {
    pub(crate) fn letters(&self) -> Vec<WebhookDelivery> {
        self.letters.lock().expect("no panic").clone()
    }

    /// What it answers next; it does not answer without being told.
    pub(crate) fn answer(&self, answer: WebhookAnswer) {
        self.answers.lock().expect("no panic").push_back(answer);
    }

    /// From now on it answers nothing that a subscription sends.
    pub(crate) fn hang(&self, text: &str) {
        self.hangs.lock().expect("no panic").insert(id(text));
    }

    /// Whoever sends it the next wake of a subscription panics.
    pub(crate) fn panic_once(&self, text: &str) {
        self.panics.lock().expect("no panic").insert(id(text));
    }

    /// From now on it is done with whatever it is sent, at once.
    pub(crate) fn be_done_always(&self) {
        self.is_done_always.store(true, Ordering::SeqCst);
    }

    pub(crate) fn fail(&self) {
        self.answer(WebhookAnswer::Failed {
            error: "no answer".into(),
        });
    }
}

impl Deliver for Receiver {
    fn deliver(&self, delivery: WebhookDelivery) -> Pin<Box<dyn Future<Output = WebhookAnswer> + Send>> {
        let receiver = self.clone();
        Box::pin(async move {
            let hangs = receiver
                .hangs
                .lock()
                .expect("no panic")
                .contains(&delivery.subscription);
            let panics = receiver
                .panics
                .lock()
                .expect("no panic")
                .remove(&delivery.subscription);
            receiver.letters.lock().expect("no panic").push(delivery);
            assert!(!panics, "a planted panic");
            if hangs {
                std::future::pending::<()>().await;
            }
            loop {
                if receiver.is_done_always.load(Ordering::SeqCst) {
                    return WebhookAnswer::Done;
                }
                if let Some(answer) = receiver.answers.lock().expect("no panic").pop_front() {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        })
    }
}

/// An engine and its subscriptions.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) receiver: Receiver,
}

pub(crate) fn id(text: &str) -> SubscriptionId {
    SubscriptionId::parse(text).expect("an id")
}

pub(crate) fn streams(names: &[&str]) -> BTreeSet<StreamName> {
    names.iter().map(|text| name(text)).collect()
}

/// A pull-wake subscription whose events go to `wakes`.
pub(crate) fn pull(pattern: Option<&str>, named: &[&str]) -> SubscriptionConfig {
    SubscriptionConfig {
        delivery: Delivery::PullWake {
            wake_stream: name("wakes"),
        },
        pattern: pattern.map(|text| Pattern::parse(text).expect("a pattern")),
        streams: streams(named),
        lease_ttl_ms: LEASE_MS,
        description: None,
    }
}

pub(crate) fn webhook(pattern: Option<&str>, named: &[&str]) -> SubscriptionConfig {
    SubscriptionConfig {
        delivery: Delivery::Webhook {
            url: "https://worker.example/".into(),
        },
        ..pull(pattern, named)
    }
}

/// What a client asks for that makes a subscription.
pub(crate) fn asked(text: &str, config: SubscriptionConfig) -> NewSubscription {
    NewSubscription {
        id: id(text),
        config,
        root: "http://127.0.0.1/v1/stream".into(),
    }
}

impl Scene {
    pub(crate) async fn over(backend: Arc<dyn Backend>) -> Self {
        Self::with(Rig::over(backend), Receiver::default()).await
    }

    async fn with(rig: Rig, receiver: Receiver) -> Self {
        let started = Self::try_with(rig, receiver).await;
        started.expect("subscriptions can be read")
    }

    async fn try_with(rig: Rig, receiver: Receiver) -> Result<Self, SubscriptionError> {
        let deliver = Arc::new(receiver.clone());
        let subscriptions = Subscriptions::start(rig.engine.clone(), deliver, LIMITS).await?;
        Ok(Self {
            rig,
            subscriptions,
            receiver,
        })
    }

    /// The same over another backend, as if the process had ended: its clock goes on, and so does its receiver.
    pub(crate) async fn again_over(&self, backend: Arc<dyn Backend>) -> Self {
        let again = self.try_again_over(backend).await;
        again.expect("subscriptions can be read")
    }

    pub(crate) async fn try_again_over(&self, backend: Arc<dyn Backend>) -> Result<Self, SubscriptionError> {
        let clock = Arc::clone(&self.rig.clock);
        let engine = Engine::start(
            backend,
            Arc::<ManualClock>::clone(&clock),
            EngineLimits::default(),
        )
        .expect("the backend works");
        Self::try_with(Rig { engine, clock }, self.receiver.clone()).await
    }

    pub(crate) async fn subscribe(
        &self,
        text: &str,
        config: SubscriptionConfig,
    ) -> Result<Subscribed, SubscribeError> {
        self.subscriptions.create(asked(text, config), usize::MAX).await
    }

    /// Makes a subscription.
    pub(crate) async fn made(&self, text: &str, config: SubscriptionConfig) {
        self.subscribe(text, config).await.expect("made");
    }

    /// Makes a stream with something in it.
    pub(crate) async fn begin(&self, stream: &str, body: &str) {
        self.rig.create(stream).await.expect("made");
        self.rig.append(stream, body).await.expect("appended");
    }

    /// A subscription with all its streams.
    pub(crate) async fn described(&self, text: &str) -> Result<Described, SubscriptionError> {
        let page = LinksPage::first(usize::MAX);
        self.subscriptions.get(&id(text), &page).await
    }

    pub(crate) async fn state(&self, text: &str) -> SubscriptionState {
        let described = self.described(text).await.expect("there");
        described.summary.state
    }

    pub(crate) async fn links(&self, text: &str) -> Vec<(String, Link)> {
        let described = self.described(text).await.expect("there");
        let links = described.links.into_iter();
        links.map(|(stream, link)| (stream.to_string(), link)).collect()
    }

    pub(crate) async fn acked(&self, text: &str, stream: &str) -> Option<OffsetToken> {
        let links = self.links(text).await;
        links
            .into_iter()
            .find(|(name, _)| name == stream)
            .map(|(_, link)| link.acked)
    }

    /// Moves the clock, and does what has become due.
    pub(crate) fn pass_ms(&self, ms: u64) {
        self.rig.clock.advance_millis(ms);
        self.subscriptions.tick();
    }

    pub(crate) async fn claim(&self, text: &str, worker: &str) -> Claim {
        self.subscriptions.claim(&id(text), worker).await.expect("work")
    }

    /// An ack of all that was claimed.
    pub(crate) async fn ack_all(&self, text: &str, claim: &Claim) -> bool {
        let answer = self.subscriptions.ack(&id(text), ack_of(claim, true)).await;
        answer.expect("the lease is held").next_wake
    }

    /// The events in the wake stream.
    pub(crate) async fn events(&self) -> Vec<serde_json::Value> {
        let text = self.rig.text("wakes").await;
        serde_json::from_str(&format!("[{}]", text.trim_end_matches(','))).expect("JSON")
    }

    pub(crate) async fn tail(&self, stream: &str) -> OffsetToken {
        let reader = self.rig.look(stream).await;
        let incarnation: &Incarnation = reader.incarnation();
        incarnation.token(incarnation.view().tail)
    }

    /// Waits until somebody is woken and the wake has reached the wake stream.
    pub(crate) async fn woken(&self, text: &str, generation: u64) {
        until(|| async {
            let state = self.state(text).await;
            state.generation == generation && state.sent && matches!(state.phase, Phase::Woken { .. })
        })
        .await;
    }

    /// Waits until the receiver has had so many letters.
    pub(crate) async fn letters(&self, count: usize) -> Vec<WebhookDelivery> {
        until(|| async { self.receiver.letters().len() >= count }).await;
        self.receiver.letters()
    }
}

pub(crate) fn ack_of(claim: &Claim, done: bool) -> AckRequest {
    let acks = claim.work.iter().map(|told| StreamAck {
        stream: told.stream.clone(),
        offset: told.tail.token(),
    });
    AckRequest {
        token_generation: claim.claimed.generation,
        generation: claim.claimed.generation,
        wake: Some(claim.claimed.wake),
        acks: acks.collect(),
        done,
    }
}

/// Makes an empty backend.
type NewBackend = fn() -> Arc<dyn Backend>;

/// Runs a test over each kind of backend.
pub(crate) fn over_each<F: Future<Output = ()>>(test: impl Fn(Scene) -> F) {
    let backends: [(&str, NewBackend); 3] = [
        ("memory", || Arc::new(Memory::new(1 << 30))),
        ("file", || file_store(&FaultyDisk::new(0))),
        ("acid", || acid_store(&FaultyDisk::new(0))),
    ];
    for (kind, backend) in backends {
        println!("over {kind}");
        crate::support::ask::run(async {
            let scene = Scene::over(backend()).await;
            scene.rig.create_json("wakes").await;
            test(scene).await;
        });
    }
}
