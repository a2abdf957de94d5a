//! Which browser origins may use the server, and what they may send and see.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap, HeaderValue, ORIGIN, VARY,
};

use super::answer_fields::AnswerFields;
use super::request_head::Fields;
use crate::config::CorsOrigins;

static METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE, OPTIONS");
static ALLOWED: HeaderValue = HeaderValue::from_static(
    "authorization, cache-control, content-type, idempotency-key, if-match, if-none-match, last-event-id, \
     producer-epoch, producer-id, producer-seq, stream-closed, stream-expires-at, stream-fork-offset, \
     stream-fork-sub-offset, stream-forked-from, stream-seq, stream-ttl",
);
static EXPOSED: HeaderValue = HeaderValue::from_static(
    "content-encoding, etag, location, producer-epoch, producer-expected-seq, producer-received-seq, producer-seq, \
     retry-after, run-attempt, run-queue, run-state, stream-closed, stream-cursor, stream-expires-at, stream-next-offset, stream-oldest-offset, \
     stream-sse-data-encoding, stream-ttl, stream-up-to-date, vary, x-ratelimit-limit, x-ratelimit-remaining",
);
static ANY: HeaderValue = HeaderValue::from_static("*");
static DAY: HeaderValue = HeaderValue::from_static("86400");
static BY_ORIGIN: HeaderValue = HeaderValue::from_static("origin");

/// The origins that are allowed.
pub(crate) enum Cors {
    Any,
    List(Vec<HeaderValue>),
}

impl Cors {
    pub(crate) fn new(origins: &CorsOrigins) -> Self {
        match origins {
            CorsOrigins::Any => Self::Any,
            CorsOrigins::List(list) => Self::List(
                list.iter()
                    .filter_map(|origin| HeaderValue::from_str(origin).ok())
                    .collect(),
            ),
        }
    }

    /// Lets the page that made the request see the answer, if its origin is allowed. A cache must not give one
    /// origin's answer to another one's page, so answers that may be cached say what they depend on.
    pub(crate) fn put(&self, origin: Option<&HeaderValue>, answer: &mut impl AnswerFields) {
        match self {
            Self::Any => {
                answer.put_value(&ACCESS_CONTROL_ALLOW_ORIGIN, &ANY);
                answer.put_value(&ACCESS_CONTROL_EXPOSE_HEADERS, &EXPOSED);
            }
            Self::List(list) => {
                answer.add_value(&VARY, &BY_ORIGIN);
                if let Some(origin) = origin.filter(|origin| list.contains(origin)) {
                    answer.put_value(&ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                    answer.put_value(&ACCESS_CONTROL_EXPOSE_HEADERS, &EXPOSED);
                }
            }
        }
    }

    /// What a preflight asks for.
    pub(crate) fn put_preflight(answer: &mut HeaderMap) {
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS.clone());
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED.clone());
        answer.insert(ACCESS_CONTROL_MAX_AGE, DAY.clone());
    }
}

/// The page's origin, if a page made the request.
pub(crate) fn origin(request: &impl Fields) -> Option<HeaderValue> {
    let origin = request.values(&ORIGIN).next()?;
    HeaderValue::from_bytes(origin).ok()
}
