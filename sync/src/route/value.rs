//! A part of an event as a value of a column's type, or why it is none. Knows no SQL: ranges are PostgreSQL's, all
//! else that it may refuse is left to itself to say.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::column_type::{ColumnType, TimeFormat};
use crate::json_text::{self, Unstorable};

/// Characters of a value that a reason quotes.
const QUOTED_MAX: usize = 60;
/// How days are written: `2026-11-29`.
const DATE_BYTES: usize = 10;
/// The first moment that a `timestamptz` can tell, 4713 BC, in microseconds since 1970. The last one is beyond an
/// `i64`.
const MOMENT_MIN_US: i64 = -210_866_803_200_000_000;

/// A value of a column, not null.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Has no NUL in it.
    Text(Cow<'a, str>),
    /// Of 64 bits.
    BigInt(i64),
    /// Of 32 bits.
    Integer(i32),
    /// Finite.
    Double(f64),
    /// A number as JSON writes it.
    Numeric(Cow<'a, str>),
    /// Or not.
    Boolean(bool),
    /// Microseconds since 1970 began in UTC.
    Timestamp(i64),
    /// Days since 1970-01-01.
    Date(i32),
    /// Sixteen bytes.
    Uuid(Uuid),
    /// A text of JSON that `jsonb` can hold, as far as its escapes go.
    Json(Cow<'a, [u8]>),
    /// Any bytes.
    Bytes(Cow<'a, [u8]>),
}

/// Why a part of an event is no value of its column's type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// There is nothing, or null, where something is required.
    #[error("is missing or null, and required")]
    Absent,
    /// It is of another kind.
    #[error("is {found}, which is no {of}{}", hint(*of))]
    WrongKind {
        /// What it is, such as `an object`.
        found: &'static str,
        /// What it should be.
        of: ColumnType,
    },
    /// It does not say what it should.
    #[error("is {text:?}, which is no {of}{}", hint(*of))]
    Unreadable {
        /// How it begins.
        text: String,
        /// What it should be.
        of: ColumnType,
    },
    /// PostgreSQL has no such large one.
    #[error("is {text:?}, which is out of the range of {of}")]
    OutOfRange {
        /// How it begins.
        text: String,
        /// What it should be.
        of: ColumnType,
    },
    /// It has the character NUL.
    #[error("has the character \\u0000, which PostgreSQL cannot hold in a text")]
    Nul,
    /// It is no text at all.
    #[error("is no UTF-8")]
    NotUtf8,
    /// `jsonb` cannot hold it.
    #[error("cannot be held: {0}")]
    Unstorable(#[from] Unstorable),
    /// It is not of a stream of JSON.
    #[error("is looked for in an event of {content_type:?}, which is no JSON")]
    NotJson {
        /// Of the stream.
        content_type: String,
    },
    /// It says that it is JSON, and is not.
    #[error("is looked for in what is no JSON: {reason}")]
    BadJson {
        /// What the parser says.
        reason: String,
    },
}

/// A JSON value that is neither null nor made of others. Its text is what a string says, or what a number looks like.
enum Scalar<'a> {
    String(Cow<'a, str>),
    Number(&'a str),
    Boolean(bool),
}

impl Value<'_> {
    /// The same, with nothing borrowed.
    #[must_use]
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Text(text) => Value::Text(text.into_owned().into()),
            Self::Numeric(text) => Value::Numeric(text.into_owned().into()),
            Self::Json(text) => Value::Json(text.into_owned().into()),
            Self::Bytes(bytes) => Value::Bytes(bytes.into_owned().into()),
            Self::BigInt(number) => Value::BigInt(number),
            Self::Integer(number) => Value::Integer(number),
            Self::Double(number) => Value::Double(number),
            Self::Boolean(is) => Value::Boolean(is),
            Self::Timestamp(at_us) => Value::Timestamp(at_us),
            Self::Date(days) => Value::Date(days),
            Self::Uuid(uuid) => Value::Uuid(uuid),
        }
    }

    /// A moment in microseconds since 1970 began in UTC; none if it is before PostgreSQL's calendar.
    #[must_use]
    pub fn moment(at_us: i64) -> Option<Self> {
        (at_us >= MOMENT_MIN_US).then_some(Self::Timestamp(at_us))
    }
}

impl ColumnType {
    /// Reads a JSON value; none is null.
    ///
    /// # Errors
    /// Why it is no value of this type.
    pub fn read<'a>(self, json: &'a RawValue) -> Result<Option<Value<'a>>, Misfit> {
        let text = json.get();
        if text == "null" {
            return Ok(None);
        }
        if self == Self::Json {
            json_text::check(text.as_bytes())?;
            return Ok(Some(Value::Json(text.as_bytes().into())));
        }
        let scalar = match text.as_bytes().first() {
            Some(b'"') => Scalar::String(string(text, self)?),
            Some(b't' | b'f') => Scalar::Boolean(text == "true"),
            Some(b'{') => return Err(self.refuses_kind("an object")),
            Some(b'[') => return Err(self.refuses_kind("an array")),
            _ => Scalar::Number(text),
        };
        self.read_scalar(scalar).map(Some)
    }

    /// Reads a plain text, as it would be in a JSON string.
    ///
    /// # Errors
    /// Why it is no value of this type.
    pub fn read_text<'a>(self, text: Cow<'a, str>) -> Result<Value<'a>, Misfit> {
        self.read_scalar(Scalar::String(text))
    }

    fn read_scalar<'a>(self, scalar: Scalar<'a>) -> Result<Value<'a>, Misfit> {
        match (self, scalar) {
            (Self::Text, Scalar::String(text)) if text.contains('\0') => Err(Misfit::Nul),
            (Self::Text, Scalar::String(text)) => Ok(Value::Text(text)),
            (Self::Text, Scalar::Number(text)) => Ok(Value::Text(text.into())),
            (Self::Text, Scalar::Boolean(is)) => Ok(Value::Text(if is { "true" } else { "false" }.into())),
            (Self::Boolean, Scalar::Boolean(is)) => Ok(Value::Boolean(is)),
            (Self::Boolean, Scalar::String(text)) => {
                let read = text.parse().map(Value::Boolean);
                read.map_err(|_no_truth_value| self.cannot_read(&text))
            }
            (_, Scalar::Boolean(_)) => Err(self.refuses_kind("a truth value")),
            // JavaScript has no large numbers, and writes them as strings.
            (Self::BigInt | Self::Integer | Self::Double, Scalar::String(text)) => self.read_number(&text),
            (Self::BigInt | Self::Integer | Self::Double, Scalar::Number(text)) => self.read_number(text),
            (Self::Numeric, Scalar::String(text)) => {
                if !is_number(&text) {
                    return Err(self.cannot_read(&text));
                }
                Ok(Value::Numeric(text))
            }
            (Self::Numeric, Scalar::Number(text)) => Ok(Value::Numeric(text.into())),
            (Self::Timestamp(TimeFormat::Rfc3339), Scalar::String(text)) => {
                let moment: Timestamp = text.parse().map_err(|_unreadable| self.cannot_read(&text))?;
                Value::moment(moment.as_microsecond()).ok_or_else(|| self.is_exceeded_by(&text))
            }
            (Self::Timestamp(TimeFormat::EpochMs), Scalar::String(text)) => self.read_epoch(&text, 1_000),
            (Self::Timestamp(TimeFormat::EpochMs), Scalar::Number(text)) => self.read_epoch(text, 1_000),
            (Self::Timestamp(TimeFormat::EpochS), Scalar::String(text)) => self.read_epoch(&text, 1_000_000),
            (Self::Timestamp(TimeFormat::EpochS), Scalar::Number(text)) => self.read_epoch(text, 1_000_000),
            (Self::Date, Scalar::String(text)) => self.read_date(&text),
            (Self::Uuid, Scalar::String(text)) => {
                let read = Uuid::parse_str(&text).map(Value::Uuid);
                read.map_err(|_unreadable| self.cannot_read(&text))
            }
            (Self::Bytes, Scalar::String(text)) => {
                let read = BASE64_STANDARD.decode(text.as_bytes());
                let read = read.map(|bytes| Value::Bytes(bytes.into()));
                read.map_err(|_unreadable| self.cannot_read(&text))
            }
            (
                Self::Boolean | Self::Timestamp(_) | Self::Date | Self::Uuid | Self::Bytes,
                Scalar::Number(_),
            ) => Err(self.refuses_kind("a number")),
            (Self::Json, _) => Err(self.refuses_kind("a plain text")),
        }
    }

    fn read_number(self, text: &str) -> Result<Value<'static>, Misfit> {
        if !is_number(text) {
            return Err(self.cannot_read(text));
        }
        if self == Self::Double {
            let number = text.parse().ok().filter(|number: &f64| number.is_finite());
            return number.map(Value::Double).ok_or_else(|| self.is_exceeded_by(text));
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.cannot_read(text));
        }
        let read = match self {
            Self::Integer => text.parse().map(Value::Integer),
            _ => text.parse().map(Value::BigInt),
        };
        read.map_err(|_too_large| self.is_exceeded_by(text))
    }

    fn read_epoch(self, text: &str, unit_us: i64) -> Result<Value<'static>, Misfit> {
        let Value::BigInt(count) = Self::BigInt
            .read_number(text)
            .map_err(|_misfit| self.cannot_read(text))?
        else {
            return Err(self.cannot_read(text));
        };
        let moment = count.checked_mul(unit_us).and_then(Value::moment);
        moment.ok_or_else(|| self.is_exceeded_by(text))
    }

    fn read_date(self, text: &str) -> Result<Value<'static>, Misfit> {
        // The library also reads a day out of a whole moment.
        let date: Option<Date> = text.parse().ok().filter(|_| text.len() == DATE_BYTES);
        let days = date.and_then(|date| Date::new(1970, 1, 1).ok()?.until(date).ok());
        let days = days.ok_or_else(|| self.cannot_read(text))?;
        Ok(Value::Date(days.get_days()))
    }

    fn refuses_kind(self, found: &'static str) -> Misfit {
        Misfit::WrongKind { found, of: self }
    }

    fn cannot_read(self, text: &str) -> Misfit {
        Misfit::Unreadable {
            text: quoted(text),
            of: self,
        }
    }

    fn is_exceeded_by(self, text: &str) -> Misfit {
        Misfit::OutOfRange {
            text: quoted(text),
            of: self,
        }
    }
}

