//! How a wake leaves by HTTP: the trait [`Deliver`]. What stands behind it knows URLs, signatures and connections; what
//! stands before it knows when to send, and what the answer means.

use std::future::Future;
use std::pin::Pin;

use tailwater_stream::Timestamp;
use tailwater_stream::subscription::{SubscriptionId, WakeId, WokenStream};

/// A wake that is to reach a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDelivery {
    /// Whose wake it is.
    pub subscription: SubscriptionId,
    /// Where it goes.
    pub url: Box<str>,
    /// The URL of the stream root, without a slash at its end, as the client that made the subscription used it:
    /// `callback_url` is `{root}/__ds/subscriptions/{id}/callback`, with the id percent-encoded.
    pub root: Box<str>,
    /// The wake.
    pub wake: WakeId,
    /// Its number.
    pub generation: u64,
    /// Streams with something new; no others, and not all of them if there are very many.
    pub streams: Vec<WokenStream>,
    /// From then on a callback for this wake is refused, unless the lease is extended before.
    pub lease_ends_at: Timestamp,
    /// Attempts that failed before this one, in a row.
    pub failures: u32,
}

/// What a webhook answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookAnswer {
    /// A success without a word: the receiver is at work and will call back.
    Taken,
    /// A success that says `{"done": true}`.
    Done,
    /// Anything else, or nothing.
    Failed {
        /// What went wrong, for people, in a few words and without secrets.
        error: Box<str>,
    },
}

/// Sends wakes to webhooks. It may be handed any number of deliveries at once, of which no two are of the same
/// subscription, and lets them wait for their turns; a delivery ends in bounded time once its turn has come.
pub trait Deliver: Send + Sync + 'static {
    /// Sends one wake and answers what became of it. Dropped when the server stops.
    fn deliver(&self, delivery: WebhookDelivery) -> Pin<Box<dyn Future<Output = WebhookAnswer> + Send>>;
}
