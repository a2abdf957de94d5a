//! Finds the streams that are meant and tells what becomes of them: lists once, then follows the change feed by one
//! connection. Reads no stream.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::Source;
use super::error::Error;
use super::known::{Change, Known};
use super::listing::Stream;
use super::pattern::Patterns;

/// How many names are looked up at once.
const LOOKS_MAX: usize = 16;

/// The streams that are meant, kept up to date.
#[derive(Debug)]
pub struct Discovery {
    source: Source,
    patterns: Patterns,
    /// What all meant names begin with: the feed is asked for no others.
    prefix: String,
    known: Known,
    phase: Phase,
    /// When the feed may be asked next.
    not_before: Option<Instant>,
    listings: u64,
}

/// Changes only with an answer, so that a call that is given up or fails is simply made again.
#[derive(Debug)]
enum Phase {
    Start,
    Listing { token: String, rest: Listing },
    Following { token: String },
}

/// What is still to be listed.
#[derive(Debug)]
struct Listing {
    /// Of which the last is being listed.
    prefixes: Vec<String>,
    /// The name behind which its next page begins.
    after: Option<String>,
    /// Exact names that are to be looked up.
    names: Vec<Arc<str>>,
}

impl Discovery {
    /// Begins with the first [`Discovery::next`]. There is one feed for all patterns: a token for the edge has to allow
    /// to read all that begins with what they have in common, up to a slash (docs/edge.md).
    #[must_use]
    pub fn new(source: Source, patterns: Patterns) -> Self {
        Self {
            prefix: patterns.common_prefix(),
            source,
            patterns,
            known: Known::default(),
            phase: Phase::Start,
            not_before: None,
            listings: 0,
        }
    }

    /// Waits until something is new and tells it, in order; never nothing. The first calls tell of the streams that
    /// are there, page by page. May be given up and called again at any time without losing anything.
    ///
    /// # Errors
    /// Any but those about a stream. The next call goes on where this one failed.
    pub async fn next(&mut self) -> Result<Vec<Change>, Error> {
        loop {
            let changes = self.step().await?;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// As [`Discovery::next`], but also tells that nothing is new, with each answer of the server that says so.
    ///
    /// # Errors
    /// As [`Discovery::next`].
    pub async fn step(&mut self) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        match &mut self.phase {
            Phase::Start => {
                // The token comes first: what changes while the streams are listed is in the feed behind it.
                let token = self.source.feed_now(&self.prefix).await?;
                let rest = Listing::of(&self.patterns);
                self.known.begin_listing();
                self.phase = Phase::Listing { token, rest };
            }
            Phase::Listing { rest, .. } if !rest.is_complete() => {
                for stream in rest.next_page(&self.source).await? {
                    if self.patterns.matches(&stream.name) {
                        self.known.see(stream, &mut changes);
                    }
                }
            }
            Phase::Listing { token, .. } => {
                self.known.end_listing(&mut changes);
                self.listings += 1;
                let token = std::mem::take(token);
                self.phase = Phase::Following { token };
            }
            Phase::Following { token } => {
                if let Some(not_before) = self.not_before {
                    tokio::time::sleep_until(not_before).await;
                }
                match self.source.changes(&self.prefix, token).await {
                    Err(Error::FeedGone) => self.phase = Phase::Start,
                    page => {
                        let page = page?;
                        *token = page.after;
                        for change in page.changes {
                            if self.patterns.matches(&change.name) {
                                self.known.hear(change, &mut changes);
                            }
                        }
                    }
                }
                self.not_before = Some(Instant::now() + self.source.feed_pause());
            }
        }
        Ok(changes)
    }

    /// All streams that are known, as they were when they were last told of. What is missing once
    /// [`Discovery::is_complete`] is not at the source.
    pub fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.known.streams()
    }

    /// The stream of that name, if it is known.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.known.get(name)
    }

    /// How many streams are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// Whether all streams have been told of, so that only news follow. It is not so while the streams are listed, at
    /// the start and whenever the feed was lost.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::Following { .. })
    }

    /// How often all streams were listed: once, and once more each time that the feed was lost. If it goes up all the
    /// time, more changes happen during a listing than the feed keeps: raise the server's `limits.max_changes`.
    #[must_use]
    pub fn listings(&self) -> u64 {
        self.listings
    }
}

impl Listing {
    fn of(patterns: &Patterns) -> Self {
        Self {
            prefixes: patterns.prefixes(),
            after: None,
            names: patterns.unlisted().into_iter().map(Arc::from).collect(),
        }
    }

    fn is_complete(&self) -> bool {
        self.prefixes.is_empty() && self.names.is_empty()
    }

    async fn next_page(&mut self, source: &Source) -> Result<Vec<Stream>, Error> {
        if let Some(prefix) = self.prefixes.last() {
            let page = source.list(prefix, self.after.as_deref()).await?;
            self.after = page.after;
            if self.after.is_none() {
                self.prefixes.pop();
            }
            return Ok(page.streams);
        }
        let rest = self.names.len().saturating_sub(LOOKS_MAX);
        let looks = self.names[rest..].iter().map(|name| source.look(name));
        let found = try_join_all(looks).await?;
        self.names.truncate(rest);
        Ok(found.into_iter().flatten().collect())
    }
}

impl Source {
    fn feed_pause(&self) -> Duration {
        self.connection.settings.feed_pause
    }
}
