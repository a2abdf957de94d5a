//! Events of streams, and where in their streams they stand. Knows neither HTTP nor SQL.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

/// Digits of each part of an offset, and of an incarnation.
const DIGITS: usize = 16;

/// Which of the streams that have had a name, one after the other: the server's id of it, below 10¹⁶. A stream that is
/// deleted and created anew has another, larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(u64);

/// A place in a stream: behind the byte at `position - 1`, which the incarnation `owner` has written. That is the
/// stream itself or, in what a fork has inherited, one that it comes from. The server's offset, and its text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Offset {
    owner: u64,
    position: u64,
}

/// A text that is no [`Incarnation`] or no [`Offset`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub struct Unreadable {
    what: &'static str,
    text: String,
}

impl Incarnation {
    /// The server's number for it.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl Offset {
    /// The beginning of every stream.
    pub const BEGINNING: Self = Self {
        owner: 0,
        position: 0,
    };

    /// Bytes of the stream before it, trimmed ones counted.
    #[must_use]
    pub fn position(self) -> u64 {
        self.position
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$}", self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$}_{:0DIGITS$}", self.owner, self.position)
    }
}

impl FromStr for Incarnation {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match number(text) {
            Some(number) if number > 0 => Ok(Self(number)),
            _ => Err(Unreadable::new("id of a stream", text)),
        }
    }
}

impl FromStr for Offset {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let parts = text.split_once('_');
        let numbers = parts.and_then(|(owner, position)| Some((number(owner)?, number(position)?)));
        match numbers {
            Some((owner, position)) => Ok(Self { owner, position }),
            None => Err(Unreadable::new("offset of a stream", text)),
        }
    }
}

impl Unreadable {
    fn new(what: &'static str, text: &str) -> Self {
        let text = text.chars().take(80).collect();
        Self { what, text }
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// What one event carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The text of one JSON value, of a stream of JSON.
    Json(Bytes),
    /// The bytes of one append, of a stream of any other type.
    Bytes(Bytes),
}

impl Payload {
    /// The bytes of it, as they are in the stream.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Bytes(bytes) => bytes,
        }
    }
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The offset behind it. Its position names it within its incarnation.
    pub offset: Offset,
    /// Its number in its stream, from 0; trimmed ones are counted.
    pub index: u64,
    /// When the server accepted it: milliseconds since 1970 began in UTC.
    pub at_ms: i64,
    /// What it carries.
    pub payload: Payload,
}

/// Events of one stream that follow one another without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The stream's name.
    pub stream: Arc<str>,
    /// Which stream of that name.
    pub incarnation: Incarnation,
    /// Of the stream.
    pub content_type: Arc<str>,
    /// Where the first event begins.
    pub after: Offset,
    /// In the order of the stream. None, if only the stream's end is told.
    pub events: Vec<Event>,
    /// Where to go on: the offset of the last event, or `after`. Without events it is also what the source has first,
    /// if it has trimmed what followed `after`.
    pub next: Offset,
    /// Whether the stream is closed and ends at `next`.
    pub closed: bool,
}

impl Chunk {
    /// Whether it stands for what the source had trimmed before it was read.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.events.is_empty() && self.next != self.after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_as_it_is_written() {
        let text = "1795213212615347_0000000000000052";
        let offset: Offset = text.parse().expect("an offset");
        assert_eq!(offset.position(), 52);
        assert_eq!(offset.to_string(), text);
        assert_eq!(Offset::BEGINNING.to_string(), "0000000000000000_0000000000000000");
    }

    #[test]
    fn what_is_no_offset_or_id_is_named() {
        for text in [
            "",
            "-1",
            "now",
            "1_2",
            "1795213212615347_00000000000000५2",
            "1795213212615347_+000000000000052",
        ] {
            let error = text.parse::<Offset>().expect_err("no offset");
            assert_eq!(error.to_string(), format!("{text:?} is no offset of a stream"));
        }
        for text in ["", "0000000000000000", "179521321261534", "-795213212615347"] {
            let error = text.parse::<Incarnation>().expect_err("no id");
            assert_eq!(error.to_string(), format!("{text:?} is no id of a stream"));
        }
    }
}
