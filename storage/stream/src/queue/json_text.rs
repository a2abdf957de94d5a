//! The text of one JSON value in the form in which messages are stored: on one line.

use std::borrow::Cow;
use std::collections::BTreeMap;
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
        Self(serde_json::to_string(text).expect("a text is JSON").into())
    }

    /// What stands at a JSON pointer (RFC 6901), written so that equal values are equal texts; none if nothing does. What
    /// stands beside it is not looked into, and may be deeper, or have greater numbers, than can be read.
    pub fn value_at(&self, pointer: &str) -> Option<String> {
        let mut value: &str = &self.0;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            value = member(value, &token)?.get();
        }
        let read = serde_json::from_str(value).map(|value: serde_json::Value| value.to_string());
        Some(read.unwrap_or_else(|_too_deep_or_great| value.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The member of an object, or of an array by its index; none if there is none.
fn member<'a>(value: &'a str, token: &str) -> Option<&'a RawValue> {
    match value.trim_start().as_bytes().first()? {
        b'{' => {
            let members: BTreeMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(value).ok()?;
            members.get(token).copied()
        }
        b'[' => {
            let is_index = token == "0" || !token.starts_with(['0', '+']);
            let index: usize = token.parse().ok().filter(|_| is_index)?;
            let elements: Vec<&'a RawValue> = serde_json::from_str(value).ok()?;
            elements.get(index).copied()
        }
        _ => None,
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

    /// Whatever could not be read beside it made a job one without a concurrency key, which nothing held back.
    #[test]
    fn a_value_is_found_beside_what_cannot_be_read() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let text = format!(
            r#"{{"deep":{deep},"much":1e999,"half":"\ud800","to":{{"b": 1, "a~/":[7, {{"x":1e999}}]}}}}"#
        );
        let text = JsonText::parse(&text).expect("JSON");
        for (pointer, value) in [
            ("/to/b", Some("1")),
            ("/to", Some(r#"{"b": 1, "a~/":[7, {"x":1e999}]}"#)),
            ("/to/a~0~1/0", Some("7")),
            ("/to/a~0~1/1/x", Some("1e999")),
            ("/to/a~0~1/00", None),
            ("/to/a~0~1/2", None),
            ("/to/b/c", None),
            ("/half", Some(r#""\ud800""#)),
            ("/deep", Some(deep.as_str())),
            ("/none", None),
        ] {
            assert_eq!(text.value_at(pointer).as_deref(), value, "{pointer}");
        }
        let root = JsonText::parse("{\"b\":1, \"a\":2}").expect("JSON");
        assert_eq!(root.value_at("").as_deref(), Some("{\"a\":2,\"b\":1}"));
    }
}
