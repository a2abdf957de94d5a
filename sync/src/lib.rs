//! The mirror of streams in PostgreSQL: what is in a stream becomes rows, each event exactly once.
//!
//! It is a client of the server and of PostgreSQL and knows both by their protocols alone: nothing here knows how the
//! server stores streams.
//!
//! - [`event`]: events of streams, and where in their streams they stand.
//! - [`postgres`]: chunks of streams into tables, exactly once.
//! - [`source`]: streams of the server as chunks of events.

#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a test that meets an error has failed")
)]

pub mod event;
pub mod postgres;
pub mod source;
