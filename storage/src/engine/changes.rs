//! The change feed: which streams were created, appended to, closed, trimmed and deleted, in order.
//!
//! It is bounded and lives in memory. A reader that falls too far behind, or that comes with a token of an
//! earlier run, is told so and lists again. Appends are coalesced: a stream has at most one `appended` event that
//! no reader has been given yet, and its tail is looked up when the event is given out. So a feed that nobody
//! reads costs an append two loads.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use tailwater_stream::{StreamId, StreamName, Transition};
use tokio::sync::watch;

use super::watch::Incarnation;
use crate::sync::{AtomicU64, Mutex};

/// How many events one look at the feed passes over at the most.
const SCAN_MAX: usize = 8192;

/// A place in the change feed: everything up to it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeToken {
    /// When the feed began, in microseconds: a new one begins with each start of the server.
    run: u64,
    /// The number of the last event seen.
    number: u64,
}

impl ChangeToken {
    /// Reads `{run:016}_{number:016}`; none if it is not exactly that.
    pub fn parse(text: &str) -> Option<Self> {
        let (run, number) = text.split_once('_')?;
        let digits = |part: &str| {
            let all_digits = part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_digit());
            all_digits.then(|| part.parse().ok()).flatten()
        };
        Some(Self {
            run: digits(run)?,
            number: digits(number)?,
        })
    }

    /// How many events stand between an earlier token of the same feed and this one.
    pub fn since(self, earlier: Self) -> u64 {
        self.number.saturating_sub(earlier.number)
    }
}

impl fmt::Display for ChangeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}_{:016}", self.run, self.number)
    }
}

/// What happened to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Created,
    /// Bytes were added, once or several times.
    Appended,
    /// It was closed.
    Closed,
    /// Its beginning was forgotten.
    Trimmed,
    /// It was deleted, or its lifetime ended.
    Deleted,
}

/// An event of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To which incarnation.
    pub id: StreamId,
    /// Under which name.
    pub name: StreamName,
}

/// Some events of the feed, and how to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// The events, oldest first.
    pub changes: Vec<Change>,
    /// What to ask with next.
    pub after: ChangeToken,
    /// Whether nothing follows yet.
    pub up_to_date: bool,
}

/// The feed does not reach back to the token, or the token is of another run: list the streams again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the change feed no longer reaches back to this token")]
pub struct ChangesGone;

struct Feed {
    /// The number of the first event kept.
    first: u64,
    events: VecDeque<Change>,
}

impl Feed {
    /// The number of the newest event; 0 if there was none yet.
    fn newest(&self) -> u64 {
        self.first + self.events.len() as u64 - 1
    }
}

/// The change feed of an engine.
pub struct Changes {
    run: u64,
    events_max: usize,
    feed: Mutex<Feed>,
    /// The greatest event number that any token given out so far covers.
    given_out: AtomicU64,
    newest: watch::Sender<u64>,
}

impl Changes {
    pub(super) fn new(run: u64, events_max: usize) -> Self {
        Self {
            run,
            events_max,
            feed: Mutex::new(Feed {
                first: 1,
                events: VecDeque::new(),
            }),
            given_out: AtomicU64::new(0),
            newest: watch::Sender::new(0),
        }
    }

    /// A token that covers all that has happened so far.
    pub fn now(&self) -> ChangeToken {
        let feed = self.feed.lock();
        self.give_out(feed.newest())
    }

    /// How many events are kept.
    pub fn kept(&self) -> usize {
        self.feed.lock().events.len()
    }

    /// Tells when there are new events. Subscribe first, then ask for events.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Events behind a token on streams whose names begin with `prefix`, at most `count_max`.
    ///
    /// # Errors
    /// [`ChangesGone`] if events behind the token are not kept.
    pub fn after(
        &self,
        token: ChangeToken,
        prefix: &str,
        count_max: usize,
    ) -> Result<ChangePage, ChangesGone> {
        let feed = self.feed.lock();
        let known = token.run == self.run && token.number <= feed.newest();
        if !known || token.number + 1 < feed.first {
            return Err(ChangesGone);
        }
        let skip = (token.number + 1 - feed.first) as usize;
        let mut changes = Vec::new();
        let mut seen = token.number;
        for event in feed.events.range(skip..).take(SCAN_MAX) {
            if event.name.as_str().starts_with(prefix) {
                if changes.len() == count_max {
                    break;
                }
                changes.push(event.clone());
            }
            seen += 1;
        }
        Ok(ChangePage {
            changes,
            after: self.give_out(seen),
            up_to_date: seen == feed.newest(),
        })
    }

    fn give_out(&self, number: u64) -> ChangeToken {
        self.given_out.fetch_max(number, Ordering::SeqCst);
        // Whoever looks up a tail for these events does so behind this fence. An append that does not see the
        // new number has shown its tail before.
        fence(Ordering::SeqCst);
        ChangeToken {
            run: self.run,
            number,
        }
    }

    pub(super) fn created(&self, incarnation: &Arc<Incarnation>) {
        self.push(ChangeKind::Created, incarnation);
    }

