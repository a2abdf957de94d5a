//! The mirror of streams in PostgreSQL: what is in a stream becomes rows, each event exactly once.
//!
//! It is a client of the server and of PostgreSQL and knows both by their protocols alone: nothing here knows how the
//! server stores streams.
//!
//! | module | what stands there |
//! |---|---|
//! | [`cli`] | the command line: `run`, `check`, `status`, `verify` |
//! | [`event`] | events of streams, and where in their streams they stand |
//! | [`http`] | `/healthz`, `/readyz` and `/metrics` |
//! | [`json_text`] | what JSON may say and PostgreSQL cannot hold |
//! | [`mirror`] | the mirror at work: streams are found, read in turns, gathered and written |
//! | [`partition`] | parts of all streams, shared among instances |
//! | [`postgres`] | chunks of streams into tables, exactly once |
//! | [`route`] | which streams go to which tables of their own, and what of an event to which column |
//! | [`settings`] | settings from defaults, TOML, `DS_SYNC__*` variables and flags |
//! | [`source`] | streams of the server as chunks of events |
//! | [`stats`] | every metric's name and meaning |
//! | `traces` | spans of reads and transactions, with the feature `otlp` |

#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a test that meets an error has failed")
)]

pub mod cli;
pub mod event;
pub mod http;
pub mod json_text;
pub mod mirror;
pub mod partition;
pub mod postgres;
pub mod route;
pub mod settings;
pub mod source;
pub mod stats;
mod traces;
