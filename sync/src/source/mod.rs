//! The source: streams of a server as chunks of events, over HTTP. Knows the server's protocol and nothing of tables.
//!
//! - `pattern`: which streams are meant.

mod pattern;

pub use pattern::{BadPattern, Pattern, PatternFault, Patterns};
