//! What was promised of subscriptions, as far as anybody was told. What a crash has interrupted may have happened or not.

use std::collections::BTreeMap;

use tailwater_storage::stream::subscription::{Link, Tail};
use tailwater_storage::stream::{OffsetToken, Position, StreamId, SubscriptionConfig, Timestamp};
use tailwater_storage::subscriptions::AckRequest;

use crate::subscriptions::scene::{pull, webhook};
use crate::support::ask::name;

/// The streams that there may be.
pub(super) const STREAMS: [&str; 5] = ["jobs/a", "jobs/b", "jobs/c", "mails", "orders"];
/// The subscription that is woken by a webhook.
pub(super) const HOOK: &str = "hook";
/// The subscriptions that there may be.
pub(super) const SUBSCRIPTIONS: [&str; 3] = [HOOK, "named", "pull"];

/// What each of them is made with.
pub(super) fn config(id: &str) -> SubscriptionConfig {
    match id {
        HOOK => webhook(Some("jobs/*"), &["mails"]),
        "named" => pull(None, &["orders", "mails"]),
        _ => pull(Some("jobs/*"), &["orders"]),
    }
}

/// Whether something exists, as far as anybody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Known {
    #[default]
    Gone,
    There,
    /// Whoever asked for a change was not answered.
    Either,
}

/// Where a cursor may stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    /// In this incarnation of the stream.
    pub(super) of: StreamId,
    /// As far as somebody was told that it stands.
    pub(super) least: Position,
    /// As far as somebody may have acknowledged. Always >= `least`.
    pub(super) most: Position,
}

/// A lease that a worker has.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// What acknowledges all that the worker was told of.
    pub(super) whole: AckRequest,
    /// Until then it surely lasts.
    pub(super) lasts_until: Timestamp,
    /// From then on it is surely over. Always >= `lasts_until`.
    pub(super) over_at: Timestamp,
}

/// A stream as it was last seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) id: StreamId,
    pub(super) tail: Tail,
}

impl Seen {
    /// What a cursor is worth here: one of an earlier stream of the name is at the beginning.
    pub(super) fn position_of(&self, acked: OffsetToken) -> Position {
        if self.tail.knows(acked) {
            acked.position()
        } else {
            Position::ZERO
        }
    }
}

/// What was promised of one subscription.
#[derive(Default)]
pub(super) struct Promised {
    pub(super) exists: Known,
    pub(super) generation: u64,
    pub(super) named: BTreeMap<&'static str, Known>,
    pub(super) cursors: BTreeMap<&'static str, Cursor>,
    pub(super) held: Option<Held>,
    /// What workers would say that were fenced off.
    pub(super) fenced: Vec<AckRequest>,
}

impl Promised {
    pub(super) fn names(&self, stream: &str) -> Known {
        self.named.get(stream).copied().unwrap_or_default()
    }

    /// The cursor of a stream that was seen just now.
    pub(super) fn cursor(&mut self, stream: &str, seen: &Seen) -> Option<&mut Cursor> {
        self.cursors.get_mut(stream).filter(|cursor| cursor.of == seen.id)
    }

    /// A stream begins, linked at a position.
    pub(super) fn link(&mut self, stream: &'static str, seen: &Seen, at: Position) {
        let cursor = Cursor {
            of: seen.id,
            least: at,
            most: at,
        };
        self.cursors.insert(stream, cursor);
    }

    /// Somebody acknowledges, and may be heard.
    pub(super) fn may_be_acked(&mut self, stream: &str, seen: &Seen, offset: OffsetToken) {
        if seen.tail.knows(offset)
            && let Some(cursor) = self.cursor(stream, seen)
        {
            cursor.most = cursor.most.max(offset.position());
        }
    }

    /// Somebody has acknowledged, and was told so.
    pub(super) fn is_acked(&mut self, stream: &str, seen: &Seen, offset: OffsetToken) {
        if seen.tail.knows(offset)
            && let Some(cursor) = self.cursor(stream, seen)
        {
            cursor.least = cursor.least.max(offset.position());
        }
    }

    /// Whoever holds the lease has it no more.
    pub(super) fn fence(&mut self) {
        if let Some(held) = self.held.take() {
            self.fenced.push(held.whole);
        }
    }

    /// It was deleted: whoever held it is fenced off.
    pub(super) fn forget(&mut self) {
        self.fence();
        let fenced = std::mem::take(&mut self.fenced);
        *self = Self {
            fenced,
            ..Self::default()
        };
    }

    fn take_back(&mut self) {
        *self = Self {
            exists: Known::Either,
            named: STREAMS.map(|stream| (stream, Known::Either)).into(),
            ..Self::default()
        };
    }
}

/// What was promised of everything.
pub(super) struct Promises {
    pub(super) subscriptions: BTreeMap<&'static str, Promised>,
    pub(super) streams: BTreeMap<&'static str, Seen>,
}

impl Promises {
    pub(super) fn new() -> Self {
        Self {
            subscriptions: SUBSCRIPTIONS.map(|id| (id, Promised::default())).into(),
            streams: BTreeMap::new(),
        }
    }

    pub(super) fn of(&mut self, id: &str) -> &mut Promised {
        self.subscriptions
            .get_mut(id)
            .expect("one of those that there may be")
    }

    /// What was promised of one subscription, and the streams as they were last seen.
    pub(super) fn with_streams(&mut self, id: &str) -> (&mut Promised, &mut BTreeMap<&'static str, Seen>) {
        let promised = self.subscriptions.get_mut(id);
        let promised = promised.expect("one of those that there may be");
        (promised, &mut self.streams)
    }

    /// A stream was made: whoever wants it reads it from its beginning.
    pub(super) fn begin(&mut self, stream: &'static str, seen: Seen) {
        for (id, promised) in &mut self.subscriptions {
            let is_linked = promised.names(stream) == Known::There || config(id).wants(&name(stream));
            if promised.exists == Known::There && is_linked {
                promised.link(stream, &seen, Position::ZERO);
            }
        }
        self.streams.insert(stream, seen);
    }

    /// The disk has lost what was not synced, so nothing was promised any more.
    pub(super) fn take_back(&mut self) {
        self.subscriptions.values_mut().for_each(Promised::take_back);
        self.streams.clear();
    }

    /// Time has passed.
    pub(super) fn pass(&mut self, now: Timestamp) {
        for promised in self.subscriptions.values_mut() {
            match &promised.held {
                Some(held) if now >= held.over_at => promised.fence(),
                Some(held) if now >= held.lasts_until => promised.held = None,
                _ => {}
            }
        }
    }
}

/// Where a link stands, if there is one.
pub(super) fn acked(link: Option<&Link>) -> OffsetToken {
    link.map_or(OffsetToken::START, |link| link.acked)
}
