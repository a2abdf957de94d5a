//! Receives request bodies, within the limits on one body and on all of them together.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::app::App;
use super::error::Problem;
use crate::limits::Client;

/// How fast a body must come on the whole, pauses aside. What drips holds its share for ever otherwise.
const BYTES_PER_SEC_MIN: u64 = 16 * 1024;
/// Room that is made for a body before it has come.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// Bytes of request bodies that are being received or not answered yet.
#[derive(Debug, Default)]
pub(crate) struct InFlight(AtomicUsize);

impl InFlight {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A part of the bytes in flight, until it is dropped.
pub(super) struct Share<'a> {
    in_flight: &'a InFlight,
    /// Whose body it is, if clients have limits.
    client: Option<&'a Client>,
    taken: usize,
    bytes_max: usize,
}

impl<'a> Share<'a> {
    pub(super) fn of(app: &'a App, client: Option<&'a Client>) -> Self {
        Self {
            in_flight: &app.in_flight,
            client,
            taken: 0,
            bytes_max: app.config.limits.max_in_flight_bytes,
        }
    }

    /// That of a body which is there.
    pub(super) fn whole(app: &'a App, client: Option<&'a Client>, bytes: usize) -> Result<Self, Problem> {
        let mut share = Self::of(app, client);
        share.grow_to(bytes)?;
        Ok(share)
    }

    /// Grows or shrinks to so many bytes.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), Problem> {
        let less = self.taken.saturating_sub(bytes);
        self.give_back(less);
        self.grow_to(bytes)
    }

    fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let more = bytes.saturating_sub(self.taken);
        let held = self.taken;
        let before = self.in_flight.0.fetch_add(more, Ordering::Relaxed);
        self.taken += more;
        if let Some(client) = self.client {
            client
                .take_bytes(more, held)
                .map_err(|excess| Problem::too_many_client_bytes_in_flight(&excess))?;
        }
        if before + more > self.bytes_max {
            Err(Problem::too_many_bytes_in_flight(self.bytes_max))
        } else {
            Ok(())
        }
    }
}

impl Share<'_> {
    fn give_back(&mut self, bytes: usize) {
        self.in_flight.0.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(client) = self.client {
            client.give_back_bytes(bytes);
        }
        self.taken -= bytes;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.give_back(self.taken);
    }
}

/// Receives a whole body. Its share of the bytes in flight is to be held until the request is answered.
pub(super) async fn receive<'a>(
    app: &'a App,
    client: Option<&'a Client>,
    body: &mut Incoming,
) -> Result<(Bytes, Share<'a>), Problem> {
    let bytes_max = app.config.limits.max_body_bytes;
    let mut share = Share::of(app, client);
    // What is announced is refused early if it is too much, but counts only as it comes: whoever announces much
    // and sends little keeps nobody else out.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Problem::body_too_large(bytes_max));
    }
    let bytes = collect(body, bytes_max, app.config.server.body_timeout, &mut share).await?;
    Ok((bytes, share))
}

/// Refuses a body that is too large.
pub(super) fn check_size(app: &App, bytes: usize) -> Result<(), Problem> {
    let bytes_max = app.config.limits.max_body_bytes;
    if bytes > bytes_max {
        return Err(Problem::body_too_large(bytes_max));
    }
    Ok(())
}

async fn collect<B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin>(
    body: &mut B,
    bytes_max: usize,
    pause_max: Duration,
    share: &mut Share<'_>,
) -> Result<Bytes, Problem> {
    let Some(first) = next_piece(body, pause_max).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > bytes_max {
        return Err(Problem::body_too_large(bytes_max));
    }
    share.grow_to(first.len())?;
    if body.is_end_stream() {
        return Ok(first);
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole = BytesMut::with_capacity(first.len() + announced.min(RESERVED_BYTES_MAX));
    whole.extend_from_slice(&first);
    let began = Instant::now();
    while let Some(piece) = next_piece(body, pause_max).await? {
        if whole.len() + piece.len() > bytes_max {
            return Err(Problem::body_too_large(bytes_max));
        }
        share.grow_to(whole.len() + piece.len())?;
        whole.extend_from_slice(&piece);
        let patience = pause_max + Duration::from_secs(whole.len() as u64 / BYTES_PER_SEC_MIN);
        if began.elapsed() > patience {
            return Err(Problem::body_too_slow(BYTES_PER_SEC_MIN, pause_max));
        }
    }
    Ok(whole.freeze())
}

/// The next data of a body; none at its end. Trailers are passed over.
async fn next_piece<B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin>(
    body: &mut B,
    pause_max: Duration,
) -> Result<Option<Bytes>, Problem> {
    loop {
        let frame = within(pause_max, body.frame())
            .await
            .ok_or_else(|| Problem::body_paused(pause_max))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(Problem::body_broken(&error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Awaits a future for so long; most are done at the first look, before any timer is made.
async fn within<F: Future + Unpin>(pause_max: Duration, mut future: F) -> Option<F::Output> {
    let at_once = std::future::poll_fn(|context| {
        Poll::Ready(match Pin::new(&mut future).poll(context) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    });
    if let Some(done) = at_once.await {
        return Some(done);
    }
    tokio::time::timeout(pause_max, future).await.ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream::unfold;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::time::sleep;

    use super::*;
    use crate::config::Config;
    use crate::http::control;
    use crate::server::app_for_tests;

    const PAUSE_MAX: Duration = Duration::from_secs(30);

    /// A body of so many pieces of that many bytes, before each of which it pauses.
    fn pieces(
        count: usize,
        bytes: usize,
        pause: Duration,
    ) -> impl Body<Data = Bytes, Error = Infallible> + Send {
        let next = move |sent: usize| async move {
            sleep(pause).await;
            let piece = Ok(Frame::data(Bytes::from(vec![b'x'; bytes])));
            (sent < count).then_some((piece, sent + 1))
        };
        StreamBody::new(unfold(0, next))
    }

    async fn refusal(count: usize, bytes: usize, pause: Duration) -> Option<String> {
        let app = app_for_tests(Config::default());
        let mut body = Box::pin(pieces(count, bytes, pause));
        let received = collect(&mut body, 4 << 20, PAUSE_MAX, &mut Share::of(&app, None)).await;
        received.err().map(|problem| problem.detail().to_owned())
    }

    /// Whoever sent slowly was told of a pause that there had not been.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_in_time_is_told_why() {
        let second = Duration::from_secs(1);
        assert_eq!(refusal(3, 10, 14 * second).await, None, "pauses that are allowed");
        assert_eq!(
            refusal(100, 20 << 10, second).await,
            None,
            "as fast as it has to be"
        );
        let told = refusal(3, 10, 31 * second).await.expect("it pauses for too long");
        assert!(told.contains("paused for more than 30 s"), "{told}");
        let told = refusal(100, 10, second).await.expect("it is too slow");
        assert!(told.contains("slower than 16384 bytes a second"), "{told}");

        let app = app_for_tests(Config::default());
        let body = axum::body::Body::new(Box::pin(pieces(100, 1, second)));
        let received = control::receive(&app, None, axum::extract::Request::new(body), 1 << 20).await;
        let problem = received.err().expect("it takes too long");
        assert!(
            problem.detail().contains("not there within 30 s"),
            "{}",
            problem.detail()
        );
    }
}
