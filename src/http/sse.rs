//! GET with `live=sse`: stays at the tail and sends events (PROTOCOL.md §5.8), made for a browser's `EventSource`.
//!
//! Every data event carries the offset behind it as its id, so a reconnect goes on exactly there. The event that
//! tells of the close carries an id that ends the reconnects. A subscriber has no queue: it is at a position, and
//! a frame for it is made when its connection can take one. Subscribers at the same place share one frame.

mod newest_frame;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::unfold;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use tailwater_storage::engine::{ReadFailure, Reader, View};
use tailwater_storage::stream::{ContentKind, Position, StreamName};
use tokio::sync::watch;

use super::app::LiveTicket;
use super::caller::Caller;
use super::error::Problem;
use super::pace::{Due, Pace, Stopping, stops};
use super::place::Place;
use super::query::{self, ReadQuery};
use super::sse_encoding::{self, Control, EOF_SUFFIX};
use super::{App, Response, ResponseBody, cursor, headers, records};
use crate::limits::{Client, Entered};
use newest_frame::{Frame, FrameKey, NewestFrame, Seat};

/// The content type of events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// Stored bytes in one frame at the most, unless one message is longer.
const FRAME_BYTES_MAX: u64 = 256 * 1024;
/// A frame is not taken to be made for longer than this, however long its bytes were waited for.
const MAKING_MAX: Duration = Duration::from_millis(1);

