//! What a client asked for when it made a subscription. Knows nothing of how far it has come.

use std::collections::BTreeSet;

use super::pattern::Pattern;
use crate::name::StreamName;

/// How the workers of a subscription are woken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// By a request to this URL.
    Webhook {
        /// As it was given.
        url: Box<str>,
    },
    /// By an event in a stream that they follow.
    PullWake {
        /// That stream. The application makes it.
        wake_stream: StreamName,
    },
}

/// A subscription as it was asked for. A repeated request is known by its being equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionConfig {
    /// How its workers are woken.
    pub delivery: Delivery,
    /// Streams that are linked because of their names.
    pub pattern: Option<Pattern>,
    /// Streams that were named, at creation; others may be added and removed.
    pub streams: BTreeSet<StreamName>,
    /// How long a worker may be silent.
    pub lease_ttl_ms: u64,
    /// For people.
    pub description: Option<Box<str>>,
}

impl SubscriptionConfig {
    /// The least `lease_ttl_ms`.
    pub const LEASE_TTL_MS_MIN: u64 = 1_000;
    /// The greatest `lease_ttl_ms`.
    pub const LEASE_TTL_MS_MAX: u64 = 600_000;
    /// What holds if none is given.
    pub const LEASE_TTL_MS_DEFAULT: u64 = 30_000;

    /// Whether a stream is linked because of its name. The subscription's own wake stream never is: each wake would be
    /// the cause of the next.
    pub fn wants(&self, name: &StreamName) -> bool {
        let is_meant = self
            .pattern
            .as_ref()
            .is_some_and(|pattern| pattern.matches(name.as_str()));
        is_meant && self.wake_stream() != Some(name) && !name.is_reserved()
    }

    /// The stream that wakes are written to, if there is one.
    pub fn wake_stream(&self) -> Option<&StreamName> {
        match &self.delivery {
            Delivery::PullWake { wake_stream } => Some(wake_stream),
            Delivery::Webhook { .. } => None,
        }
    }
}
