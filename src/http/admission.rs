//! A request from its head to its answer's: who sends it, what it is to the limits, and what every answer carries.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};

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
    origin: Option<HeaderValue>,
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
            origin,
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
    /// is until the answer's body is sent.
    pub(super) fn answer(self, answered: Result<Response, Problem>) -> (Response, Option<HeldRequest>) {
        let app = self.app;
        let mut response = answered.unwrap_or_else(|problem| {
            note_refusal(app, &self.caller.client, problem.code());
            problem.into_response()
        });
        let answer = response.headers_mut();
        answer.insert(http::header::X_CONTENT_TYPE_OPTIONS, NOSNIFF.clone());
        answer.insert(&headers::CROSS_ORIGIN_RESOURCE_POLICY, CROSS_ORIGIN.clone());
        if let Some(Allowance { limit, remaining }) = self.allowance {
            put_allowance(limit, remaining, answer);
        }
        if self.shown_to_pages {
            app.cors.put(self.origin.as_ref(), answer);
        }
        self.span.end(&response);
        let held = self.ticket.filter(|_| counts_while_sent(&response));
        (response, held.map(RequestTicket::hold))
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

/// Says what is left of the client's requests, unless the answer says that something else of its is used up.
fn put_allowance(limit: u64, remaining: u64, answer: &mut HeaderMap) {
    if !answer.contains_key(&headers::X_RATELIMIT_LIMIT) {
        answer.insert(&headers::X_RATELIMIT_LIMIT, headers::number(limit));
        answer.insert(&headers::X_RATELIMIT_REMAINING, headers::number(remaining));
    }
}

/// Counts a refusal. The log of it tells who is meant by the client where there are proxies in between.
pub(super) fn note_refusal(app: &App, client: &ClientKey, code: &'static str) {
    tracing::debug!(%client, code, "a request was refused");
    app.metrics.refused(code);
}
