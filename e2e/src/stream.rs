//! One stream of a running server, for tests that do not care about exact bytes. Its shorthands panic
//! when the server refuses what every server must accept.

use serde_json::Value;

use crate::connection::Connection;
use crate::events::Events;
use crate::message::{Request, Response};
use crate::server::Server;

/// The header that names the position after what was written or read.
const NEXT_OFFSET: &str = "stream-next-offset";

/// A handle on a stream, whether it exists or not. Requests carry `application/json` unless
/// [`Stream::of_type`] says otherwise.
#[derive(Clone, Debug)]
pub struct Stream<'s> {
    server: &'s Server,
    path: String,
    content_type: &'s str,
}

impl<'s> Stream<'s> {
    pub(crate) fn new(server: &'s Server, name: &str) -> Self {
        Self {
            server,
            path: server.path(name),
            content_type: "application/json",
        }
    }

    /// The same stream, whose requests carry another content type.
    #[must_use]
    pub fn of_type(mut self, content_type: &'s str) -> Self {
        self.content_type = content_type;
        self
    }

    /// The stream's path on its server.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A request to this stream without any header.
    pub fn request(&self, method: &str) -> Request {
        Request::new(method, &self.path)
    }

    /// A PUT of this stream's content type.
    pub fn creation(&self) -> Request {
        self.request("PUT").header("Content-Type", self.content_type)
    }

    /// A PUT that forks `source`, without a content type.
    pub fn fork_of(&self, source: &Stream<'_>) -> Request {
        self.request("PUT").header("Stream-Forked-From", source.path())
    }

    /// A POST of this stream's content type.
    pub fn appending(&self, body: impl Into<Vec<u8>>) -> Request {
        self.request("POST")
            .header("Content-Type", self.content_type)
            .body(body)
    }

    /// A GET from `offset`; `more` continues the query, as `&live=sse`.
    pub fn reading(&self, offset: &str, more: &str) -> Request {
        Request::new("GET", &format!("{}?offset={offset}{more}", self.path))
    }

    /// Creates the stream.
    #[track_caller]
    pub fn create(self) -> Self {
        self.server.send(&self.creation()).expect(201);
        self
    }

    /// Appends and returns the new tail.
    #[track_caller]
    pub fn append(&self, body: impl Into<Vec<u8>>) -> String {
        self.send(&self.appending(body))
            .expect(204)
            .expect_header(NEXT_OFFSET)
            .to_owned()
    }

    /// Closes the stream.
    #[track_caller]
    pub fn close(&self) {
        self.send(&self.request("POST").header("Stream-Closed", "true"))
            .expect(204);
    }

    /// Deletes the stream.
    #[track_caller]
    pub fn delete(&self) {
        self.send(&self.request("DELETE")).expect(204);
    }

    /// The stream's tail.
    #[track_caller]
    pub fn tail(&self) -> String {
        self.send(&self.request("HEAD"))
            .expect(200)
            .expect_header(NEXT_OFFSET)
            .to_owned()
    }

    /// The answer to one catch-up read.
    #[track_caller]
    pub fn read(&self, offset: &str) -> Response {
        self.send(&self.reading(offset, ""))
    }

    /// All messages of a JSON stream, read in as many answers as it takes.
    #[track_caller]
    pub fn messages(&self) -> Vec<Value> {
        let (mut messages, mut offset) = (Vec::new(), "-1".to_owned());
        loop {
            let answer = self.read(&offset).expect(200);
            match answer.json() {
                Value::Array(batch) => messages.extend(batch),
                other => panic!("a JSON stream reads as an array, not as {other}"),
            }
            if answer.header("stream-up-to-date") == Some("true") {
                return messages;
            }
            answer.expect_header(NEXT_OFFSET).clone_into(&mut offset);
        }
    }

    /// Follows the stream by Server-Sent Events on a connection of its own.
    #[track_caller]
    pub fn follow(&self, offset: &str) -> Events {
        self.connect().follow(&self.reading(offset, "&live=sse"))
    }

    /// A new connection to the stream's server.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        self.server.connect()
    }

    /// Sends a request on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.server.send(request)
    }
}
