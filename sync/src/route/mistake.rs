//! What can be wrong with a route in the configuration file. Each says what would be right.

use super::column_type::ColumnType;
use super::pointer::PointerFault;
use super::table_name::IDENTIFIER_BYTES_MAX;
use super::value::Misfit;
use super::{COLUMNS_MAX, ROUTES_MAX};
use crate::source::BadPattern;

/// One mistake in one route.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RouteMistake {
    /// The file has something else there.
    #[error("routes are tables: begin each with a line [[route]]")]
    NotRoutes,
    /// There are too many.
    #[error("there are more than {ROUTES_MAX} routes; a glob may stand for many streams")]
    TooManyRoutes,
    /// No such key.
    #[error("unknown key `{key}`{}", near(.meant.as_deref(), allowed))]
    UnknownKey {
        /// As it was given.
        key: String,
        /// What may have been meant.
        meant: Option<String>,
        /// What there is.
        allowed: String,
    },
    /// A key that has to be there is not.
    #[error("`{key}` is missing; write {example}")]
    Missing {
        /// The key.
        key: &'static str,
        /// How it may look.
        example: &'static str,
    },
    /// The value of a key is of another kind.
    #[error("`{key}` is {found}; write {example}")]
    WrongKind {
        /// The key.
        key: String,
        /// What its value is.
        found: &'static str,
        /// How it may look.
        example: &'static str,
    },
    /// `streams` is no glob.
    #[error("`streams`: {0}")]
    Pattern(#[from] BadPattern),
    /// `table` is no name of a table.
    #[error(
        "`table` cannot be {text:?}; write schema.table, such as public.runs, as it is in PostgreSQL, without quotes, \
         each part \
         of {IDENTIFIER_BYTES_MAX} bytes at most"
    )]
    BadTable {
        /// As it was given.
        text: String,
    },
    /// `table` is one of the mirror.
    #[error("`table` cannot be {text:?}, since the schema `tailwater` is the mirror's own; name another one")]
    OwnTable {
        /// As it was given.
        text: String,
    },
    /// `name` is not for metrics.
    #[error("`name` cannot be {text:?}; write up to 63 letters, digits and the characters `_`, `.` and `-`")]
    BadName {
        /// As it was given, or what the table is called.
        text: String,
    },
    /// Two routes of one name.
    #[error("another route has the name `{name}`; give this one a `name` of its own")]
    NameTwice {
        /// Of both.
        name: String,
    },
    /// `mode` is something else.
    #[error("`mode` cannot be {text:?}; write \"insert\" or \"upsert\"")]
    BadMode {
        /// As it was given.
        text: String,
    },
    /// `upsert` without a key.
    #[error("`mode` is \"upsert\", which needs the columns of a unique index; write key = [\"run_id\"]")]
    NoKey,
    /// `insert` with a key.
    #[error("`key` is of no use to `mode` \"insert\"; leave it out, or write mode = \"upsert\"")]
    KeyOfInsert,
    /// A key that is no column.
    #[error("`key` names {column:?}, which is none of `columns`; fill it there, or leave it out")]
    KeyNoColumn {
        /// Of the key.
        column: String,
    },
    /// A column twice in the key.
    #[error("`key` names {column:?} twice; leave one out")]
    KeyTwice {
        /// Of the key.
        column: String,
    },
    /// A key that may be null: no row would ever be found by it.
    #[error("`key` names {column:?}, which may be null; add required = true, or a default, to that column")]
    KeyMayBeNull {
        /// Of the key.
        column: String,
    },
    /// No columns, or too many.
    #[error("`columns` has {count} columns, and may have 1 to {COLUMNS_MAX}")]
    ColumnCount {
        /// How many there are.
        count: usize,
    },
    /// No name of a column.
    #[error("no column of PostgreSQL is called {name:?}: a name has 1 to {IDENTIFIER_BYTES_MAX} bytes")]
    BadColumn {
        /// As it was given.
        name: String,
    },
    /// A column is filled by nothing, or by two things.
    #[error(
        "column {column:?} has {count} of `pointer`, `part` and `field`, and needs one: {{ pointer = \"/status\", \
         type = \"text\" \
         }}, {{ part = \"run_id\" }} or {{ field = \"appended_at\" }}"
    )]
    NotOneFilling {
        /// The column.
        column: String,
        /// How many it has.
        count: usize,
    },
    /// A pointer is none.
    #[error("column {column:?} cannot have the pointer {text:?}: {fault}")]
    Pointer {
        /// The column.
        column: String,
        /// As it was given.
        text: String,
        /// What is wrong with it.
        fault: PointerFault,
    },
    /// A pointer without a type.
    #[error("column {column:?} has no `type`; a pointer needs one of {}", types())]
    NoType {
        /// The column.
        column: String,
    },
    /// A type that is none.
    #[error("column {column:?} cannot have the type {text:?}; there are {}", types())]
    UnknownType {
        /// The column.
        column: String,
        /// As it was given.
        text: String,
    },
    /// The glob has no such part.
    #[error(
        "column {column:?} names the part {part:?}, and `streams` has {known}; write {{{part}}} for a segment there"
    )]
    UnknownPart {
        /// The column.
        column: String,
        /// As it was given.
        part: String,
        /// Those that there are.
        known: String,
    },
    /// There is no such field.
    #[error(
        "column {column:?} names the field {field:?}; there are stream, incarnation, position, index, appended_at, \
         content_type \
         and payload"
    )]
    UnknownField {
        /// The column.
        column: String,
        /// As it was given.
        field: String,
    },
    /// The type is not for what fills the column.
    #[error("column {column:?} cannot have the type {of}; {filling} has {allowed}")]
    TypeOfFilling {
        /// The column.
        column: String,
        /// The type that was given.
        of: ColumnType,
        /// What fills it.
        filling: String,
        /// The types that it may have.
        allowed: String,
    },
    /// A key of a column that is of no use there.
    #[error("column {column:?} has `{key}`, which is of use only {with}; leave it out")]
    Idle {
        /// The column.
        column: String,
        /// The key.
        key: &'static str,
        /// With what it is of use.
        with: &'static str,
    },
    /// A format of times that is none.
    #[error("column {column:?} cannot have the format {text:?}; there are rfc3339, epoch_ms and epoch_s")]
    UnknownFormat {
        /// The column.
        column: String,
        /// As it was given.
        text: String,
    },
    /// A default that is never used.
    #[error("column {column:?} is required and has a default; leave one out")]
    RequiredWithDefault {
        /// The column.
        column: String,
    },
    /// The default is not of the column's type.
    #[error("the default of column {column:?} {misfit}")]
    BadDefault {
        /// The column.
        column: String,
        /// What is wrong with it.
        misfit: Misfit,
    },
}

fn near(meant: Option<&str>, allowed: &str) -> String {
    match meant {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => format!("; allowed: {allowed}"),
    }
}

fn types() -> String {
    ColumnType::NAMES.map(|(name, _)| name).join(", ")
}
