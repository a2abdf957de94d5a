//! The lines of `view=records` as events, checked to follow one another without a gap. Knows no HTTP.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::event::{Event, Offset, Payload};

/// Why an answer's records are not taken.
#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    /// A line is no record.
    #[error("its line {number} is no record: {source}")]
    Line {
        /// From 1.
        number: usize,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// The last line has no end.
    #[error("it breaks off within a line")]
    CutOff,
    /// Bytes in an encoding that is not known here.
    #[error("event {index} has the encoding {encoding:?}; is the source newer than this mirror?")]
    Encoding {
        /// Of the event.
        index: u64,
        /// Its name for it.
        encoding: String,
    },
    /// Bytes that are not what their encoding says.
    #[error("event {index} is no base64: {source}")]
    Base64 {
        /// Of the event.
        index: u64,
        /// What the decoder found.
        source: base64::DecodeError,
    },
    /// Events are missing, or are there twice.
    #[error("event {expected} should follow, and event {found} does")]
    Index {
        /// The number of the event before it and one.
        expected: u64,
        /// Of the event.
        found: u64,
    },
    /// Bytes are missing, or are there twice.
    #[error("event {index} ends at position {found}, and by the length of its data it ends at {expected}")]
    Position {
        /// Of the event.
        index: u64,
        /// Where the event before it ends, and the length of this one.
        expected: u64,
        /// Where the event says that it ends.
        found: u64,
    },
    /// `Stream-Next-Offset` is not where the events end.
    #[error("its events end at {end}, and Stream-Next-Offset says {next}")]
    Next {
        /// Of the last event, or where the read began.
        end: Offset,
        /// What the header says.
        next: Offset,
    },
    /// There is more, and nothing of it came.
    #[error("it has no event, and does not say that it is up to date")]
    Stuck,
    /// The stream is said to be closed before its end.
    #[error("it has Stream-Closed without Stream-Up-To-Date")]
    ClosedBeforeItsEnd,
}

/// Anything whose text the server writes without escapes, read with its own parser.
#[derive(Debug)]
pub(super) struct Parsed<T>(pub(super) T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

#[derive(serde::Deserialize)]
struct Line<'a> {
    offset: Parsed<Offset>,
    at: Parsed<Timestamp>,
    index: u64,
    encoding: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The events behind `after` in an answer's body. Their payloads are slices of the body where it has their very bytes.
///
/// What a stream's offsets count is checked too: the bytes of each event, and one more for each JSON value.
pub(super) fn events(body: &Bytes, is_json: bool, after: Offset) -> Result<Vec<Event>, RecordFault> {
    let Some(lines) = body.strip_suffix(b"\n") else {
        return if body.is_empty() {
            Ok(Vec::new())
        } else {
            Err(RecordFault::CutOff)
        };
    };
    let mut events = Vec::new();
    let mut position = after.position();
    let mut index_expected = (after == Offset::BEGINNING).then_some(0);
    for (line, number) in lines.split(|byte| *byte == b'\n').zip(1..) {
        let event = event(body, line, is_json).map_err(|fault| match fault {
            LineFault::Json(source) => RecordFault::Line { number, source },
            LineFault::Data(fault) => fault,
        })?;
        if let Some(expected) = index_expected.filter(|expected| *expected != event.index) {
            let found = event.index;
            return Err(RecordFault::Index { expected, found });
        }
        let bytes = event.payload.as_bytes().len() as u64 + u64::from(is_json);
        let expected = position.saturating_add(bytes);
        let found = event.offset.position();
        if found != expected {
            let index = event.index;
            return Err(RecordFault::Position {
                index,
                expected,
                found,
            });
        }
        position = expected;
        index_expected = event.index.checked_add(1);
        events.push(event);
    }
    Ok(events)
}

enum LineFault {
    Json(serde_json::Error),
    Data(RecordFault),
}

impl From<serde_json::Error> for LineFault {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

fn event(body: &Bytes, line: &[u8], is_json: bool) -> Result<Event, LineFault> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    let index = line.index;
    let payload = match line.encoding.as_deref() {
        None if is_json => Payload::Json(body.slice_ref(line.data.get().as_bytes())),
        None => {
            let Text(text) = serde_json::from_str(line.data.get())?;
            Payload::Bytes(match text {
                Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
                Cow::Owned(text) => text.into(),
            })
        }
        Some("base64") if !is_json => {
            let Text(text) = serde_json::from_str(line.data.get())?;
            let decoded = STANDARD.decode(text.as_bytes());
            let fault = |source| LineFault::Data(RecordFault::Base64 { index, source });
            Payload::Bytes(decoded.map_err(fault)?.into())
        }
        Some(encoding) => {
            let encoding = encoding.chars().take(80).collect();
            return Err(LineFault::Data(RecordFault::Encoding { index, encoding }));
        }
    };
    Ok(Event {
        offset: line.offset.0,
        index,
        at_ms: line.at.0.as_millisecond(),
        payload,
    })
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
