//! Request bytes, built once before they are sent many times.

use std::net::SocketAddr;

/// Content type of streams whose bytes are not looked at.
pub(crate) const BINARY: &str = "application/octet-stream";

/// Content type of streams that SSE carries as they are, without base64.
pub(crate) const TEXT: &str = "text/plain";

/// Where a server's streams are, and which process serves them.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// What stands before a stream's name in a path, with the final slash.
    pub(crate) prefix: String,
    pub(crate) pid: u32,
}

impl Target {
    pub(crate) fn create(&self, stream: &str, content_type: &str) -> Vec<u8> {
        self.request("PUT", stream, Some((content_type, b"")))
    }

    pub(crate) fn append(&self, stream: &str, content_type: &str, record: &[u8]) -> Vec<u8> {
        self.request("POST", stream, Some((content_type, record)))
    }

    /// Reads what is there from `offset` on.
    pub(crate) fn read(&self, stream: &str, offset: &str) -> Vec<u8> {
        self.request("GET", &format!("{stream}?offset={offset}"), None)
    }

    /// Follows a stream from its tail by SSE.
    pub(crate) fn subscribe(&self, stream: &str) -> Vec<u8> {
        self.request("GET", &format!("{stream}?offset=now&live=sse"), None)
    }

    fn request(&self, method: &str, resource: &str, content: Option<(&str, &[u8])>) -> Vec<u8> {
        let mut request = format!(
            "{method} {}{resource} HTTP/1.1\r\nHost: {}\r\n",
            self.prefix, self.address
        )
        .into_bytes();
        if let Some((content_type, body)) = content {
            let headers = format!(
                "Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            request.extend_from_slice(headers.as_bytes());
            request.extend_from_slice(body);
        } else {
            request.extend_from_slice(b"\r\n");
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    fn target() -> Target {
        let address = "127.0.0.1:7000".parse().expect("an address");
        Target {
            address,
            prefix: "/v1/stream/".to_owned(),
            pid: 1,
        }
    }

    #[test]
    fn an_append_carries_type_length_and_record() {
        assert_eq!(
            String::from_utf8(target().append("a", "text/plain", b"xyz")).expect("text"),
            "POST /v1/stream/a HTTP/1.1\r\nHost: 127.0.0.1:7000\r\n\
             Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nxyz"
        );
    }

    #[test]
    fn a_subscription_has_no_body() {
        assert_eq!(
            String::from_utf8(target().subscribe("a")).expect("text"),
            "GET /v1/stream/a?offset=now&live=sse HTTP/1.1\r\nHost: 127.0.0.1:7000\r\n\r\n"
        );
    }
}
