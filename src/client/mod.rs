//! A client for streams over HTTP(S). Knows the protocol's outside only: nothing of this server's insides.
//!
//! - `authorities`: whom it believes that a server is the one it asks for.
//! - `connection`: the base URL, TLS, one request and its answer.
//! - `operations`: create, append, close, delete, head, list, health.
//! - `catch_up`: reads what a stream has, page by page.
//! - `transfer`: exports and imports streams as a whole.
//! - `subscriptions`: makes subscriptions, and works for them.
//! - `queues`, `runs`: makes queues, enqueues, and works for them.
//! - `schedules`: enqueues at the times of a cron expression.
//! - `tail`: follows a stream over SSE, across reconnects.
//! - `sse`: splits an SSE body into events.
//! - `error`: what can go wrong, and what to do about it.

mod authorities;
mod catch_up;
mod connection;
mod error;
mod operations;
mod queues;
mod runs;
mod schedules;
mod sse;
mod subscriptions;
mod tail;
#[cfg(test)]
mod tests;
mod transfer;

pub use catch_up::{CatchUp, Page};
pub use connection::Client;
pub use error::{ClientError, Problem};
pub use operations::{
    Append, Appended, Create, Created, Fork, Health, ListPage, ListedStream, Producer, StreamHead,
};
pub use queues::{ClaimedJob, DeadPage, Enqueue, Made, QueuePage};
pub use runs::{Heartbeat, Verdict};
pub use schedules::{LastError, LastFire, PutSchedule, ScheduleFacts, SchedulePage, ShownSchedule};
pub use sse::{SseError, SseEvent, SseParser};
pub use subscriptions::{Ack, Claim, ClaimedStream, Subscribe, Subscribed, SubscriptionPage};
pub use tail::{Tail, TailEvent};
pub use transfer::Export;

/// How messages are to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The stream's own bytes; a JSON array for JSON streams.
    Plain,
    /// One JSON object a message, with its offset, time and number. Only some servers know it.
    Records,
}

/// Whether `content_type` means that the stream is a sequence of JSON messages (PROTOCOL.md §9.1).
pub fn is_json(content_type: &str) -> bool {
    is_same_type(content_type, "application/json")
}

/// Whether two content types are the same to servers: in any case, and whatever their parameters.
pub fn is_same_type(one: &str, other: &str) -> bool {
    let essence = |text: &str| {
        let essence = text.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    };
    essence(one) == essence(other)
}
