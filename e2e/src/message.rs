//! Requests and responses as values: what is sent and what came back, not how.

use std::collections::HashSet;

use serde_json::Value;

/// A request that a test sends; [`Request::encode`] gives its bytes on the wire.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request without headers or body. The target goes out as it is: nothing is escaped.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Gives the request a body, sent with a Content-Length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The request's method, which decides whether its answer has a body.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The bytes of an HTTP/1.1 request.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = self.headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        });
        let bodiless = self.body.is_none() && !matches!(self.method.as_str(), "POST" | "PUT");
        if !framed && !bodiless {
            let length = self.body.as_ref().map_or(0, Vec::len);
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// A status line and its headers.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The headers in the order in which they came.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status line and headers.
    pub head: Head,
    /// Its body after the transfer coding, before any content coding.
    pub body: Vec<u8>,
}

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The lower-case names in all comma lists of the headers of that name.
    pub fn listed(&self, name: &str) -> HashSet<String> {
        let lines = self
            .head
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        lines
            .flat_map(|(_, value)| value.split(','))
            .map(|item| item.trim().to_ascii_lowercase())
            .collect()
    }

    /// The header of that name; panics with the whole head when it is missing.
    #[track_caller]
    pub fn expect_header(&self, name: &str) -> &str {
        self.header(name)
            .unwrap_or_else(|| panic!("no {name} header in {:?}", self.head))
    }

    /// The body as text; panics when it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|error| panic!("the body is not UTF-8: {error}"))
    }

    /// The body as JSON; panics with the text when it is not.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The machine-readable code of a problem body, as `stream_not_found`.
    #[track_caller]
    pub fn problem(&self) -> String {
        self.json()["code"]
            .as_str()
            .unwrap_or_else(|| panic!("a problem without code: {self:?}"))
            .to_owned()
    }

    /// The same response, after a check of its status; panics with the whole response otherwise.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status(),
            status,
            "unexpected answer: {:?}\n{}",
            self.head,
            String::from_utf8_lossy(&self.body)
        );
        self
    }
}
