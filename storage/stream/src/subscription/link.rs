//! A stream of a subscription: why it is one, and how far it has been processed.

use crate::lineage::Lineage;
use crate::offset::{OffsetToken, Position};

/// A stream of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether the pattern means it.
    pub glob: bool,
    /// Whether it was named. At least one of the two holds.
    pub explicit: bool,
    /// The place up to which it has been processed: reading goes on behind it.
    pub acked: OffsetToken,
}

impl Link {
    /// A stream that the pattern means, from its beginning.
    pub const GLOB: Self = Self {
        glob: true,
        explicit: false,
        acked: OffsetToken::START,
    };

    /// What answers call it: a link that is both is `explicit` (PROTOCOL.md §6.1).
    pub fn link_type(self) -> &'static str {
        if self.explicit { "explicit" } else { "glob" }
    }

    /// The same link at another place.
    pub fn at(self, acked: OffsetToken) -> Self {
        Self { acked, ..self }
    }
}

/// How far a stream reaches, and which tokens it gives out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Whose bytes stand where.
    pub lineage: Lineage,
    /// The position behind the last durable byte.
    pub position: Position,
}

impl Tail {
    /// The token of the tail.
    pub fn token(&self) -> OffsetToken {
        self.lineage.token(self.position)
    }

    /// Whether the stream gives out this token: it is not one of an earlier stream of the same name.
    pub fn knows(&self, token: OffsetToken) -> bool {
        self.lineage.resolve(token, Position::ZERO, self.position).is_ok()
    }

    /// Whether something follows a place.
    pub fn is_behind(&self, acked: OffsetToken) -> bool {
        self.position > acked.position() || !self.knows(acked)
    }
}
