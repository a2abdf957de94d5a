//! Subscriptions: makes, lists and deletes them, and does what a worker of one does (PROTOCOL.md §6, §7). Not every
//! server has them.

use http::{Method, StatusCode};
use percent_encoding::utf8_percent_encode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::connection::{Client, ClientRequest, ESCAPED, escape_name};
use super::error::ClientError;

/// What a subscription is to be. A webhook or a wake stream, and a pattern or streams, have to be given.
#[derive(Debug, Clone, Default)]
pub struct Subscribe {
    /// Wakes go to this URL.
    pub webhook: Option<String>,
    /// Wakes go into this stream.
    pub wake_stream: Option<String>,
    /// Streams whose names it matches.
    pub pattern: Option<String>,
    /// Streams by their names.
    pub streams: Vec<String>,
    /// The server's default if absent.
    pub lease_ttl_ms: Option<u64>,
    /// For people.
    pub description: Option<String>,
}

/// The answer to a [`Subscribe`].
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribed {
    /// False if the subscription existed already, with the same configuration.
    pub is_new: bool,
    /// The subscription, as the server describes it.
    pub subscription: Value,
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SubscriptionPage {
    /// In the order of their ids, as the server describes them.
    pub subscriptions: Vec<Value>,
    /// Ask for what comes after this; absent on the last page.
    pub after: Option<String>,
}

/// What a worker has got by claiming a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The wake that it answers for.
    pub wake_id: String,
    /// The number of that wake.
    pub generation: u64,
    /// Shown with each answer for that wake. Whoever has it can answer.
    pub token: String,
    /// What there is to do.
    pub streams: Vec<ClaimedStream>,
    /// The worker may be silent for so long.
    pub lease_ttl_ms: u64,
}

/// A stream with something new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedStream {
    /// Its name.
    pub path: String,
    /// Why it is one of the subscription's.
    pub link_type: String,
    /// Reading goes on behind this.
    pub acked_offset: String,
    /// The end of what there is.
    pub tail_offset: String,
    /// Whether there is anything.
    pub has_pending: bool,
}

/// How far a stream has been processed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ack {
    /// Its name.
    pub stream: String,
    /// Up to here, inclusive.
    pub offset: String,
}

impl Subscribe {
    fn body(&self) -> Value {
        let mut body = json!({
            "type": if self.webhook.is_some() { "webhook" } else { "pull-wake" },
            "streams": self.streams,
        });
        let webhook = self.webhook.as_ref().map(|url| json!({ "url": url }));
        for (name, value) in [
            ("webhook", webhook),
            ("wake_stream", self.wake_stream.as_ref().map(|name| json!(name))),
            ("pattern", self.pattern.as_ref().map(|pattern| json!(pattern))),
            ("lease_ttl_ms", self.lease_ttl_ms.map(|ms| json!(ms))),
            ("description", self.description.as_ref().map(|text| json!(text))),
        ] {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }
}

impl Client {
    /// Makes a subscription, or finds it with the same configuration.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn subscribe(&self, id: &str, subscribe: &Subscribe) -> Result<Subscribed, ClientError> {
        let request =
            self.subscription_request(Method::PUT, id, "", format!("create the subscription `{id}`"));
        let response = request.json(&subscribe.body())?.send().await?;
        Ok(Subscribed {
            is_new: response.status() == StatusCode::CREATED,
            subscription: self.document(response).await?,
        })
    }

    /// One page of all subscriptions, after the id `after`. Not every server has such a list.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn subscriptions(&self, after: Option<&str>) -> Result<SubscriptionPage, ClientError> {
        let request = self.request(Method::GET, "__ds/subscriptions", "list subscriptions".to_owned());
        let parameters: Vec<_> = after.map(|after| ("after", after)).into_iter().collect();
        self.document(request.query(&parameters).send().await?).await
    }

    /// A subscription with a page of its streams, those behind the name `after`, as the server describes it. In
    /// `streams_after` it says where the next page begins, if there is one.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn subscription(&self, id: &str, after: Option<&str>) -> Result<Value, ClientError> {
        let request =
            self.subscription_request(Method::GET, id, "", format!("look at the subscription `{id}`"));
        let parameters: Vec<_> = after.map(|after| ("after", after)).into_iter().collect();
        self.document(request.query(&parameters).send().await?).await
    }

    /// Deletes a subscription. Whoever works for it is fenced off.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn unsubscribe(&self, id: &str) -> Result<(), ClientError> {
        let request =
            self.subscription_request(Method::DELETE, id, "", format!("delete the subscription `{id}`"));
        request.send().await.map(drop)
    }

    /// Adds streams to those that a subscription names.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn add_to_subscription(&self, id: &str, streams: &[String]) -> Result<(), ClientError> {
        let action = format!("add streams to the subscription `{id}`");
        let request = self.subscription_request(Method::POST, id, "/streams", action);
        request
            .json(&json!({ "streams": streams }))?
            .send()
            .await
            .map(drop)
    }

    /// Takes a stream away from those that a subscription names.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn remove_from_subscription(&self, id: &str, stream: &str) -> Result<(), ClientError> {
        let action = format!("remove `{stream}` from the subscription `{id}`");
        let below = format!("/streams/{}", escape_name(stream));
        let request = self.subscription_request(Method::DELETE, id, &below, action);
        request.send().await.map(drop)
    }

    /// Claims a subscription for a worker.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses: another worker has it, or there is nothing to do.
    pub async fn claim(&self, id: &str, worker: &str) -> Result<Claim, ClientError> {
        let request = self.subscription_request(
            Method::POST,
            id,
            "/claim",
            format!("claim the subscription `{id}`"),
        );
        self.document(request.json(&json!({ "worker": worker }))?.send().await?)
            .await
    }

    /// Says how far streams have been processed, which extends the lease; or, if all is `done`, gives it back. Answers
    /// whether there is more to do already.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses: the lease is over, for example.
    pub async fn ack(&self, id: &str, claim: &Claim, acks: &[Ack], done: bool) -> Result<bool, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            next_wake: bool,
        }
        let body = json!({
            "wake_id": claim.wake_id,
            "generation": claim.generation,
            "acks": acks,
            "done": done,
        });
        let request = self.subscription_request(
            Method::POST,
            id,
            "/ack",
            format!("ack for the subscription `{id}`"),
        );
        let response = request.bearer(&claim.token)?.json(&body)?.send().await?;
        let Answer { next_wake } = self.document(response).await?;
        Ok(next_wake)
    }

    /// Gives a claim back without saying that anything has been processed.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses: the lease is over, for example.
    pub async fn release(&self, id: &str, claim: &Claim) -> Result<(), ClientError> {
        let body = json!({ "wake_id": claim.wake_id, "generation": claim.generation });
        let request = self.subscription_request(
            Method::POST,
            id,
            "/release",
            format!("release the subscription `{id}`"),
        );
        request.bearer(&claim.token)?.json(&body)?.send().await.map(drop)
    }

    fn subscription_request(
        &self,
        method: Method,
        id: &str,
        below: &str,
        action: String,
    ) -> ClientRequest<'_> {
        let id = utf8_percent_encode(id, ESCAPED);
        self.request(method, &format!("__ds/subscriptions/{id}{below}"), action)
    }
}
