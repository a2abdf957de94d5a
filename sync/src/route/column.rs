//! What fills a column. Knows no event.

use std::fmt;

use super::column_type::ColumnType;
use super::pointer::Pointer;
use super::value::Value;

/// A column of a route's table.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name, just as it is in PostgreSQL.
    pub name: String,
    /// What it is filled with.
    pub filling: Filling,
    /// What that is to be.
    pub of: ColumnType,
}

/// What a column is filled with.
#[derive(Debug, Clone)]
pub enum Filling {
    /// What the event has at this place.
    Pointer {
        /// The place.
        pointer: Pointer,
        /// What becomes of an event that has nothing there, or null.
        absent: Absent,
    },
    /// The segment of the stream's name that stands for the route's `{part}`.
    Part(String),
    /// What the mirror knows of the event.
    Field(Field),
}

/// What becomes of an event that has nothing at the place of a pointer, or null.
#[derive(Debug, Clone)]
pub enum Absent {
    /// The column is null.
    Null,
    /// The column is this.
    Default(Value<'static>),
    /// The event cannot be a row.
    Refused,
}

/// What the mirror knows of an event beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The name of its stream.
    Stream,
    /// Which stream of that name.
    Incarnation,
    /// Bytes of the stream before its end.
    Position,
    /// Its number in its stream.
    Index,
    /// When the server accepted it.
    AppendedAt,
    /// Of its stream.
    ContentType,
    /// All of it.
    Payload,
}

impl Field {
    /// Every field, by the name that its column has in `tailwater.events`.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("stream", Self::Stream),
        ("incarnation", Self::Incarnation),
        ("position", Self::Position),
        ("index", Self::Index),
        ("appended_at", Self::AppendedAt),
        ("content_type", Self::ContentType),
        ("payload", Self::Payload),
    ];

    fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, field)| *field == self);
        named.map_or("", |(name, _)| name)
    }

    /// The types that it may have, the one that it has if none is given first.
    #[must_use]
    pub fn types(self) -> &'static [ColumnType] {
        match self {
            Self::Stream | Self::ContentType => &[ColumnType::Text],
            Self::Incarnation | Self::Position | Self::Index => &[ColumnType::BigInt],
            Self::AppendedAt => &[ColumnType::Timestamp(super::TimeFormat::Rfc3339)],
            Self::Payload => &[ColumnType::Json, ColumnType::Text, ColumnType::Bytes],
        }
    }
}

impl Column {
    /// Whether it may ever be null.
    #[must_use]
    pub fn may_be_null(&self) -> bool {
        matches!(
            self.filling,
            Filling::Pointer {
                absent: Absent::Null,
                ..
            }
        )
    }
}

impl fmt::Display for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer { pointer, .. } => write!(f, "pointer {:?}", pointer.to_string()),
            Self::Part(part) => write!(f, "part {part:?}"),
            Self::Field(field) => write!(f, "field {:?}", field.name()),
        }
    }
}
