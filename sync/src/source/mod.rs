//! The source: streams of a server as chunks of events, over HTTP. Knows the server's protocol and nothing of tables.
//!
//! - `pattern`: which streams are meant.
//! - `settings`: how the server is reached.
//! - `discovery`: finds the streams that are meant, and tells what becomes of them.
//! - `known`: the streams that are known, and what news of them changes.
//! - `listing`: pages of the listing and of the change feed, and a look at one stream.
//! - `reading`: one read of a stream as a chunk.
//! - `records`: the lines of an answer as events.
//! - `removal`: deletes and trims streams.
//! - `connection`: TLS, the token, one request and its answer.
//! - `token`: the bearer token, out of its file.
//! - `action`: what is asked, as messages and tokens name it.
//! - `error`: what can go wrong, and whether it heals.

mod action;
mod connection;
mod discovery;
mod error;
mod known;
mod listing;
mod pattern;
mod reading;
mod records;
mod removal;
mod settings;
mod token;

use std::sync::Arc;

pub use discovery::Discovery;
pub use error::{Error, Refusal};
pub use known::Change;
pub use listing::{FeedChange, FeedPage, Page, Stream};
pub use pattern::{BadPattern, Pattern, PatternFault, Patterns};
pub use records::RecordFault;
pub use settings::{Settings, check_url};
pub use token::TokenFault;

use connection::Connection;

/// A server whose streams are read. Cloning is cheap and shares the connections.
#[derive(Debug, Clone)]
pub struct Source {
    connection: Arc<Connection>,
}

impl Source {
    /// Reads the files that the settings name. Connects with the first request.
    ///
    /// # Errors
    /// [`Error::BadUrl`], [`Error::NoAuthorities`] or [`Error::Token`].
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let connection = Arc::new(Connection::new(settings)?);
        Ok(Self { connection })
    }
}