#[derive(Deserialize)]
struct JsonString<'a>(#[serde(borrow)] Cow<'a, str>);

/// What a JSON string says. One half of a surrogate pair says nothing.
fn string(json: &str, of: ColumnType) -> Result<Cow<'_, str>, Misfit> {
    let read = serde_json::from_str(json).map(|JsonString(text)| text);
    read.map_err(|_half_pair| match json_text::check(json.as_bytes()) {
        Err(fault) => fault.into(),
        Ok(()) => of.cannot_read(json),
    })
}

/// Whether a text is a number as JSON writes it.
fn is_number(text: &str) -> bool {
    let begins = text
        .bytes()
        .next()
        .is_some_and(|byte| byte == b'-' || byte.is_ascii_digit());
    begins && serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get().len() == text.len())
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What would be right.
fn hint(of: ColumnType) -> &'static str {
    match of {
        ColumnType::Text => "; a jsonb holds it",
        ColumnType::BigInt | ColumnType::Integer => "; it takes digits only",
        ColumnType::Boolean => "; it takes true or false",
        ColumnType::Timestamp(TimeFormat::Rfc3339) => "; it takes 2026-11-29T08:30:00Z, or say `format`",
        ColumnType::Timestamp(TimeFormat::EpochMs) => "; it takes whole milliseconds since 1970",
        ColumnType::Timestamp(TimeFormat::EpochS) => "; it takes whole seconds since 1970",
        ColumnType::Date => "; it takes 2026-11-29",
        ColumnType::Bytes => "; it takes base64 with padding",
        ColumnType::Double | ColumnType::Numeric | ColumnType::Uuid | ColumnType::Json => "",
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
