//! The mirror of streams in PostgreSQL: what is in a stream becomes rows, each event exactly once.
//!
//! It is a client of the server and of PostgreSQL and knows both by their protocols alone: nothing here knows how the
//! server stores streams.
//!
//! - [`event`]: events of streams, and where in their streams they stand.
//! - [`source`]: streams of the server as chunks of events.

pub mod event;
pub mod source;
