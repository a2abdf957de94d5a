//! How far a subscription has come, and what may change about it.

use super::Pending;
use super::id::WakeId;
use super::link::Link;
use crate::expiry::Timestamp;
use crate::name::StreamName;

/// Where a subscription stands between wakes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nobody is woken. Then nothing is pending, but for the moment until a wake is made.
    #[default]
    Idle,
    /// A wake is out and nobody has claimed it. Pull-wake only.
    Woken {
        /// The wake.
        wake: WakeId,
    },
    /// Somebody is at work.
    Held {
        /// The wake that it came of.
        wake: WakeId,
        /// The worker that claimed it; none if it is whoever the webhook reached.
        holder: Option<Box<str>>,
        /// From then on it is nobody's any more.
        ends_at: Timestamp,
    },
}

impl Phase {
    /// The wake that is out.
    pub fn wake(&self) -> Option<WakeId> {
        match self {
            Self::Idle => None,
            Self::Woken { wake } | Self::Held { wake, .. } => Some(*wake),
        }
    }
}

/// What kept the last wake from reaching anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Failures in a row.
    pub failures: u32,
    /// Not before then is it tried again.
    pub next_attempt_at: Timestamp,
    /// When it failed last.
    pub failed_at: Timestamp,
    /// Why, for people.
    pub error: Box<str>,
}

impl Trouble {
    /// The most bytes of `error` that are kept.
    pub const ERROR_BYTES_MAX: usize = 500;
}

/// All that is known of a subscription but what was asked for and its links.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscriptionState {
    /// How many wakes there have been. It never goes back.
    pub generation: u64,
    /// Where it stands.
    pub phase: Phase,
    /// Whether the wake that is out has reached the receiver, or stands in the wake stream.
    pub sent: bool,
    /// What keeps wakes from being sent; none if the last one was.
    pub trouble: Option<Trouble>,
    /// Links that were named.
    pub explicit_links: u64,
}

impl SubscriptionState {
    /// When the wake that is out is to be sent, which may be in the past; none if there is nothing to send.
    pub fn send_at(&self, created_at: Timestamp) -> Option<Timestamp> {
        let is_wanted = match &self.phase {
            Phase::Idle => false,
            Phase::Woken { .. } => true,
            // Whoever has claimed it needs no event any more.
            Phase::Held { holder, .. } => holder.is_none(),
        };
        let at = self
            .trouble
            .as_ref()
            .map_or(created_at, |trouble| trouble.next_attempt_at);
        (is_wanted && !self.sent).then_some(at)
    }

    /// When a wake is sent again that could not be sent; none if there is no such wake, though the last one failed.
    pub fn retry_at(&self, created_at: Timestamp) -> Option<Timestamp> {
        self.trouble.as_ref().and_then(|_| self.send_at(created_at))
    }

    /// When the lease ends, if somebody has it.
    pub fn lease_ends_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Held { ends_at, .. } => Some(ends_at),
            Phase::Idle | Phase::Woken { .. } => None,
        }
    }
}

/// What changes about a subscription. The first two are to be durable before they are applied; the others follow from
/// what is stored, and are found again after a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This is the state now.
    State(SubscriptionState),
    /// This is the link of a stream now; none if it is none any more.
    Link {
        /// The stream.
        stream: StreamName,
        /// Its link.
        link: Option<Link>,
    },
    /// The stream has something new.
    Pending {
        /// The stream.
        stream: StreamName,
        /// How far it has been processed and how far it reaches.
        pending: Box<Pending>,
    },
    /// The stream has nothing new.
    Settled {
        /// The stream.
        stream: StreamName,
    },
}
