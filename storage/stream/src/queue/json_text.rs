//! The text of one JSON value in the form in which messages are stored: on one line.

use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

/// The text of one JSON value, without line breaks. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JsonText(Arc<str>);

impl JsonText {
    /// The value `null`.
    pub fn null() -> Self {
        Self("null".into())
    }

    /// Reads one JSON value; none if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str::<&RawValue>(text).ok().map(Self::of)
    }

    /// The text of a value that was parsed already.
    pub fn of(value: &RawValue) -> Self {
        // Line breaks cannot stand inside JSON strings, so every one of them is white space.
        let text = value.get();
        if memchr::memchr2(b'\r', b'\n', text.as_bytes()).is_none() {
            Self(text.into())
        } else {
            Self(text.replace(['\r', '\n'], "").into())
        }
    }

    /// A string as a JSON value.
    pub fn string(text: &str) -> Self {
        Self(serde_json::Value::from(text).to_string().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_on_one_line_as_it_was_written() {
        assert_eq!(
            JsonText::parse("{\"a\":\r\n 1.50 }").expect("JSON").as_str(),
            "{\"a\": 1.50 }"
        );
        assert_eq!(JsonText::string("a\nb").as_str(), "\"a\\nb\"");
        assert_eq!(JsonText::parse("1 2"), None);
    }
}
