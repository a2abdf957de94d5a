//! Request bytes, built once before they are sent many times.

use std::net::SocketAddr;

use crate::usage::Disk;

/// Content type of streams whose bytes are not looked at.
pub(crate) const BINARY: &str = "application/octet-stream";

/// Content type of streams that SSE carries as they are, without base64.
pub(crate) const TEXT: &str = "text/plain";

/// Content type of streams of JSON messages, and of requests to subscriptions.
pub(crate) const JSON: &str = "application/json";

/// Where a server's streams are, and which process serves them.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// What stands before a stream's name in a path, with the final slash.
    pub(crate) prefix: String,
    pub(crate) pid: u32,
    /// What it keeps its data on.
    pub(crate) disk: Option<Disk>,
}

impl Target {
    pub(crate) fn create(&self, stream: &str, content_type: &str) -> Vec<u8> {
        self.request("PUT", stream, Some((content_type, b"")))
    }

    pub(crate) fn append(&self, stream: &str, content_type: &str, record: &[u8]) -> Vec<u8> {
        self.request("POST", stream, Some((content_type, record)))
    }

    /// The fixed parts of an append to any stream whose name begins with `stream_prefix`.
    pub(crate) fn append_template(
        &self,
        stream_prefix: &str,
        content_type: &str,
        record: &[u8],
    ) -> AppendTemplate {
        let before_name = format!("POST {}{stream_prefix}", self.prefix).into_bytes();
        let after_name = format!(
            " HTTP/1.1\r\nHost: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n",
            self.address,
            record.len()
        );
        AppendTemplate {
            before_name,
            after_name: after_name.into_bytes(),
            record: record.to_vec(),
        }
    }

    /// Reads what is there from `offset` on.
    pub(crate) fn read(&self, stream: &str, offset: &str) -> Vec<u8> {
        self.request("GET", &format!("{stream}?offset={offset}"), None)
    }

    /// Follows a stream from its tail by SSE.
    pub(crate) fn subscribe(&self, stream: &str) -> Vec<u8> {
        self.request("GET", &format!("{stream}?offset=now&live=sse"), None)
    }

    /// Makes or deletes a subscription, which has this number for an id.
    pub(crate) fn subscription(&self, method: &str, number: u64, body: &str) -> Vec<u8> {
        let resource = format!("__ds/subscriptions/{number}");
        self.request(method, &resource, Some((JSON, body.as_bytes())))
    }

    /// Asks for something of the server's own.
    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).into_bytes()
    }

    /// Asks for something below `__ds`, such as `queues/jobs/claim`, with a body of JSON.
    pub(crate) fn control(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        self.request(method, &format!("__ds/{path}"), Some(("application/json", body)))
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

/// Builds the appends of one record to many streams, as part of one idempotent producer each or of none.
#[derive(Debug)]
pub(crate) struct AppendTemplate {
    before_name: Vec<u8>,
    after_name: Vec<u8>,
    record: Vec<u8>,
}

/// Which request of which producer an append is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProducerMark {
    pub(crate) producer: usize,
    pub(crate) epoch: u32,
    pub(crate) seq: u64,
}

impl AppendTemplate {
    /// Puts the append to stream number `stream` into `request`, in place of what was there.
    pub(crate) fn fill(&self, request: &mut Vec<u8>, stream: usize, mark: Option<ProducerMark>) {
        request.clear();
        request.extend_from_slice(&self.before_name);
        request.extend_from_slice(stream.to_string().as_bytes());
        request.extend_from_slice(&self.after_name);
        if let Some(ProducerMark { producer, epoch, seq }) = mark {
            let headers = format!(
                "Producer-Id: loadgen-{producer}\r\nProducer-Epoch: {epoch}\r\nProducer-Seq: {seq}\r\n"
            );
            request.extend_from_slice(headers.as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(&self.record);
    }
}

#[cfg(test)]
mod tests {
    use super::{ProducerMark, Target};

    fn target() -> Target {
        let address = "127.0.0.1:7000".parse().expect("an address");
        Target {
            address,
            prefix: "/v1/stream/".to_owned(),
            pid: 1,
            disk: None,
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
    fn a_template_builds_the_same_append_and_may_add_a_producer() {
        let template = target().append_template("a-", "text/plain", b"xyz");
        let mut request = b"left over".to_vec();
        template.fill(&mut request, 7, None);
        assert_eq!(request, target().append("a-7", "text/plain", b"xyz"));
        let mark = ProducerMark {
            producer: 3,
            epoch: 2,
            seq: 9,
        };
        template.fill(&mut request, 7, Some(mark));
        let text = String::from_utf8(request).expect("text");
        assert!(text.starts_with("POST /v1/stream/a-7 HTTP/1.1\r\n"), "{text}");
        assert!(
            text.ends_with("Producer-Id: loadgen-3\r\nProducer-Epoch: 2\r\nProducer-Seq: 9\r\n\r\nxyz"),
            "{text}"
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
