//! A request from its head to its answer's: who sends it, what it is to the limits, and what every answer carries.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode};
use tailwater_storage::stream::OffsetToken;

use super::answer_fields::AnswerFields;
use super::app::{CROSS_ORIGIN, HeldRequest, NOSNIFF, RequestTicket};
use super::caller::{Caller, ClientKey};
use super::error::Problem;
use super::request_head::RequestHead;
use super::sse::EVENT_STREAM;
use super::visitor::{self, Visitor};
use super::{App, Response, ResponseBody, cors, headers};
use crate::limits::{Allowance, Client, Kind, Meter};
use crate::traces::RequestSpan;

/// A request whose head is known, until its answer's is.
pub(super) struct Admission<'a> {
    app: &'a Arc<App>,
    pub(super) span: RequestSpan,
    pub(super) caller: Caller,
    /// Whose limits it counts against; none if clients have no limits.
    client: Option<Cow<'a, Arc<Client>>>,
    /// The page that made it.
    origin: Option<Box<HeaderValue>>,
    shown_to_pages: bool,
    ticket: Option<RequestTicket<'a>>,
    allowance: Option<Allowance>,
}

impl<'a> Admission<'a> {
    /// Finds out who sends a request, and says what it is to the limits, or why it is refused. What is refused is to be
    /// answered all the same.
    pub(super) fn of(
        app: &'a Arc<App>,
        visitor: &'a Visitor,
        meter: &Meter,
        request: &impl RequestHead,
    ) -> (Self, Result<Option<Kind>, Problem>) {
        let origin = cors::origin(request.fields());
        let mut admission = Self {
            app,
            span: RequestSpan::begin(app, &visitor.peer, request),
            caller: Caller::itself(visitor.peer),
            client: None,
            // Pages read answers only if they sent their origin; but a GET may be answered from a cache later.
            shown_to_pages: origin.is_some() || request.method() == Method::GET,
            origin: origin.map(Box::new),
            ticket: None,
            allowance: None,
        };
        if visitor.peer.is_trusted() {
            let now = || app.engine.now();
            match Caller::of(visitor.peer, &request.map(), &app.config.proxy, now) {
                Ok(caller) => admission.caller = caller,
                Err(problem) => return (admission, Err(problem)),
            }
        }
        admission.client = visitor.client_of(app, &admission.caller);
        let kind = visitor::kind(request.method(), request.path());
        let admitted = kind.map(|kind| app.admit_request(admission.client.as_deref(), kind));
        let admitted = match admitted.transpose() {
            Ok(admitted) => {
                let (ticket, left) = admitted.unzip();
                admission.ticket = ticket;
                admission.allowance = left.flatten();
                Ok(kind)
            }
            Err(problem) => {
                visitor::refuse_turn(app, meter, kind);
                Err(problem)
            }
        };
        (admission, admitted)
    }

    /// Whose limits the request counts against; none if clients have no limits.
    pub(super) fn client(&self) -> Option<&Arc<Client>> {
        self.client.as_deref()
    }

    /// The answer with what every answer carries. What is given beside it counts the request for as long as it lives, that
    /// is until the answer's body is sent. It does not count beyond that.
    pub(super) fn answer(&mut self, answered: Result<Response, Problem>) -> (Response, Option<HeldRequest>) {
        let mut response = answered.unwrap_or_else(|problem| {
            note_refusal(self.app, &self.caller.client, problem.code());
            problem.into_response()
        });
        let answer = response.headers_mut();
        // The answer may say that something else of the client's is used up.
        if answer.contains_key(&headers::X_RATELIMIT_LIMIT) {
            self.allowance = None;
        }
        self.put_common(answer);
        self.span.end(response.status(), || {
            response.headers().get(&headers::STREAM_NEXT_OFFSET).cloned()
        });
        let held = self.ticket.take().filter(|_| counts_while_sent(&response));
        (response, held.map(RequestTicket::hold))
    }

    /// An answer without a body is about to be written: the request does not count any more.
    pub(super) fn end(&mut self, status: StatusCode, next_offset: OffsetToken) {
        self.span.end(status, || Some(headers::token(next_offset)));
        self.ticket = None;
    }

    /// Puts what every answer carries, and what is left of the client's requests.
    pub(super) fn put_common(&self, answer: &mut impl AnswerFields) {
        answer.put_value(&http::header::X_CONTENT_TYPE_OPTIONS, &NOSNIFF);
        answer.put_value(&headers::CROSS_ORIGIN_RESOURCE_POLICY, &CROSS_ORIGIN);
        if let Some(Allowance { limit, remaining }) = self.allowance {
            let mut digits = itoa::Buffer::new();
            answer.put(&headers::X_RATELIMIT_LIMIT, digits.format(limit).as_bytes());
            answer.put(
                &headers::X_RATELIMIT_REMAINING,
                digits.format(remaining).as_bytes(),
            );
        }
        if self.shown_to_pages {
            self.app.cors.put(self.origin.as_deref(), answer);
        }
    }
}

/// Whether a request counts among those of all clients until its answer's body is sent. One whose answer is an event
/// stream has a place among the live readers instead.
fn counts_while_sent(response: &Response) -> bool {
    match response.body() {
        ResponseBody::Empty | ResponseBody::Subscribed(_) | ResponseBody::Live(_) => false,
        ResponseBody::Whole(_) | ResponseBody::Pieces(..) => true,
        // No side path gives bytes of a stream, whose type anybody may choose.
        ResponseBody::Side(_) => {
            let content_type = response.headers().get(http::header::CONTENT_TYPE);
            content_type.is_none_or(|content_type| content_type != EVENT_STREAM)
        }
    }
}

/// Counts a refusal. The log of it tells who is meant by the client where there are proxies in between.
pub(super) fn note_refusal(app: &App, client: &ClientKey, code: &'static str) {
    tracing::debug!(%client, code, "a request was refused");
    app.metrics.refused(code);
}