    /// Tells of a transition that readers of the stream have been shown. Call it while the stream is locked.
    pub(super) fn changed(&self, incarnation: &Incarnation, transition: &Transition) {
        match transition {
            Transition::Create(_)
            | Transition::Stage(_)
            | Transition::Import(_)
            | Transition::Touch { .. } => {}
            Transition::Append(append) => {
                if !append.payload.is_empty() {
                    self.appended(incarnation);
                }
                if append.closes {
                    self.push(ChangeKind::Closed, incarnation);
                }
            }
            Transition::Trim { .. } => {
                self.push(ChangeKind::Trimmed, incarnation);
            }
            Transition::Delete { .. } => {
                self.push(ChangeKind::Deleted, incarnation);
            }
        }
    }

    fn appended(&self, incarnation: &Incarnation) {
        fence(Ordering::SeqCst);
        let pending = incarnation.appended_event.load(Ordering::Relaxed);
        if pending <= self.given_out.load(Ordering::SeqCst) {
            let number = self.push(ChangeKind::Appended, incarnation);
            incarnation.appended_event.store(number, Ordering::Relaxed);
        }
    }

    /// Nobody is told of hidden streams.
    fn push(&self, kind: ChangeKind, incarnation: &Incarnation) -> u64 {
        if incarnation.name.is_reserved() {
            return 0;
        }
        let mut feed = self.feed.lock();
        if feed.events.len() >= self.events_max {
            feed.events.pop_front();
            feed.first += 1;
        }
        feed.events.push_back(Change {
            kind,
            id: incarnation.id,
            name: incarnation.name.clone(),
        });
        let newest = feed.newest();
        self.newest.send_replace(newest);
        newest
    }
}

// The model checker's locks work only within a model.
#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use tailwater_stream::{NameLimits, StreamState};

    fn incarnation(name: &str) -> Arc<Incarnation> {
        let id = StreamId::new(7).expect("an id");
        let created = tailwater_stream::Created {
            id,
            name: StreamName::parse(name, NameLimits::default()).expect("a name"),
            kind: tailwater_stream::StreamKind::Plain,
            beside: None,
            content_type: tailwater_stream::ContentType::default(),
            lifetime: tailwater_stream::Lifetime::Forever,
            requested: tailwater_stream::CreateRequest::default(),
            lineage: tailwater_stream::Lineage::root(id),
            source: None,
            oldest: tailwater_stream::Position::ZERO,
            messages: 0,
            at: tailwater_stream::Timestamp::default(),
        };
        Arc::new(Incarnation::new(&StreamState::created(&created)))
    }

    fn kinds(page: &ChangePage) -> Vec<ChangeKind> {
        page.changes.iter().map(|change| change.kind).collect()
    }

    #[test]
    fn appends_are_coalesced_until_a_reader_has_seen_them() {
        let changes = Changes::new(1, 100);
        let start = changes.now();
        let stream = incarnation("a");
        changes.created(&stream);
        changes.appended(&stream);
        changes.appended(&stream);
        let page = changes.after(start, "", 10).expect("kept");
        assert_eq!(kinds(&page), [ChangeKind::Created, ChangeKind::Appended]);
        assert!(page.up_to_date);
        changes.appended(&stream);
        let page = changes.after(page.after, "", 10).expect("kept");
        assert_eq!(kinds(&page), [ChangeKind::Appended]);
    }

    #[test]
    fn an_append_after_a_listing_is_told_though_its_event_was_dropped_before() {
        let changes = Changes::new(1, 2);
        let (early, other) = (incarnation("early"), incarnation("other"));
        changes.appended(&early);
        for _ in 0..3 {
            changes.push(ChangeKind::Closed, &other);
        }
        let listed = changes.now();
        changes.appended(&early);
        assert_eq!(
            kinds(&changes.after(listed, "", 10).expect("kept")),
            [ChangeKind::Appended]
        );
    }

    #[test]
    fn who_falls_behind_or_comes_from_another_run_lists_again() {
        let changes = Changes::new(1, 2);
        let start = changes.now();
        let stream = incarnation("a");
        for _ in 0..3 {
            changes.push(ChangeKind::Closed, &stream);
        }
        assert_eq!(changes.after(start, "", 10), Err(ChangesGone));
        let of_another_run = ChangeToken {
            run: 2,
            ..changes.now()
        };
        assert_eq!(changes.after(of_another_run, "", 10), Err(ChangesGone));
        let of_the_future = ChangeToken {
            number: 99,
            ..changes.now()
        };
        assert_eq!(changes.after(of_the_future, "", 10), Err(ChangesGone));
    }

    #[test]
    fn pages_are_cut_and_filtered_by_prefix() {
        let changes = Changes::new(1, 100);
        let mut token = changes.now();
        for name in ["a/1", "b/1", "a/2", "a/3"] {
            changes.created(&incarnation(name));
        }
        let mut seen = Vec::new();
        loop {
            let page = changes.after(token, "a/", 2).expect("kept");
            seen.extend(page.changes.iter().map(|change| change.name.to_string()));
            token = page.after;
            if page.up_to_date {
                break;
            }
        }
        assert_eq!(seen, ["a/1", "a/2", "a/3"]);
        assert_eq!(ChangeToken::parse(&token.to_string()), Some(token));
    }
}
