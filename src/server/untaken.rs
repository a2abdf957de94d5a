//! What the clients of answers in HTTP/2 have not taken yet. Knows neither requests nor what is in an answer.
//!
//! In HTTP/1.1 a client that takes nothing fills the socket. In HTTP/2 each answer has a window of its own above that: a
//! client may read the socket, send whatever it likes, and take nothing of its answers, which are kept for it. So each
//! answer is timed by itself, until the last byte of its last piece has gone to the socket.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::metered::{MeteredBody, Written};
use super::watched::Busy;
use crate::http::HeldRequest;

/// The answers of one connection that are on their way.
#[derive(Default)]
pub(super) struct Answers(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    /// How many there have been.
    count: u64,
    untaken: BTreeMap<u64, Arc<Untaken>>,
}

impl Answers {
    /// When the client that has been waited for longest last took something, in milliseconds since the connection began;
    /// none if no answer waits for its client.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.lock()
            .untaken
            .values()
            .filter(|untaken| untaken.parts.load(Ordering::Acquire) > 0)
            .map(|untaken| untaken.since_ms.load(Ordering::Relaxed))
            .min()
    }

    fn begin(&self, untaken: Arc<Untaken>) -> u64 {
        let mut numbered = self.lock();
        numbered.count += 1;
        let number = numbered.count;
        numbered.untaken.insert(number, untaken);
        number
    }

    fn end(&self, number: u64) {
        self.lock().untaken.remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits for the client of one answer.
struct Untaken {
    /// Pieces that were given and have not gone to the socket, and one more while the body is not being asked for a piece.
    /// A body that was asked and has nothing to give, as an event stream at its tail, waits for no client.
    parts: AtomicUsize,
    /// When the client last took something, or the first of these parts came, in milliseconds.
    since_ms: AtomicU64,
}

impl Untaken {
    fn begin_part(&self, now_ms: u64) {
        if self.parts.load(Ordering::Acquire) == 0 {
            // Before the part is seen, so that nobody takes it for an old one.
            self.since_ms.store(now_ms, Ordering::Relaxed);
        }
        self.parts.fetch_add(1, Ordering::Release);
    }

    fn end_part(&self) {
        self.parts.fetch_sub(1, Ordering::Release);
    }
}

/// An answer, until its client has taken it or is gone. The body and the pieces that it gave share it, for the body ends
/// as soon as its last piece is given.
struct Answer {
    number: u64,
    untaken: Arc<Untaken>,
    busy: Busy,
    written: Written,
    _request: Option<HeldRequest>,
}

impl Answer {
    fn begin_part(&self) {
        self.untaken.begin_part(self.busy.activity().now_ms());
    }

    fn took_some(&self, bytes: usize) {
        self.written.add(bytes);
        let now_ms = self.busy.activity().now_ms();
        self.untaken.since_ms.store(now_ms, Ordering::Relaxed);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.busy.activity().answers.end(self.number);
    }
}

/// An answer's body, whose client has to take it in time.
pub(super) struct UntakenBody {
    body: MeteredBody,
    answer: Arc<Answer>,
    /// Whether the body was asked for a piece and has none yet.
    asked: bool,
}

impl UntakenBody {
    /// The request stays busy, and is counted among those of all clients, until the whole body is taken or given up.
    pub(super) fn new(body: MeteredBody, busy: Busy, request: Option<HeldRequest>) -> Self {
        let untaken = Arc::new(Untaken {
            parts: AtomicUsize::new(1),
            since_ms: AtomicU64::new(busy.activity().now_ms()),
        });
        let number = busy.activity().answers.begin(Arc::clone(&untaken));
        Self {
            answer: Arc::new(Answer {
                number,
                untaken,
                busy,
                written: body.written(),
                _request: request,
            }),
            body,
            asked: false,
        }
    }

    fn note_asked(&mut self, asked: bool) {
        match (self.asked, asked) {
            (false, true) => self.answer.untaken.end_part(),
            (true, false) => self.answer.begin_part(),
            _ => {}
        }
        self.asked = asked;
    }
}

impl Drop for UntakenBody {
    fn drop(&mut self) {
        self.note_asked(true);
    }
}

impl Body for UntakenBody {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.note_asked(polled.is_pending());
        let answer = &self.answer;
        polled.map_ok(|frame| frame.map_data(|bytes| Piece::new(bytes, answer)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of an answer, which tells when some of it goes to the socket.
pub(super) struct Piece {
    bytes: Bytes,
    /// None once all of it is taken.
    answer: Option<Arc<Answer>>,
}

impl Piece {
    fn new(bytes: Bytes, answer: &Arc<Answer>) -> Self {
        let answer = (!bytes.is_empty()).then(|| {
            answer.begin_part();
            Arc::clone(answer)
        });
        Self { bytes, answer }
    }

    fn end(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer.untaken.end_part();
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(answer) = self.answer.as_ref().filter(|_| count > 0) {
            answer.took_some(count);
        }
        if self.bytes.is_empty() {
            self.end();
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::{Buf as _, Bytes};
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::{Piece, UntakenBody};
    use crate::config::Config;
    use crate::http::ResponseBody;
    use crate::limits::{SharedMeter, Work};
    use crate::server::app_for_tests;
    use crate::server::metered::MeteredRequest;
    use crate::server::watched::{Activity, Protocol};

    /// An answer to something that is no read.
    fn answer(activity: &Arc<Activity>, body: ResponseBody) -> UntakenBody {
        answer_on(&Arc::default(), activity, body)
    }

    fn answer_on(meter: &Arc<SharedMeter>, activity: &Arc<Activity>, body: ResponseBody) -> UntakenBody {
        let app = app_for_tests(Config::default());
        let body = MeteredRequest::new(&app.read_share, meter).with_body(body);
        UntakenBody::new(body, activity.begin_request(), None)
    }

    fn next_piece(body: &mut UntakenBody) -> Option<Piece> {
        let frame = body.frame().now_or_never()??.expect("it does not fail");
        frame.into_data().ok()
    }

    /// Whether a body is asked before its window opens is for hyper to decide, and has changed between its versions.
    #[test]
    fn an_answer_waits_for_its_client_from_its_head_on_until_its_last_byte_is_taken() {
        let activity = Arc::new(Activity::new(Protocol::Http2));
        let mut body = answer(&activity, ResponseBody::Whole(Bytes::from_static(b"all")));
        assert!(
            activity.answers.oldest_ms().is_some(),
            "nobody has asked the body"
        );
        let mut piece = next_piece(&mut body).expect("a piece");
        drop(body);
        assert!(
            activity.answers.oldest_ms().is_some(),
            "the piece outlives its body"
        );
        piece.advance(2);
        assert!(activity.answers.oldest_ms().is_some(), "a byte is left");
        piece.advance(1);
        assert_eq!(activity.answers.oldest_ms(), None);

        let mut body = answer(&activity, ResponseBody::Whole(Bytes::from_static(b"all")));
        let piece = next_piece(&mut body);
        drop((body, piece));
        assert_eq!(activity.answers.oldest_ms(), None, "it is given up");
    }

    #[test]
    fn a_body_without_anything_to_give_waits_for_nobody_but_what_it_gave_does() {
        let activity = Arc::new(Activity::new(Protocol::Http2));
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let events = futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        let mut body = answer(&activity, ResponseBody::Live(Box::pin(events)));
        assert!(next_piece(&mut body).is_none());
        assert_eq!(activity.answers.oldest_ms(), None);
        sender
            .try_send(Bytes::from_static(b"event"))
            .expect("there is room");
        let piece = next_piece(&mut body).expect("a piece");
        assert!(next_piece(&mut body).is_none());
        assert!(activity.answers.oldest_ms().is_some());
        drop(piece);
        assert_eq!(activity.answers.oldest_ms(), None);
    }

    #[test]
    fn the_connection_is_told_what_is_written_when_it_is_written() {
        let (meter, activity) = (
            Arc::<SharedMeter>::default(),
            Arc::new(Activity::new(Protocol::Http2)),
        );
        let mut body = answer_on(&meter, &activity, ResponseBody::Whole(Bytes::from_static(b"all")));
        let before = meter.answered(Work::Other);
        let mut piece = next_piece(&mut body).expect("a piece");
        assert_eq!(meter.answered(Work::Other), before, "nothing is written yet");
        piece.advance(2);
        assert_eq!(meter.answered(Work::Other), before + 2);
    }
}
