//! Wakes go out: as events in wake streams, or to webhooks.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::subscription::{Delivery, Phase, SendOutcome, SubscriptionId, WakeId, WokenStream};
use tailwater_stream::{
    AppendRefusal, Epoch, ProducerId, ProducerMark, Seq, StreamId, StreamName, Timestamp,
};

use super::Subscriptions;
use super::deliver::{WebhookAnswer, WebhookDelivery};
use super::opened::{Opened, Turn};
use super::turns::{PAUSE_MS, fresh};
use crate::engine::{AppendError, AppendRequest, Reader};
use crate::panics::Task;

/// A wake on its way.
enum Sent {
    Webhook(WebhookDelivery),
    Event(WakeEvent),
}

/// What is written to a wake stream.
struct WakeEvent {
    wake_stream: StreamName,
    subscription: SubscriptionId,
    /// The subscription's hidden stream: another subscription of that id has another one.
    stored_in: StreamId,
    /// A stream with something new.
    stream: StreamName,
    generation: u64,
    at: Timestamp,
}

impl WakeEvent {
    fn to_json(&self) -> Bytes {
        let event = serde_json::json!({
            "type": "wake",
            "subscription_id": self.subscription.as_str(),
            "stream": self.stream.as_str(),
            "generation": self.generation,
            "ts": self.at.as_millis(),
        });
        event.to_string().into()
    }

    /// Each wake is written as the first request of its own epoch, so that one that is sent again after a restart is
    /// known as a repetition.
    fn mark(&self) -> Option<ProducerMark> {
        Some(ProducerMark {
            id: ProducerId::parse(&format!("{}/{}", self.subscription.stream(), self.stored_in))?,
            epoch: Epoch::new(self.generation)?,
            seq: Seq::ZERO,
        })
    }
}

impl Subscriptions {
    /// Sends the wake that is out, if it is due and not on its way.
    pub(super) fn send_if_due(&self, opened: &Arc<Opened>, turn: &mut Turn, now: Timestamp) {
        let subscription = &turn.subscription;
        let is_due = subscription
            .state
            .send_at(subscription.created_at)
            .is_some_and(|at| at <= now);
        let wake = subscription
            .state
            .phase
            .wake()
            .filter(|_| is_due && !turn.is_sending);
        let Some(wake) = wake else { return };
        let streams = subscription.snapshot(self.shared.limits.wake_streams_max);
        let Some(sent) = self.sent(opened, turn, wake, &streams, now) else {
            return;
        };
        turn.is_sending = true;
        let (all, opened) = (self.clone(), Arc::clone(opened));
        tokio::spawn(async move {
            let mut stopping = all.shared.is_stopping.subscribe();
            let outcome = tokio::select! {
                outcome = all.send_without_panic(sent, streams) => outcome,
                // The next start sends it again.
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            let panics = &all.shared.engine.stats().panics;
            let noting = all.note_outcome(&opened, wake, &outcome);
            if panics.watch(Task::Subscription, noting).await.is_err() {
                all.pause(&opened).await;
            }
        });
    }

    fn sent(
        &self,
        opened: &Opened,
        turn: &Turn,
        wake: WakeId,
        streams: &[WokenStream],
        now: Timestamp,
    ) -> Option<Sent> {
        let state = &turn.subscription.state;
        Some(match &turn.subscription.config.delivery {
            Delivery::PullWake { wake_stream } => Sent::Event(WakeEvent {
                wake_stream: wake_stream.clone(),
                subscription: opened.id.clone(),
                stored_in: turn.stream,
                stream: streams.first()?.stream.clone(),
                generation: state.generation,
                at: now,
            }),
            Delivery::Webhook { url } => {
                let Phase::Held { ends_at, .. } = state.phase else {
                    return None;
                };
                Sent::Webhook(WebhookDelivery {
                    subscription: opened.id.clone(),
                    url: url.clone(),
                    root: turn.root.clone(),
                    wake,
                    generation: state.generation,
                    streams: streams.to_vec(),
                    lease_ends_at: ends_at,
                    failures: state.trouble.as_ref().map_or(0, |trouble| trouble.failures),
                })
            }
        })
    }

    /// What came of sending. A panic is a failure like any other, which is told and tried again: else nothing would be sent
    /// for the subscription any more, since one wake of it at a time is on its way.
    async fn send_without_panic(&self, sent: Sent, streams: Vec<WokenStream>) -> SendOutcome {
        let panics = &self.shared.engine.stats().panics;
        let sending = panics.watch(Task::Subscription, self.send(sent, streams));
        sending.await.unwrap_or_else(|_panicked| SendOutcome::Failed {
            error: "sending it panicked, which is a bug; the server's log says where".into(),
        })
    }

    async fn send(&self, sent: Sent, streams: Vec<WokenStream>) -> SendOutcome {
        match sent {
            Sent::Event(event) => match self.write_event(&event).await {
                Ok(()) => SendOutcome::Taken,
                Err(error) => SendOutcome::Failed {
                    error: format!("the wake stream `{}`: {error}", event.wake_stream).into(),
                },
            },
            Sent::Webhook(delivery) => match self.shared.deliver.deliver(delivery).await {
                WebhookAnswer::Taken => SendOutcome::Taken,
                WebhookAnswer::Done => SendOutcome::Done { streams },
                WebhookAnswer::Failed { error } => SendOutcome::Failed { error },
            },
        }
    }

    async fn write_event(&self, event: &WakeEvent) -> Result<(), AppendError> {
        let written = self.append_event(event, event.mark()).await;
        match written {
            // A wake stream of more subscriptions than a stream may have producers: then a wake may stand there twice.
            Err(AppendError::Refused(AppendRefusal::Producer(_))) => self.append_event(event, None).await,
            written => written,
        }
    }

    async fn append_event(
        &self,
        event: &WakeEvent,
        producer: Option<ProducerMark>,
    ) -> Result<(), AppendError> {
        let engine = &self.shared.engine;
        let reader = engine.look(&event.wake_stream).await;
        let content_type = reader.as_ref().map(Reader::incarnation).ok();
        let request = AppendRequest {
            body: event.to_json(),
            content_type: content_type.map(|incarnation| incarnation.content_type.clone()),
            producer,
            ..AppendRequest::default()
        };
        engine.append(&event.wake_stream, request).await.map(drop)
    }

    async fn note_outcome(&self, opened: &Arc<Opened>, wake: WakeId, outcome: &SendOutcome) {
        let mut turn = opened.turn.lock().await;
        let Some(turn) = turn.as_mut() else { return };
        turn.is_sending = false;
        if let SendOutcome::Failed { error } = outcome {
            self.shared.stats.send_failures.add(1);
            tracing::info!(subscription = %opened.id, %error, "a wake was not sent");
        }
        let changes = turn
            .subscription
            .sent(wake, outcome, self.now(), fastrand::u64(..), fresh());
        if let Err(error) = self.store(opened, turn, &changes).await {
            tracing::warn!(subscription = %opened.id, %error, "what became of a wake is not stored; it is sent again");
            turn.paused_until = Some(self.now().plus_millis(PAUSE_MS));
        }
        self.settle(opened, turn).await;
    }
}
