//! Translates between HTTP and the engine. HTTP types stop here; no rule of a stream stands here.
//!
//! | file | what stands there |
//! |---|---|
//! | `app.rs` | what every request shares: the engine, the configuration, the gauges |
//! | `caller.rs forwarded.rs deadline.rs` | who sends a request, by which URL, and how long it may be answered |
//! | `visitor.rs` | a connection, as the requests on it see it |
//! | `dispatch.rs` | which operation a request means |
//! | `create.rs append.rs delete.rs head.rs` | one operation on a stream each |
//! | `read.rs long_poll.rs sse.rs` | the three ways to read; `place.rs` where they begin, `answer.rs` what they share, `pace.rs` when event streams end |
//! | `control.rs list.rs changes.rs trim.rs export.rs import.rs` | the operations below `__ds` |
//! | `subscriptions.rs` | those on subscriptions |
//! | `queues.rs`, `runs.rs` | those on job queues and runs; `openapi.rs` describes them |
//! | `schedules.rs` | those on schedules |
//! | `health.rs` | `/healthz`, `/readyz`, `/metrics` |
//! | `headers.rs query.rs cursor.rs records.rs sse_encoding.rs time.rs` | how things are written in HTTP |
//! | `caching.rs compression.rs cors.rs` | what answers carry beside the data |
//! | `request_body.rs response_body.rs` | bodies, with their limits |
//! | `writes.rs` | how many writes wait for their answers |
//! | `error.rs` | the only place that knows status codes of refusals |
//! | `fuzzing.rs` | what fuzz targets may call |
//! | `turns.rs` | tests of long answers, each part of which waits for a turn among the reads |

mod admission;
mod answer;
mod answer_fields;
mod app;
mod append;
mod caching;
mod caller;
mod changes;
mod compression;
mod control;
mod cors;
mod create;
mod cursor;
mod deadline;
mod delete;
mod dispatch;
mod error;
mod export;
mod forwarded;
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod headers;
mod health;
mod import;
mod list;
mod long_poll;
mod openapi;
mod pace;
mod place;
mod query;
mod queues;
mod read;
mod records;
mod request_body;
mod request_head;
mod response_body;
mod runs;
mod schedules;
mod spare_headers;
mod sse;
pub mod sse_encoding;
mod subscriptions;
mod time;
mod trim;
#[cfg(test)]
mod turns;
mod visitor;
mod writes;

pub(crate) use answer_fields::AnswerFields;
pub(crate) use app::{App, HeldRequest};
pub(crate) use caller::Peer;
pub(crate) use control::{metrics_router, router};
pub(crate) use dispatch::{BegunAppend, FinishedAppend, begin_append, handle, is_append};
pub(crate) use error::Problem;
pub(crate) use request_head::{Fields, RequestHead};
pub(crate) use response_body::ResponseBody;
pub(crate) use sse::Subscriber;
pub(crate) use subscriptions::Served;
pub(crate) use visitor::Visitor;

/// An answer of the server.
pub(crate) type Response = http::Response<ResponseBody>;
