//! GET `__ds/changes`: the change feed over all streams, at once, by long-poll or as events.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, State};
use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::HeaderMap;
use serde_json::{Value, json};
use tailwater_storage::engine::{Change, ChangeKind, ChangePage, ChangeToken};
use tokio::sync::watch;
use tokio::time::Instant;

use super::app::LiveTicket;
use super::caller::Caller;
use super::control::{self, to_side};
use super::error::Problem;
use super::pace::{Due, Pace, Stopping, stops};
use super::query::{self, Live};
use super::sse::event_stream;
use super::visitor::Limited;
use super::{App, ResponseBody, headers, long_poll, sse_encoding};
use crate::limits::Client;

#[derive(Default)]
struct ChangesQuery {
    prefix: String,
    after: Option<ChangeToken>,
    live: Live,
}

impl ChangesQuery {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for (name, value) in query::pairs(query) {
            match name {
                "prefix" => parsed.prefix = value.into_owned(),
                "after" => parsed.after = Some(token(&value)?),
                "live" => {
                    let allowed = [("long-poll", Live::LongPoll), ("sse", Live::Sse)];
                    parsed.live = query::choice("live", &value, &allowed)?;
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn token(text: &str) -> Result<ChangeToken, Problem> {
    ChangeToken::parse(text).ok_or_else(|| {
        let fix = "send the `changes` token of a listing, or the `after` of an earlier answer";
        Problem::query("after", &format!("is {text:?}; {fix}"))
    })
}

pub(super) async fn changes(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(Limited(client)): Extension<Limited>,
    RawQuery(query): RawQuery,
    request: HeaderMap,
) -> Result<axum::response::Response, Problem> {
    let query = ChangesQuery::parse(query.as_deref().unwrap_or_default())?;
    // Subscribed first, then looked at: no change is missed.
    let newest = app.engine.changes().subscribe();
    let resumed = headers::single(&request, &headers::LAST_EVENT_ID)?.filter(|id| !id.is_empty());
    let after = match resumed.filter(|_| query.live == Live::Sse) {
        Some(id) => token(id)?,
        None => query.after.unwrap_or_else(|| app.engine.changes().now()),
    };
    let mut feed = Feed {
        app: Arc::clone(&app),
        newest,
        prefix: query.prefix,
        after,
    };
    match query.live {
        Live::No => {}
        Live::LongPoll => {
            let time_out = long_poll::time_out(&app, &caller);
            feed.wait(client.as_ref(), time_out).await?;
        }
        Live::Sse => {
            feed.look()?;
            let ticket = app.admit_live_reader(client.as_ref())?;
            let deadline = caller.ends_at(app.engine.now());
            return Ok(to_side(event_stream(ResponseBody::Live(Box::pin(
                feed.events(ticket, deadline),
            )))));
        }
    }
    let page = feed.look()?;
    Ok(to_side(control::json(&feed.describe(&page).await?)))
}

/// A reader of the change feed, at a place in it.
struct Feed {
    app: Arc<App>,
    newest: watch::Receiver<u64>,
    prefix: String,
    after: ChangeToken,
}

impl Feed {
    fn look(&self) -> Result<ChangePage, Problem> {
        let count_max = self.app.config.limits.max_list_entries;
        Ok(self
            .app
            .engine
            .changes()
            .after(self.after, &self.prefix, count_max)?)
    }

    /// Waits until there is a change with the prefix, or until it is time to answer without.
    async fn wait(&mut self, client: Option<&Arc<Client>>, time_out: Instant) -> Result<(), Problem> {
        let _ticket = self.app.admit_live_reader(client)?;
        let mut stopping = self.app.stopping();
        let timeout = tokio::time::sleep_until(time_out);
        tokio::pin!(timeout);
        loop {
            self.newest.borrow_and_update();
            let page = self.look()?;
            if !page.changes.is_empty() {
                return Ok(());
            }
            // What was passed over has another prefix.
            self.after = page.after;
            if !page.up_to_date {
                // Whoever has waited for too long is told how far this came.
                let turn = tokio::time::timeout_at(time_out, self.app.take_turn_for_a_piece());
                if turn.await.is_err() || self.app.is_stopping() {
                    return Ok(());
                }
                continue;
            }
            tokio::select! {
                _ = self.newest.changed() => {}
                () = &mut timeout => return Ok(()),
                _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
            }
        }
    }

    async fn describe(&self, page: &ChangePage) -> Result<Value, Problem> {
        let mut changes = Vec::with_capacity(page.changes.len());
        for change in &page.changes {
            changes.push(self.describe_change(change).await?);
        }
        Ok(json!({ "changes": changes, "after": page.after.to_string(), "up_to_date": page.up_to_date }))
    }

    /// A change with the stream as it is now; without it if it is not there any more.
    async fn describe_change(&self, change: &Change) -> Result<Value, Problem> {
        let kind = match change.kind {
            ChangeKind::Created => "created",
            ChangeKind::Appended => "appended",
            ChangeKind::Closed => "closed",
            ChangeKind::Trimmed => "trimmed",
            ChangeKind::Deleted => "deleted",
        };
        let stream = match change.kind {
            ChangeKind::Deleted => None,
            _ => self.app.engine.describe(&change.name, change.id).await?,
        };
        Ok(json!({
            "type": kind,
            "stream": change.name.as_str(),
            "id": change.id.to_string(),
            "content_type": stream.as_ref().map(|stream| stream.content_type.as_str()),
            "next_offset": stream.as_ref().map(|stream| stream.tail.to_string()),
            "oldest_offset": stream.as_ref().map(|stream| stream.oldest.to_string()),
            "messages": stream.as_ref().map(|stream| stream.messages),
            "closed": stream.as_ref().map(|stream| stream.closed),
        }))
    }

    /// One event for each page of changes, whose id resumes behind it; and one without changes where others have moved
    /// the feed on and the client would resume from where it was. Ends when the feed does not reach back any more: the
    /// reconnect is then told so.
    fn events(
        self,
        ticket: LiveTicket,
        deadline: Option<Instant>,
    ) -> impl futures_core::Stream<Item = Bytes> + Send {
        let reader = EventReader {
            stopping: stops(&self.app),
            pace: Pace::new(&self.app.config.http, deadline),
            untold_max: (self.app.config.limits.max_changes as u64 / 2).max(1),
            told: self.after,
            feed: self,
            placed: false,
            is_behind: false,
            ended: false,
            _ticket: ticket,
        };
        unfold(reader, |mut reader| async move {
            let event = reader.next_event().await?;
            Some((event, reader))
        })
    }
}

struct EventReader {
    feed: Feed,
    pace: Pace,
    stopping: Stopping,
    /// Whether the client knows yet where it is.
    placed: bool,
    /// Where the client would resume from: as far as the feed has come, or further back.
    told: ChangeToken,
    /// So many changes may be passed over before the client is told. The feed keeps at least as many more, so that it
    /// still reaches back to where the client was told when its connection breaks.
    untold_max: u64,
    /// Whether there was more than the last page. The first page's turn was the request's.
    is_behind: bool,
    ended: bool,
    _ticket: LiveTicket,
}

impl EventReader {
    async fn next_event(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            if self.placed && (self.pace.is_over() || self.feed.app.is_stopping()) {
                return self.tell_due(Due::End).await;
            }
            if self.is_behind {
                let turn = self.feed.app.take_turn_for_a_piece();
                match self.pace.wait_for(turn, &mut self.stopping).await {
                    Ok(()) => self.is_behind = false,
                    Err(due) => return self.tell_due(due).await,
                }
                // It may have taken long, so that it is time to end.
                continue;
            }
            self.feed.newest.borrow_and_update();
            let page = self.feed.look().ok()?;
            self.feed.after = page.after;
            self.is_behind = !page.up_to_date;
            let is_far = page.after.since(self.told) >= self.untold_max;
            if !page.changes.is_empty() || is_far || !self.placed {
                return self.tell(&page).await;
            }
            if self.is_behind {
                continue;
            }
            let due = tokio::select! {
                changed = self.feed.newest.changed() => {
                    changed.ok()?;
                    continue;
                }
                due = self.pace.due() => due,
                () = self.stopping.as_mut() => Due::End,
            };
            return self.tell_due(due).await;
        }
    }

    /// A comment, or the end. A client that would resume from further back than the feed has come is told how far that
    /// is: the feed may not reach back there when it comes again.
    async fn tell_due(&mut self, due: Due) -> Option<Bytes> {
        self.ended = matches!(due, Due::End);
        if self.feed.after != self.told && self.pace.may_send() {
            let has_more = self.is_behind || self.feed.newest.has_changed().unwrap_or(false);
            let page = ChangePage {
                changes: Vec::new(),
                after: self.feed.after,
                up_to_date: !has_more,
            };
            return self.tell(&page).await;
        }
        match due {
            Due::KeepAlive => Some(Bytes::from_static(sse_encoding::KEEP_ALIVE)),
            Due::End => None,
        }
    }

    async fn tell(&mut self, page: &ChangePage) -> Option<Bytes> {
        self.placed = true;
        self.told = page.after;
        self.pace.sent();
        let document = self.feed.describe(page).await.ok()?;
        Some(format!("event: changes\nid: {}\ndata:{document}\n\n", page.after).into())
    }
}
