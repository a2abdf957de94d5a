//! Routes: which streams go to which tables of their own, and which part of an event to which column. Knows neither
//! what the tables are like nor how rows get there.
//!
//! - [`file`](mod@file): `[[route]]` of the configuration file, checked.
//! - `column_entry`: its columns.
//! - `entry`: a table of that file, read key by key.
//! - [`mistake`]: what can be wrong there, and what to do.
//! - [`column`](mod@column): what fills a column.
//! - [`column_type`]: types of columns.
//! - [`pointer`](mod@pointer): JSON pointers, all of a route looked up in one pass.
//! - [`value`]: a part of an event as a value of a type, or why it is none.
//! - [`mapping`]: an event as values, one for each column, or why it cannot be.
//! - [`table_name`]: names of tables.
//! - [`extent`]: how far rows can be compared with the events that they were made of.

pub mod column;
mod column_entry;
pub mod column_type;
mod entry;
pub mod extent;
pub mod file;
pub mod mapping;
pub mod mistake;
pub mod pointer;
pub mod table_name;
pub mod value;

use crate::source::Pattern;

pub use column::{Absent, Column, Field, Filling};
pub use column_type::{ColumnType, TimeFormat};
pub use extent::Extent;
pub use mapping::{Mapper, Unmappable};
pub use pointer::Pointer;
pub use table_name::TableName;
pub use value::{Misfit, Value};

use pointer::Search;

/// Routes of one mirror. Each has metrics of its own.
pub const ROUTES_MAX: usize = 100;
/// Columns of one route: PostgreSQL has no table with many more.
pub const COLUMNS_MAX: usize = 1_000;

/// Which streams go to a table, and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// What it is called in metrics, log lines and dead letters: at most 63 of the characters `A-Z a-z 0-9 _ . -`.
    pub name: String,
    /// The streams that it takes, if no route before it does.
    pub streams: Pattern,
    /// Where their events go.
    pub table: TableName,
    /// What becomes of an event.
    pub mode: Mode,
    /// The columns that are filled, at least one, each once. The others of the table have their defaults.
    pub columns: Vec<Column>,
    /// Whether its events are in `tailwater.events` too.
    pub keeps_events: bool,
    /// Whether the table is made if it is not there.
    pub creates_table: bool,
    search: Search,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A new row.
    Insert,
    /// A new row, or the new content of the row with the same key. The last event of a stream wins.
    Upsert {
        /// Where the columns of the key are among the columns. At least one; none of them is ever null.
        key: Vec<usize>,
    },
}

/// All routes, in their order.
#[derive(Debug, Clone, Default)]
pub struct Routes(Vec<Route>);

impl Route {
    /// The columns of the key; none if there is no key.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        let key: &[usize] = match &self.mode {
            Mode::Insert => &[],
            Mode::Upsert { key } => key,
        };
        key.iter().map(|at| &self.columns[*at])
    }

    /// Whether a column is one of the key.
    #[must_use]
    pub fn is_key(&self, at: usize) -> bool {
        matches!(&self.mode, Mode::Upsert { key } if key.contains(&at))
    }
}

impl Routes {
    /// The number of the route that takes a stream: the first one that matches.
    #[must_use]
    pub fn of(&self, stream: &str) -> Option<usize> {
        self.0.iter().position(|route| route.streams.matches(stream))
    }

    /// Whether the events of a stream are in `tailwater.events`.
    #[must_use]
    pub fn keep_events_of(&self, stream: &str) -> bool {
        self.of(stream).is_none_or(|number| self.0[number].keeps_events)
    }
}

impl std::ops::Deref for Routes {
    type Target = [Route];

    fn deref(&self) -> &[Route] {
        &self.0
    }
}
