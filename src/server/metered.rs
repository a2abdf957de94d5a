//! Measures what a request of HTTP/2 takes beside its connection, for the share of reads. Knows nothing of what is in a
//! request or in an answer.
//!
//! In HTTP/1.1 a connection's task does all that its requests need, and one meter sees it. In HTTP/2 each request has a
//! task of its own, which makes the answer, while that of the connection reads requests and writes what all answers gave.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http::ResponseBody;
use crate::limits::{Meter, ReadShare, SharedMeter, Work};

/// A request, as the share of reads sees it.
pub(super) struct MeteredRequest {
    meter: Meter,
    share: Arc<ReadShare>,
    connection: Arc<SharedMeter>,
    is_answered: bool,
}

impl MeteredRequest {
    pub(super) fn new(share: &Arc<ReadShare>, connection: &Arc<SharedMeter>) -> Self {
        Self {
            meter: Meter::default(),
            share: Arc::clone(share),
            connection: Arc::clone(connection),
            is_answered: false,
        }
    }

    /// Is to be told what the request turns out to be while it is answered.
    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Answers the request, by a future that tells the [meter](Self::meter) what it does.
    pub(super) fn answer<T>(
        &self,
        mut answered: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = T> {
        poll_fn(move |context| {
            self.meter
                .measure(&self.share, || answered.as_mut().poll(context))
        })
    }

    /// The request is answered with that body.
    pub(super) fn with_body(mut self, body: ResponseBody) -> MeteredBody {
        self.is_answered = true;
        if matches!(body, ResponseBody::Subscribed(_)) {
            // A subscriber pays by itself for what it catches up with, and for nothing else.
            self.meter.is_over();
        }
        self.connection.answers(self.meter.work());
        MeteredBody { body, request: self }
    }
}

/// A request that is given up before it has an answer, as by a client that goes away while it waits, costs as much as one
/// that has got its answer's head: else whoever asks and gives up, over and over, would pay nothing for it.
impl Drop for MeteredRequest {
    fn drop(&mut self) {
        if !self.is_answered {
            self.meter.is_given_up(&self.share);
            self.connection.answers(self.meter.work());
        }
    }
}

/// An answer's body, whose making is measured like that of its head.
pub(super) struct MeteredBody {
    body: ResponseBody,
    request: MeteredRequest,
}

impl MeteredBody {
    /// Who is to be told when pieces of the body are written.
    pub(super) fn written(&self) -> Written {
        Written {
            work: self.request.meter.work(),
            connection: Arc::clone(&self.request.connection),
        }
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, request } = &mut *self;
        request
            .meter
            .measure(&request.share, || Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Tells the connection for what it writes an answer.
pub(super) struct Written {
    work: Work,
    connection: Arc<SharedMeter>,
}

impl Written {
    /// So many bytes of the answer have been written.
    pub(super) fn add(&self, bytes: usize) {
        self.connection.sends(self.work, bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MeteredRequest;
    use crate::config::Config;
    use crate::http::ResponseBody;
    use crate::limits::{SharedMeter, Work};
    use crate::server::app_for_tests;

    /// The connection read such a request all the same.
    #[test]
    fn a_request_that_is_given_up_counts_for_its_connection_as_much_as_one_without_a_body() {
        let app = app_for_tests(Config::default());
        let told = |gives_up: bool| {
            let connection = Arc::<SharedMeter>::default();
            let request = MeteredRequest::new(&app.read_share, &connection);
            request.meter().turns_to(true, &app.read_share);
            if gives_up {
                drop(request);
            } else {
                drop(request.with_body(ResponseBody::Empty));
            }
            connection.answered(Work::FreeRead)
        };
        assert_eq!(told(true), told(false));
        assert!(told(true) > 0);
    }
}
