//! The media type of a stream, and what it means for message boundaries (PROTOCOL.md §9).

use std::fmt;
use std::sync::{Arc, LazyLock};

/// How a stream's bytes are divided into messages and shown as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// `application/json`: every value is a message; one level of an array is flattened.
    Json,
    /// `text/*`: every append is a message and is shown as UTF-8.
    Text,
    /// Anything else: every append is a message and is shown as base64 where text is needed.
    Binary,
}

/// A media type as the client wrote it. Two are the same if type and subtype are, whatever their case and
/// parameters. Cheap to clone.
#[derive(Clone)]
pub struct ContentType {
    text: Arc<str>,
    kind: ContentKind,
}

impl ContentType {
    /// The type of streams that are created without one.
    pub const DEFAULT: &'static str = "application/octet-stream";

    /// Checks that the text is `type/subtype`, with or without parameters, and printable ASCII.
    /// None if it is not.
    pub fn parse(text: &str) -> Option<Self> {
        let usual = || USUAL.iter().find(|usual| &*usual.text == text).cloned();
        usual().or_else(|| Self::parse_unusual(text))
    }

    fn parse_unusual(text: &str) -> Option<Self> {
        let text = text.trim();
        let (kind, subtype) = essence(text).split_once('/')?;
        let is_token = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
        (is_token(kind) && is_token(subtype) && printable).then(|| Self {
            text: text.into(),
            kind: kind_of(essence(text)),
        })
    }

    /// The text as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How the type divides bytes into messages.
    pub fn kind(&self) -> ContentKind {
        self.kind
    }
}

/// What most requests say; parsed once, and shared.
static USUAL: LazyLock<[ContentType; 3]> = LazyLock::new(|| {
    [ContentType::DEFAULT, "application/json", "text/plain"]
        .map(|text| ContentType::parse_unusual(text).expect("a media type"))
});

impl Default for ContentType {
    fn default() -> Self {
        USUAL[0].clone()
    }
}

impl PartialEq for ContentType {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text) || essence(&self.text).eq_ignore_ascii_case(essence(&other.text))
    }
}

impl Eq for ContentType {}

impl fmt::Debug for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.text)
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn essence(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim_end()
}

fn kind_of(essence: &str) -> ContentKind {
    if essence.eq_ignore_ascii_case("application/json") {
        ContentKind::Json
    } else if essence
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("text/"))
    {
        ContentKind::Text
    } else {
        ContentKind::Binary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_parameters_do_not_make_another_type() {
        let plain = ContentType::parse("text/plain").expect("a type");
        assert_eq!(
            ContentType::parse("TEXT/Plain; charset=utf-8"),
            Some(plain.clone())
        );
        assert_ne!(ContentType::parse("text/html"), Some(plain));
    }

    #[test]
    fn only_json_text_and_the_rest_are_told_apart() {
        let kind = |text| ContentType::parse(text).map(|parsed| parsed.kind());
        assert_eq!(kind("Application/JSON;charset=utf-8"), Some(ContentKind::Json));
        assert_eq!(kind("text/markdown"), Some(ContentKind::Text));
        assert_eq!(kind("application/ndjson"), Some(ContentKind::Binary));
        assert_eq!(kind("application/ld+json"), Some(ContentKind::Binary));
    }

    #[test]
    fn what_is_no_media_type_is_refused() {
        for text in [
            "",
            "text",
            "text/",
            "/plain",
            "te xt/plain",
            "text/pl\nain",
            "text/plain;\u{e9}",
        ] {
            assert_eq!(ContentType::parse(text), None, "{text}");
        }
    }
}
