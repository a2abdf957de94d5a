//! Delivers wakes to webhooks: waits for a turn, signs, sends, and tells what came of it. When a wake is sent, and what
//! an answer means for it, is for the rules of subscriptions to say.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tailwater_storage::stats::Counter;
use tailwater_storage::subscriptions::deliver::{Deliver, WebhookAnswer, WebhookDelivery};

use super::authorities::{Authorities, AuthoritiesError};
use super::keys::Keys;
use super::lanes::{Lanes, Load};
use super::network::{Network, SystemNetwork};
use super::notification;
use super::sender::{Answer, Letter, SendError, SendLimits, Sender};
use super::tokens::{Token, TokenUse};
use super::url::UrlRules;
use crate::config::SubscriptionsConfig;

/// Sends wakes to webhooks. Cloning is cheap.
#[derive(Clone)]
pub struct Deliverer {
    shared: Arc<Shared>,
}

struct Shared {
    sender: Sender,
    keys: Arc<Keys>,
    lanes: Arc<Lanes>,
    delivery_timeout: Duration,
    done: Counter,
    taken: Counter,
    failed: Counter,
}

/// Why a webhook was not sent, or not taken.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("the lease of the wake ended before its turn came")]
    LeaseEnded,
}

/// How deliveries went, and how many there are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Answered with `{"done": true}`.
    pub done: u64,
    /// Answered with another success.
    pub taken: u64,
    /// Not sent, or answered with something else.
    pub failed: u64,
    /// Being sent.
    pub running: usize,
    /// Waiting for a turn.
    pub waiting: usize,
}

impl Deliverer {
    /// A deliverer over the system's network. Reads the file of authorities, if one is named.
    ///
    /// # Errors
    /// [`AuthoritiesError`] if that file cannot be used.
    pub fn new(config: &SubscriptionsConfig, keys: Arc<Keys>) -> Result<Self, AuthoritiesError> {
        Self::over(Arc::new(SystemNetwork::new()), config, keys)
    }

    pub(super) fn over(
        network: Arc<dyn Network>,
        config: &SubscriptionsConfig,
        keys: Arc<Keys>,
    ) -> Result<Self, AuthoritiesError> {
        let authorities = Authorities::read(config.ca_path.as_deref())?;
        let limits = SendLimits {
            connect_timeout: Duration::from_millis(config.connect_timeout_ms),
            answer_bytes_max: config.max_answer_bytes,
        };
        let shared = Shared {
            sender: Sender::new(network, authorities, UrlRules::new(config), limits),
            keys,
            lanes: Lanes::new(config.max_deliveries, config.max_deliveries_per_host),
            delivery_timeout: Duration::from_millis(config.delivery_timeout_ms),
            done: Counter::default(),
            taken: Counter::default(),
            failed: Counter::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// How deliveries went.
    pub fn counts(&self) -> DeliveryCounts {
        let Shared {
            done, taken, failed, ..
        } = &*self.shared;
        let Load { running, waiting } = self.shared.lanes.load();
        DeliveryCounts {
            done: done.get(),
            taken: taken.get(),
            failed: failed.get(),
            running,
            waiting,
        }
    }
}

impl Deliver for Deliverer {
    fn deliver(&self, delivery: WebhookDelivery) -> Pin<Box<dyn Future<Output = WebhookAnswer> + Send>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.deliver(&delivery).await })
    }
}

impl Shared {
    async fn deliver(&self, delivery: &WebhookDelivery) -> WebhookAnswer {
        let sent = self.send(delivery).await;
        let subscription = delivery.subscription.as_str();
        match sent {
            Ok(Answer::Done) => {
                self.done.add(1);
                WebhookAnswer::Done
            }
            Ok(Answer::Taken) => {
                self.taken.add(1);
                WebhookAnswer::Taken
            }
            Err(error) => {
                self.failed.add(1);
                tracing::debug!(
                    subscription,
                    failures = delivery.failures,
                    "a webhook was not taken: {error}"
                );
                WebhookAnswer::Failed {
                    error: error.to_string().into(),
                }
            }
        }
    }

    async fn send(&self, delivery: &WebhookDelivery) -> Result<Answer, DeliveryError> {
        let url = self.sender.url(&delivery.url)?;
        let place = self.lanes.enter(&url.host_text).await;
        // An answer behind the end of the lease would be of no use, so it is not waited for.
        let lease_left_ms = delivery.lease_ends_at.millis_since(self.keys.now());
        if lease_left_ms == 0 {
            return Err(DeliveryError::LeaseEnded);
        }
        let token = self.keys.issue(&Token {
            subscription: delivery.subscription.as_str().to_owned(),
            purpose: TokenUse::Callback,
            generation: delivery.generation,
            wake_id: delivery.wake.to_string(),
        });
        let body = notification::body(delivery, &token);
        let signature = self.keys.signature(&body);
        let within = self.delivery_timeout.min(Duration::from_millis(lease_left_ms));
        let answer = self.sender.send(&url, Letter { body, signature }, within).await;
        drop(place);
        Ok(answer?)
    }
}

#[cfg(test)]
mod tests;
