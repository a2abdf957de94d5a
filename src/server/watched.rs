//! Watches what a connection does, so that one timer for each connection serves all its time-outs.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::untaken::Answers;
use crate::http::{HeldRequest, ResponseBody};

/// Time-outs are no finer than a tick of the system, and its clock of ticks costs a fraction of the other one.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
const CLOCK: ClockId = ClockId::MonotonicCoarse;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
const CLOCK: ClockId = ClockId::Monotonic;

fn clock_ms() -> u64 {
    let time = clock_gettime(CLOCK);
    let millis = Duration::try_from(time).map(|time| time.as_millis());
    millis.map_or(0, |millis| u64::try_from(millis).unwrap_or(u64::MAX))
}

/// What comes and goes between requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The head of the next request comes, and the end of the answer goes.
    Http1,
    /// Any frame may: pings and their answers, windows that are opened. They tell nothing of requests.
    Http2,
}

/// What a connection has done so far. Requests overlap in HTTP/2, so they are counted.
pub(super) struct Activity {
    since_ms: u64,
    protocol: Protocol,
    /// Bytes that came so far.
    came_bytes: AtomicU64,
    /// How many of them had come when the last request began or ended: what has come since is a head in HTTP/1.
    head_begins: AtomicU64,
    /// Requests whose answer is not sent yet.
    requests: AtomicU64,
    /// When the last request ended, or the connection began, in milliseconds.
    idle_since_ms: AtomicU64,
    /// Since when the socket has taken nothing, in milliseconds; 0 if it takes what there is.
    stalled_since_ms: AtomicU64,
    /// Answers in HTTP/2, where a client stalls above the socket, each by itself.
    pub(super) answers: Answers,
    /// Whether all that was answered so far has gone to the socket, and nothing of it is kept above it.
    flushed: AtomicBool,
    /// Whether hyper has answered an append since it was given the connection.
    has_appended: AtomicBool,
    /// An answer that the connection takes over from hyper. It is looked for at every turn of the connection, so it is small.
    handover: Mutex<Option<Box<Response<ResponseBody>>>>,
}

impl Activity {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            since_ms: clock_ms(),
            protocol,
            came_bytes: AtomicU64::new(0),
            head_begins: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            idle_since_ms: AtomicU64::new(0),
            stalled_since_ms: AtomicU64::new(0),
            answers: Answers::default(),
            flushed: AtomicBool::new(true),
            has_appended: AtomicBool::new(false),
            handover: Mutex::new(None),
        }
    }

    /// Offers an answer to be served past hyper. Gives it back if something may still stand in hyper's buffer.
    pub(super) fn hand_over(&self, response: Response<ResponseBody>) -> Option<Response<ResponseBody>> {
        if !self.flushed.load(Ordering::Relaxed) {
            return Some(response);
        }
        let mut handover = self.handover.lock().unwrap_or_else(PoisonError::into_inner);
        debug_assert!(handover.is_none(), "a connection is taken over once");
        *handover = Some(Box::new(response));
        None
    }

    /// The answer that was handed over.
    pub(super) fn taken_over(&self) -> Option<Response<ResponseBody>> {
        let mut handover = self.handover.lock().unwrap_or_else(PoisonError::into_inner);
        handover.take().map(|response| *response)
    }

    /// The client appends, as far as it is known now.
    pub(super) fn appends(&self, appends: bool) {
        self.has_appended.store(appends, Ordering::Relaxed);
    }

    /// Whether the client appends, and waits for no answer or for the rest of one.
    pub(super) fn is_idle_behind_append(&self) -> bool {
        self.has_appended.load(Ordering::Relaxed)
            && self.requests.load(Ordering::Relaxed) == 0
            && self.flushed.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Milliseconds since the connection began.
    pub(super) fn now_ms(&self) -> u64 {
        clock_ms().saturating_sub(self.since_ms)
    }

    /// A request's head is complete.
    pub(super) fn begin_request(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.end_head();
        Busy(Arc::clone(self))
    }

    /// Bytes that came since the connection began.
    pub(super) fn came_bytes(&self) -> u64 {
        self.came_bytes.load(Ordering::Relaxed)
    }

    /// What has come so far is no part of the next request's head.
    fn end_head(&self) {
        self.head_begins.store(self.came_bytes(), Ordering::Relaxed);
    }

    /// Ends when the connection has been idle for too long, has taken too long to send a request's head, or has
    /// taken nothing of an answer for too long.
    pub(super) async fn watch(self: &Arc<Self>, timeouts: Timeouts) -> Overdue {
        let Timeouts { header, idle, write } = timeouts;
        // A look this often is late by at most a quarter of the shortest time-out.
        let look = header.min(idle).min(write) / 4;
        let look = look.clamp(Duration::from_millis(50), Duration::from_secs(5));
        let millis = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let (header_ms, idle_ms, write_ms) = (millis(header), millis(idle), millis(write));
        let mut head_since: Option<u64> = None;
        loop {
            tokio::time::sleep(look).await;
            let stalled_since = self.stalled_since_ms.load(Ordering::Relaxed);
            if stalled_since > 0 && self.now_ms() - stalled_since >= write_ms {
                return Overdue::Rest;
            }
            let now = self.now_ms();
            let untaken_since = self.answers.oldest_ms();
            if untaken_since.is_some_and(|since| now.saturating_sub(since) >= write_ms) {
                return Overdue::Rest;
            }
            if self.requests.load(Ordering::Relaxed) > 0 {
                head_since = None;
                continue;
            }
            let idle_for = now.saturating_sub(self.idle_since_ms.load(Ordering::Relaxed));
            if self.awaits_head() {
                let began = *head_since.get_or_insert(now);
                if now - began >= header_ms {
                    return Overdue::Rest;
                }
            } else {
                head_since = None;
                if idle_for >= idle_ms {
                    return Overdue::Request;
                }
            }
        }
    }

    /// Whether a head has begun to come and is not complete. In HTTP/2 that is known only of the first one: until then
    /// nothing but a request is of use.
    fn awaits_head(&self) -> bool {
        let head_begins = self.head_begins.load(Ordering::Relaxed);
        let may_be_head = self.protocol == Protocol::Http1 || head_begins == 0;
        may_be_head && head_begins != self.came_bytes()
    }
}

