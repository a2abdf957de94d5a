//! Types of columns, and their names. Knows no value.

use std::fmt;
use std::str::FromStr;

/// A type of PostgreSQL that parts of events can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// A JSON string, or a number or a truth value as it is written.
    Text,
    /// A whole number of 64 bits.
    BigInt,
    /// A whole number of 32 bits.
    Integer,
    /// The nearest number of 64 bits.
    Double,
    /// A number to the last digit.
    Numeric,
    /// `true` or `false`.
    Boolean,
    /// A moment, to the microsecond.
    Timestamp(TimeFormat),
    /// A day, as `2026-11-29`.
    Date,
    /// As `f81d4fae-7dec-11d0-a765-00a0c91e6bf6`.
    Uuid,
    /// Any JSON.
    Json,
    /// Bytes, in base64.
    Bytes,
}

/// How a moment is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeFormat {
    /// As `2026-11-29T08:30:00.125Z`, with an offset from UTC.
    #[default]
    Rfc3339,
    /// Whole milliseconds since 1970 began in UTC.
    EpochMs,
    /// Whole seconds since 1970 began in UTC.
    EpochS,
}

/// A text that names no type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownType;

impl ColumnType {
    /// Every type, by the names that PostgreSQL has for them.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("text", Self::Text),
        ("bigint", Self::BigInt),
        ("integer", Self::Integer),
        ("double precision", Self::Double),
        ("numeric", Self::Numeric),
        ("boolean", Self::Boolean),
        ("timestamptz", Self::Timestamp(TimeFormat::Rfc3339)),
        ("date", Self::Date),
        ("uuid", Self::Uuid),
        ("jsonb", Self::Json),
        ("bytea", Self::Bytes),
    ];

    /// Its name in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::BigInt => "bigint",
            Self::Integer => "integer",
            Self::Double => "double precision",
            Self::Numeric => "numeric",
            Self::Boolean => "boolean",
            Self::Timestamp(_) => "timestamptz",
            Self::Date => "date",
            Self::Uuid => "uuid",
            Self::Json => "jsonb",
            Self::Bytes => "bytea",
        }
    }
}

impl TimeFormat {
    /// Every format, by its name.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("rfc3339", Self::Rfc3339),
        ("epoch_ms", Self::EpochMs),
        ("epoch_s", Self::EpochS),
    ];
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ColumnType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let named = Self::NAMES.iter().find(|(name, _)| *name == text);
        named.map(|(_, of)| *of).ok_or(UnknownType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_by_the_name_that_it_has() {
        for (name, of) in ColumnType::NAMES {
            assert_eq!((of.name(), name.parse()), (name, Ok(of)));
        }
        assert_eq!("varchar".parse::<ColumnType>(), Err(UnknownType));
    }
}
