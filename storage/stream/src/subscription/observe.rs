//! What it means for a subscription that a stream was appended to, begun or deleted, named or no longer named.

use super::link::{Link, Tail};
use super::state::{Change, SubscriptionState};
use super::{Pending, Subscription};
use crate::name::StreamName;
use crate::offset::OffsetToken;

/// A stream as it is now. What happened to it in between does not matter, so several moves are seen as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Which stream.
    pub stream: StreamName,
    /// Its link as it is stored.
    pub link: Option<Link>,
    /// How far it reaches; none if there is no such stream.
    pub tail: Option<Tail>,
}

/// Why streams are not linked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamsRefusal {
    /// There would be too many.
    #[error("the subscription would name {links} streams and may name {links_max}")]
    TooMany {
        /// How many there would be.
        links: u64,
        /// How many there may be.
        links_max: u64,
    },
    /// The wake stream is among them.
    #[error("{stream:?} is the subscription's own wake stream; each wake would be the cause of the next")]
    WakeStream {
        /// The wake stream.
        stream: StreamName,
    },
}

impl Subscription {
    /// Takes note of streams. A stream that is deleted takes the link that its name gave it along; one that was named
    /// keeps it, and whatever stream has that name next is processed from its beginning. A stream that the pattern
    /// means and that has no link has come later than the subscription, and is processed from its beginning too.
    pub fn observe(&self, streams: &[Observed]) -> Vec<Change> {
        let mut changes = Vec::new();
        for observed in streams {
            self.observe_one(observed, &mut changes);
        }
        changes
    }

    fn observe_one(&self, observed: &Observed, changes: &mut Vec<Change>) {
        let stream = &observed.stream;
        let pending = self.pending.get(stream);
        let wanted = self.config.wants(stream);
        let Some(tail) = &observed.tail else {
            let kept = observed.link.filter(|link| link.explicit).map(|link| Link {
                glob: false,
                ..link.at(OffsetToken::START)
            });
            put_link(stream, observed.link, kept, changes);
            if pending.is_some() {
                changes.push(Change::Settled {
                    stream: stream.clone(),
                });
            }
            return;
        };
        let Some(link) = observed.link.or(wanted.then_some(Link::GLOB)) else {
            return;
        };
        let acked = if tail.knows(link.acked) {
            link.acked
        } else {
            OffsetToken::START
        };
        let link = Link {
            glob: wanted,
            ..link.at(acked)
        };
        let is_behind = tail.is_behind(acked);
        // A link that says nothing yet need not be stored.
        if is_behind || observed.link.is_some() {
            put_link(stream, observed.link, Some(link), changes);
        }
        if is_behind {
            changes.push(Change::Pending {
                stream: stream.clone(),
                pending: Box::new(Pending {
                    link,
                    tail: tail.clone(),
                }),
            });
        } else if pending.is_some() {
            changes.push(Change::Settled {
                stream: stream.clone(),
            });
        }
    }

    /// Links streams by their names, at their tails: what they hold already is not processed. Those that are linked stay
    /// where they are.
    ///
    /// # Errors
    /// [`StreamsRefusal`]; nothing is changed then.
    pub fn add_streams(&self, streams: &[Observed], links_max: u64) -> Result<Vec<Change>, StreamsRefusal> {
        let mut changes = Vec::new();
        let mut links = self.state.explicit_links;
        for observed in streams {
            let stream = &observed.stream;
            if self.config.wake_stream() == Some(stream) {
                return Err(StreamsRefusal::WakeStream {
                    stream: stream.clone(),
                });
            }
            let link = match observed.link {
                Some(link) if link.explicit => continue,
                Some(link) => link,
                // One that has come later than the subscription has no link until it moves.
                None if self.config.wants(stream) => Link::GLOB,
                None => Link {
                    glob: false,
                    explicit: true,
                    acked: observed.tail.as_ref().map_or(OffsetToken::START, Tail::token),
                },
            };
            links += 1;
            changes.push(Change::Link {
                stream: stream.clone(),
                link: Some(Link {
                    explicit: true,
                    ..link
                }),
            });
        }
        if links > links_max {
            return Err(StreamsRefusal::TooMany { links, links_max });
        }
        self.count_explicit(links, &mut changes);
        Ok(changes)
    }

    /// Takes a name back. The stream stays linked if the pattern means it.
    pub fn remove_stream(&self, stream: &StreamName, link: Option<Link>) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(link) = link.filter(|link| link.explicit) else {
            return changes;
        };
        let kept = self.config.wants(stream).then_some(Link {
            glob: true,
            explicit: false,
            ..link
        });
        put_link(stream, Some(link), kept, &mut changes);
        let links = self.state.explicit_links.saturating_sub(1);
        self.count_explicit(links, &mut changes);
        changes
    }

    fn count_explicit(&self, links: u64, changes: &mut Vec<Change>) {
        if links != self.state.explicit_links {
            changes.push(Change::State(SubscriptionState {
                explicit_links: links,
                ..self.state.clone()
            }));
        }
    }
}

fn put_link(stream: &StreamName, before: Option<Link>, after: Option<Link>, changes: &mut Vec<Change>) {
    if before != after {
        changes.push(Change::Link {
            stream: stream.clone(),
            link: after,
        });
    }
}
