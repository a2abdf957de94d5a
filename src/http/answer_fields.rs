//! The fields of an answer's head, whoever sends it: hyper, or the server itself.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Where fields are put.
pub(crate) trait AnswerFields {
    /// Puts one that is not there yet. Its value is visible ASCII.
    fn put(&mut self, name: &HeaderName, value: &[u8]);

    /// Likewise.
    fn put_value(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.put(name, value.as_bytes());
    }

    /// Puts one beside others of its name.
    fn add_value(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.put(name, value.as_bytes());
    }
}

impl AnswerFields for HeaderMap {
    fn put(&mut self, name: &HeaderName, value: &[u8]) {
        self.insert(name, HeaderValue::from_bytes(value).expect("visible ASCII"));
    }

    fn put_value(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.insert(name, value.clone());
    }

    fn add_value(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name, value.clone());
    }
}