/// What a client has kept the connection waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Another request. One may be on its way.
    Request,
    /// The rest of what it has begun to send or to take.
    Rest,
}

/// How long a client may keep the connection waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// With a request's head.
    pub(super) header: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// With taking an answer's next bytes.
    pub(super) write: Duration,
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Activity>);

impl Busy {
    /// The request stays busy, and is counted among those of all clients, until its body is given to the connection or
    /// given up.
    pub(super) fn with_body(self, body: ResponseBody, request: Option<HeldRequest>) -> BusyBody {
        BusyBody {
            body,
            _busy: self,
            _request: request,
        }
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.flushed.store(false, Ordering::Relaxed);
        // What came since the head was this request's body.
        self.0.end_head();
        self.0.idle_since_ms.store(self.0.now_ms(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, and the request that it answers.
pub(super) struct BusyBody {
    body: ResponseBody,
    _busy: Busy,
    _request: Option<HeldRequest>,
}

impl Body for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What an answer's head and a small body take together at the most, and an event with what stands around it.
const JOINED_BYTES_MAX: usize = 1024;

/// A stream whose incoming bytes are counted, and may be put back.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    /// What was put back.
    unread: Bytes,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            unread: Bytes::new(),
        }
    }

    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Gives these bytes again before all others.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.unread = [bytes, &self.unread].concat().into();
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    fn note_write<T>(&self, polled: &Poll<std::io::Result<T>>) {
        let stalled_since = &self.activity.stalled_since_ms;
        if polled.is_ready() {
            stalled_since.store(0, Ordering::Relaxed);
            // An answer may still be on its way when its request counts as answered, but not in HTTP/2.
            let may_be_answer = self.activity.protocol == Protocol::Http1;
            if may_be_answer && self.activity.requests.load(Ordering::Relaxed) == 0 {
                self.activity
                    .idle_since_ms
                    .store(self.activity.now_ms(), Ordering::Relaxed);
            }
        } else if stalled_since.load(Ordering::Relaxed) == 0 {
            stalled_since.store(self.activity.now_ms().max(1), Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.unread.is_empty() {
            let bytes = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(bytes));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let more = (buffer.filled().len() - before) as u64;
        if more > 0 {
            self.activity.came_bytes.fetch_add(more, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.activity.flushed.store(false, Ordering::Relaxed);
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.activity.flushed.store(false, Ordering::Relaxed);
        // The system has a shorter way for one slice, which costs more than to copy a few small ones.
        let mut joined = [0; JOINED_BYTES_MAX];
        let polled = match single(slices).or_else(|| join(slices, &mut joined)) {
            Some(slice) => Pin::new(&mut self.stream).poll_write(context, slice),
            None => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
        };
        self.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        // hyper flushes the socket only once its own buffer is empty.
        self.activity.flushed.store(polled.is_ready(), Ordering::Relaxed);
        // Only TLS has something of its own to flush; a client that does not take that stalls like any other.
        if polled.is_pending() || self.activity.stalled_since_ms.load(Ordering::Relaxed) > 0 {
            self.note_write(&polled);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // Whoever ends a connection does not give it back.
        self.activity.appends(false);
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The only slice that is not empty, if there is just one.
fn single<'a>(slices: &'a [std::io::IoSlice<'_>]) -> Option<&'a [u8]> {
    let mut filled = slices.iter().filter(|slice| !slice.is_empty());
    let first = filled.next()?;
    filled.next().is_none().then_some(first)
}

/// All slices in one, if they fit into it.
fn join<'b>(slices: &[std::io::IoSlice<'_>], buffer: &'b mut [u8; JOINED_BYTES_MAX]) -> Option<&'b [u8]> {
    let mut len = 0;
    for slice in slices {
        buffer.get_mut(len..len + slice.len())?.copy_from_slice(slice);
        len += slice.len();
    }
    Some(&buffer[..len])
}

#[cfg(test)]
mod tests;
