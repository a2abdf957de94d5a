//! Which streams the server has: pages of its listing and of its change feed, and a look at one name. Keeps nothing.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

use super::Source;
use super::action::Action;
use super::connection::{Answer, Ask, is_true, text};
use super::error::Error;
use super::records::Parsed;
use super::settings::with_query;
use crate::event::{Incarnation, Offset, Unreadable};

/// Streams in one page of a listing: what the server gives by default.
const PAGE_ENTRIES: &str = "1000";
/// The header with the offset behind what an answer is about.
pub(super) const NEXT_OFFSET: &str = "stream-next-offset";
/// The header with the offset at which a stream begins that was trimmed.
pub(super) const OLDEST_OFFSET: &str = "stream-oldest-offset";

/// A stream at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Below the stream root.
    pub name: Arc<str>,
    /// Which stream of that name.
    pub incarnation: Incarnation,
    /// As it was given at its creation.
    pub content_type: Arc<str>,
    /// Where it begins: behind what was trimmed.
    pub oldest: Offset,
    /// Its tail.
    pub next: Offset,
    /// How many events it has had, trimmed ones counted; 0 if it was not told.
    pub events: u64,
    /// Whether nothing follows its tail any more.
    pub closed: bool,
}

/// A part of a listing.
#[derive(Debug)]
pub struct Page {
    /// In the order of their names.
    pub streams: Vec<Stream>,
    /// The name behind which to go on; none on the last page.
    pub after: Option<String>,
}

/// A part of the change feed.
#[derive(Debug)]
pub struct FeedPage {
    /// Oldest first.
    pub changes: Vec<FeedChange>,
    /// The token with which to go on.
    pub after: String,
}

/// That something was done to a stream.
#[derive(Debug)]
pub struct FeedChange {
    /// The stream's name.
    pub name: String,
    /// Which stream of that name.
    pub incarnation: Incarnation,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The incarnation as it is now; none if it is not there any more.
    pub now: Option<Stream>,
}

#[derive(Deserialize)]
struct PageDocument {
    streams: Vec<StreamDocument>,
    after: Option<String>,
}

#[derive(Deserialize)]
struct StreamDocument {
    name: String,
    id: Parsed<Incarnation>,
    content_type: String,
    oldest_offset: Parsed<Offset>,
    next_offset: Parsed<Offset>,
    messages: u64,
    closed: bool,
}

#[derive(Deserialize)]
struct FeedDocument {
    changes: Vec<ChangeDocument>,
    after: String,
}

#[derive(Deserialize)]
struct ChangeDocument {
    /// `deleted` is told apart. All others say where the stream is, which is all that is asked of them.
    #[serde(rename = "type")]
    kind: String,
    stream: String,
    id: Parsed<Incarnation>,
    content_type: Option<String>,
    oldest_offset: Option<Parsed<Offset>>,
    next_offset: Option<Parsed<Offset>>,
    messages: Option<u64>,
    closed: Option<bool>,
}

impl From<StreamDocument> for Stream {
    fn from(document: StreamDocument) -> Self {
        Self {
            name: document.name.into(),
            incarnation: document.id.0,
            content_type: document.content_type.into(),
            oldest: document.oldest_offset.0,
            next: document.next_offset.0,
            events: document.messages,
            closed: document.closed,
        }
    }
}

impl ChangeDocument {
    fn now(&self) -> Option<Stream> {
        Some(Stream {
            name: self.stream.as_str().into(),
            incarnation: self.id.0,
            content_type: self.content_type.as_deref()?.into(),
            oldest: self.oldest_offset.as_ref()?.0,
            next: self.next_offset.as_ref()?.0,
            events: self.messages.unwrap_or(0),
            closed: self.closed?,
        })
    }
}

impl Source {
    /// A page of the streams whose names begin with `prefix`, behind the name `after`.
    ///
    /// # Errors
    /// Any but those about a stream.
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, Error> {
        let action = Action::List(prefix);
        let mut parameters = Vec::with_capacity(3);
        parameters.extend(after.map(|after| ("after", after)));
        parameters.extend([("limit", PAGE_ENTRIES), ("prefix", prefix)]);
        let url = with_query(self.connection.root.control("__ds/streams"), &parameters);
        let answer = self.connection.send(Ask::new(action, Method::GET, url)).await?;
        let document: PageDocument = self.document(action, &answer)?;
        let is_stuck = document.after.is_some() && document.after.as_deref() <= after;
        if is_stuck {
            return Err(self
                .connection
                .unexpected(action, "a page that goes on where it began"));
        }
        Ok(Page {
            streams: document.streams.into_iter().map(Stream::from).collect(),
            after: document.after,
        })
    }

    /// A token of the change feed that covers all that has happened so far.
    ///
    /// # Errors
    /// Any but those about a stream.
    pub async fn feed_now(&self, prefix: &str) -> Result<String, Error> {
        let url = with_query(
            self.connection.root.control("__ds/changes"),
            &[("prefix", prefix)],
        );
        Ok(self.feed(Action::Follow(prefix), url).await?.after)
    }