pub(super) async fn subscribe(
    app: &Arc<App>,
    caller: &Caller,
    client: Option<&Arc<Client>>,
    name: &StreamName,
    query: ReadQuery,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let last_event_id = headers::single(request, &headers::LAST_EVENT_ID)?.filter(|id| !id.is_empty());
    let (offset, ended) = match last_event_id {
        None => (query.offset, false),
        Some(id) => match id.strip_suffix(EOF_SUFFIX) {
            None => (Some(query::offset(id)?), false),
            Some(id) => (Some(query::offset(id)?), true),
        },
    };
    let place = Place::find(app, name, offset).await?;
    if ended && place.view.closed && place.from == place.view.tail {
        // The client was told of the close; this answer makes an EventSource stop.
        let mut response = Response::new(ResponseBody::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
            .headers_mut()
            .insert(CACHE_CONTROL, headers::NO_STORE.clone());
        return Ok(response);
    }
    let ticket = app.admit_live_reader(client)?;
    let is_base64 = place.reader.incarnation().content_type.kind() == ContentKind::Binary
        && query.view == query::View::Content;
    let subscriber = Box::new(Subscriber::new(app, caller, place, query, ticket));
    let mut response = event_stream(ResponseBody::Subscribed(subscriber));
    if is_base64 {
        let base64 = HeaderValue::from_static("base64");
        response
            .headers_mut()
            .insert(&headers::STREAM_SSE_DATA_ENCODING, base64);
    }
    Ok(response)
}

/// An answer that sends events.
pub(super) fn event_stream(events: ResponseBody) -> Response {
    let mut response = Response::new(events);
    let to = response.headers_mut();
    to.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    to.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // nginx would otherwise hold events back until its buffer is full.
    to.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Events, framed as one chunk of HTTP/1.1's chunked coding so that sockets can share that too.
#[derive(Clone)]
pub(crate) struct Events {
    chunk: Bytes,
    from: usize,
}

impl Events {
    fn new(events: &[u8]) -> Self {
        let size = format!("{:x}\r\n", events.len());
        let mut chunk = Vec::with_capacity(size.len() + events.len() + 2);
        chunk.extend_from_slice(size.as_bytes());
        chunk.extend_from_slice(events);
        chunk.extend_from_slice(b"\r\n");
        Self {
            chunk: chunk.into(),
            from: size.len(),
        }
    }

    fn len(&self) -> usize {
        self.chunk.len() - self.from - 2
    }

    /// The events alone.
    pub(crate) fn bytes(&self) -> Bytes {
        self.chunk.slice(self.from..self.chunk.len() - 2)
    }

    /// The events as a chunk.
    pub(crate) fn chunk(&self) -> &[u8] {
        &self.chunk
    }
}

/// A reader that stays: where it is, and how it learns that there is more.
pub(crate) struct Subscriber {
    app: Arc<App>,
    reader: Reader,
    changes: watch::Receiver<View>,
    seat: Seat,
    stopping: Stopping,
    position: Position,
    shows: query::View,
    cursor: Option<u64>,
    /// What this client's cursors jump by, drawn once so that its frames stay comparable.
    jitter: u64,
    pace: Pace,
    /// Whether the client knows yet where it is.
    placed: bool,
    ended: bool,
    _ticket: LiveTicket,
}

enum Wake {
    Changed,
    Due(Due),
    Stopping,
}

impl Subscriber {
    fn new(app: &Arc<App>, caller: &Caller, place: Place, query: ReadQuery, ticket: LiveTicket) -> Self {
        let deadline = caller.ends_at(app.engine.now());
        let mut changes = place.reader.incarnation().subscribe();
        // The first look counts as a change, so that nothing between the snapshot and now is missed.
        changes.mark_changed();
        let newest = place.reader.incarnation().attachment::<Arc<NewestFrame>>();
        Self {
            seat: NewestFrame::take_seat(newest),
            app: Arc::clone(app),
            changes,
            stopping: stops(app),
            position: place.from,
            reader: place.reader,
            shows: query.view,
            cursor: query.cursor,
            jitter: fastrand::u64(..),
            pace: Pace::new(&app.config.http, deadline),
            placed: false,
            ended: false,
            _ticket: ticket,
        }
    }

    /// What it is sent, as a stream for connections that hyper serves to the end.
    pub(super) fn frames(self: Box<Self>) -> impl futures_core::Stream<Item = Bytes> + Send {
        unfold(self, |mut subscriber| async move {
            let events = subscriber.next_events().await?;
            Some((events.bytes(), subscriber))
        })
    }

    /// What to send next; none at the end.
    pub(crate) async fn next_events(&mut self) -> Option<Events> {
        loop {
            // A reader that is far behind ends in time too: it resumes by its id, and nothing is lost.
            let is_over = self.placed && (self.pace.is_over() || self.app.is_stopping());
            if self.ended || is_over {
                return None;
            }
            let view = *self.changes.borrow_and_update();
            if view.deleted {
                return None;
            }
            let catching_up = self.catches_up(&view);
            // The first frame's turn was the request's.
            let entered = if catching_up && self.placed {
                match self.take_turn().await {
                    Ok(entered) => entered,
                    Err(Due::KeepAlive) => return Some(Events::new(sse_encoding::KEEP_ALIVE)),
                    Err(Due::End) => return None,
                }
            } else {
                Entered { paid_ns: 0 }
            };
            let since = catching_up.then(Instant::now);
            let frame = self.frame(&view).await;
            if let Some(since) = since {
                // To send a frame takes about as long as to make it.
                let took = since.elapsed().min(MAKING_MAX) * 2;
                self.app.read_share.settle(entered, took);
            }
            let frame = match frame {
                Ok(frame) => frame,
                Err(failure) => {
                    tracing::debug!(%failure, "an event stream ends because its data cannot be read");
                    return None;
                }
            };
            if let Some(frame) = frame {
                self.position = frame.end;
                self.ended = frame.closed;
                self.pace.sent();
                self.app.metrics.delivered(frame.events.len());
                if !std::mem::replace(&mut self.placed, true) {
                    return Some(with_retry(&frame.events));
                }
                return Some(frame.events);
            }
            self.seat.wait_at(view.tail);
            let wake = tokio::select! {
                biased;
                changed = self.changes.changed() => match changed {
                    Ok(()) => Wake::Changed,
                    Err(_stream_forgotten) => return None,
                },
                due = self.pace.due() => Wake::Due(due),
                () = self.stopping.as_mut() => Wake::Stopping,
            };
            match wake {
                Wake::Changed => {}
                Wake::Due(Due::KeepAlive) => return Some(Events::new(sse_encoding::KEEP_ALIVE)),
                Wake::Due(Due::End) | Wake::Stopping => return None,
            }
        }
    }

    /// Whether the subscriber reads what was there long before, as a catch-up read does. What appends have just brought
    /// is no such thing: to deliver it is a part of appending.
    fn catches_up(&self, view: &View) -> bool {
        let bytes = view.tail.get().saturating_sub(self.position.get());
        bytes > 0 && (!self.placed || bytes > FRAME_BYTES_MAX)
    }

    /// Waits for a turn among the reads, unless something is due before.
    async fn take_turn(&mut self) -> Result<Entered, Due> {
        // A turn that comes when nobody waits for it any more is not lost to the others.
        let turn = self.app.next_read();
        let entered = self.pace.wait_for(turn, &mut self.stopping).await?;
        if self.pace.is_over() || self.app.is_stopping() {
            self.app.read_share.give_back(entered);
            return Err(Due::End);
        }
        Ok(entered)
    }

    /// The events between the subscriber's position and the tail, as many as one frame holds; none if there is
    /// nothing to tell.
    async fn frame(&self, view: &View) -> Result<Option<Frame>, ReadFailure> {
        let at_tail = self.position >= view.tail;
        if at_tail && self.placed && !view.closed {
            return Ok(None);
        }
        let cursor = cursor::answer(self.app.engine.now(), self.cursor, self.jitter);
        let key = FrameKey {
            from: self.position,
            tail: view.tail,
            closed: view.closed,
            cursor,
            view: self.shows,
        };
        // The first frame tells where the client is though there may be no data; the others are alike for all.
        let is_shared = self.placed || !at_tail;
        if let Some(frame) = is_shared.then(|| self.seat.newest(key)).flatten() {
            return Ok(Some(frame));
        }
        let frame = self.encode(view, cursor).await?;
        // What tells only where a client is must not be given to those who know: it would come again for ever.
        let moves_on = |frame: &&Frame| frame.end > self.position || frame.closed;
        if is_shared && let Some(frame) = frame.as_ref().filter(moves_on) {
            self.seat.share(key, frame);
        }
        Ok(frame)
    }

    async fn encode(&self, view: &View, cursor: u64) -> Result<Option<Frame>, ReadFailure> {
        let mut events = Vec::new();
        let Encoded { end, read_to } = match self.shows {
            query::View::Content => self.push_content(view, &mut events).await?,
            query::View::Records => self.push_records(view, &mut events).await?,
        };
        let has_data = !events.is_empty();
        if !has_data && self.placed && !view.closed {
            return Ok(None);
        }
        let closed = view.closed && end == view.tail;
        let control = Control {
            next: self.reader.incarnation().token(end),
            cursor,
            // What is held back of a character cannot be shown yet, so the client has all there is.
            up_to_date: read_to == view.tail,
            closed,
            with_id: !has_data,
        };
        sse_encoding::push_control(&control, &mut events);
        Ok(Some(Frame {
            events: Events::new(&events),
            end,
            closed,
        }))
    }

    async fn push_content(&self, view: &View, events: &mut Vec<u8>) -> Result<Encoded, ReadFailure> {
        let stream = self.reader.incarnation();
        let kind = stream.content_type.kind();
        let Content {
            bytes,
            showable,
            read_to,
        } = self.read_showable(view).await?;
        let end = self.position.advance(showable as u64).expect("within the stream");
        if showable > 0 {
            events.reserve(showable * 4 / 3 + 256);
            sse_encoding::push_data(kind, &bytes[..showable], stream.token(end), events);
        }
        Ok(Encoded { end, read_to })
    }

    /// Reads until there is something to show, or nothing more to read. What completes a character may be an append that
    /// is longer than a frame, or stand behind a fork's point: it does not come with the character's beginning then.
    async fn read_showable(&self, view: &View) -> Result<Content, ReadFailure> {
        let kind = self.reader.incarnation().content_type.kind();
        let mut slices = self.reader.read(self.position, view, FRAME_BYTES_MAX).await?;
        loop {
            let read_to = slices.end;
            let bytes = slices.into_contiguous();
            let is_final = view.closed && read_to == view.tail;
            let showable = sse_encoding::showable(kind, &bytes, is_final);
            if showable > 0 || read_to >= view.tail {
                return Ok(Content {
                    bytes,
                    showable,
                    read_to,
                });
            }
            slices = self.reader.read(read_to, view, FRAME_BYTES_MAX).await?;
            slices.pieces.insert(0, bytes);
        }
    }

    async fn push_records(&self, view: &View, events: &mut Vec<u8>) -> Result<Encoded, ReadFailure> {
        let stream = self.reader.incarnation();
        let mut end = self.position;
        let mut line = Vec::new();
        for record in self.reader.records(self.position, view, FRAME_BYTES_MAX).await? {
            end = record.end;
            line.clear();
            records::push(stream, &record, &mut line);
            sse_encoding::push_line(&line, stream.token(end), events);
        }
        Ok(Encoded { end, read_to: end })
    }
}

/// Stored bytes from a subscriber's position on.
struct Content {
    bytes: Bytes,
    /// How many of them can be shown. Only none if there is nothing behind them yet.
    showable: usize,
    /// Behind the last one.
    read_to: Position,
}

/// How far events go.
struct Encoded {
    /// Behind the last byte that they show.
    end: Position,
    /// Behind the last byte that was read; what is in between is a part of a character.
    read_to: Position,
}

/// The first frame also tells an `EventSource` to come back soon, not all of them at once.
fn with_retry(events: &Events) -> Events {
    let retry_ms = fastrand::u32(500..1500);
    let mut first = format!("retry: {retry_ms}\n\n").into_bytes();
    first.extend_from_slice(&events.bytes());
    Events::new(&first)
}

#[cfg(test)]
mod tests;