    /// What was done to streams whose names begin with `prefix`, behind the token `after`. If it is nothing yet, the
    /// server waits with its answer.
    ///
    /// # Errors
    /// [`Error::FeedGone`] if the feed does not reach back to the token; any but those about a stream.
    pub async fn changes(&self, prefix: &str, after: &str) -> Result<FeedPage, Error> {
        let parameters = [("after", after), ("live", "long-poll"), ("prefix", prefix)];
        let url = with_query(self.connection.root.control("__ds/changes"), &parameters);
        self.feed(Action::Follow(prefix), url).await
    }

    async fn feed(&self, action: Action<'_>, url: String) -> Result<FeedPage, Error> {
        let answer = self.connection.send(Ask::new(action, Method::GET, url)).await;
        let answer = answer.map_err(|error| match error {
            Error::Refused(refusal) if refusal.code.as_deref() == Some("changes_gone") => Error::FeedGone,
            error => error,
        })?;
        let document: FeedDocument = self.document(action, &answer)?;
        let changes = document.changes.into_iter().map(|change| FeedChange {
            now: change.now(),
            name: change.stream,
            incarnation: change.id.0,
            deleted: change.kind == "deleted",
        });
        Ok(FeedPage {
            changes: changes.collect(),
            after: document.after,
        })
    }

    /// The stream of that name; none if there is none.
    ///
    /// # Errors
    /// Any but those about a stream.
    pub async fn look(&self, name: &Arc<str>) -> Result<Option<Stream>, Error> {
        let action = Action::Look(name);
        let url = self.connection.root.stream(name);
        let ask = Ask::new(action, Method::HEAD, url.clone());
        for _ in 0..2 {
            match self.connection.send(ask.clone()).await {
                Ok(answer) => return self.stream_of(name, &answer.headers).map(Some),
                Err(Error::Refused(refusal)) if is_absence(refusal.status) => {}
                Err(error) => return Err(error),
            }
            // An answer to HEAD has no document, and a proxy that does not find the server says 404 too. The stream
            // is gone only if the server says so.
            let ask = Ask::new(action, Method::GET, with_query(url.clone(), &[("offset", "now")]));
            match self.connection.send(ask).await {
                Err(Error::Refused(refusal)) if says_gone(refusal.code.as_deref()) => return Ok(None),
                Err(error) => return Err(error),
                // It was created in the meantime.
                Ok(_) => {}
            }
        }
        Err(self
            .connection
            .unexpected(action, "HEAD does not find what GET finds"))
    }

    fn stream_of(&self, name: &Arc<str>, headers: &HeaderMap) -> Result<Stream, Error> {
        let action = Action::Look(name);
        let content_type = text(headers, CONTENT_TYPE.as_str());
        let is_trimmed = headers.contains_key(OLDEST_OFFSET);
        let oldest = is_trimmed.then(|| self.offset(action, headers, OLDEST_OFFSET));
        Ok(Stream {
            name: Arc::clone(name),
            incarnation: self.incarnation(action, headers)?,
            content_type: content_type
                .ok_or_else(|| self.connection.unexpected(action, "no Content-Type"))?
                .into(),
            oldest: oldest.transpose()?.unwrap_or(Offset::BEGINNING),
            next: self.offset(action, headers, NEXT_OFFSET)?,
            events: 0,
            closed: is_true(headers, "stream-closed"),
        })
    }

    /// Which incarnation an answer is of: its entity tag begins with the id (docs/protocol-extensions.md, Caching). A
    /// proxy may have made the tag a weak one.
    pub(super) fn incarnation(&self, action: Action<'_>, headers: &HeaderMap) -> Result<Incarnation, Error> {
        let tag = text(headers, "etag").unwrap_or_default();
        let id = tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"');
        let id = id.and_then(|rest| rest.split_once(':')).map(|(id, _)| id);
        let parsed = id.unwrap_or_default().parse();
        parsed.map_err(|_unreadable| {
            let reason = format!("its ETag {tag:?} does not begin with the id of the stream");
            self.connection.unexpected(action, reason)
        })
    }

    /// The offset in one of an answer's headers.
    pub(super) fn offset(
        &self,
        action: Action<'_>,
        headers: &HeaderMap,
        name: &'static str,
    ) -> Result<Offset, Error> {
        let offset: Result<Offset, Unreadable> = text(headers, name).unwrap_or_default().parse();
        offset.map_err(|error| self.connection.unexpected(action, format!("{name}: {error}")))
    }

    fn document<'a, T: Deserialize<'a>>(&self, action: Action<'_>, answer: &'a Answer) -> Result<T, Error> {
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.connection.unexpected(action, error.to_string()))
    }
}

/// Whether a refusal's code says that there is no stream of the name.
pub(super) fn says_gone(code: Option<&str>) -> bool {
    matches!(code, Some("stream_not_found" | "stream_gone"))
}

fn is_absence(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}
