//! What is wrong with the table of a route, and the SQL that mends it.

use super::definition;
use crate::route::{Column, ColumnType, Route};

/// A table that is not as its route needs it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route `{route}`: {problem}{}", advice(sql.as_deref()))]
pub struct RouteFault {
    /// The route's name.
    pub route: String,
    /// What is wrong.
    pub problem: Problem,
    /// What mends it, if SQL does.
    pub sql: Option<String>,
    /// Whether the mirror mends it by itself at its start.
    pub heals_at_start: bool,
}

/// What is wrong with a table. Each names the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not there.
    #[error("there is no table {table}, and the mirror makes it only with create_tables = true")]
    NoTable {
        /// As the route has it.
        table: String,
    },
    /// It is something else.
    #[error("{table} is {kind}; name a table that keeps its own rows")]
    NotATable {
        /// As the route has it.
        table: String,
        /// What it is.
        kind: &'static str,
    },
    /// It forgets.
    #[error("{table} is UNLOGGED: PostgreSQL empties it after a crash, and no row would come back")]
    Unlogged {
        /// As the route has it.
        table: String,
    },
    /// It lacks a column.
    #[error("{table} has no column {column:?}")]
    NoColumn {
        /// As the route has it.
        table: String,
        /// As the route has it.
        column: String,
    },
    /// A column has another type.
    #[error(
        "{table} has the column {column:?} of the type {found}, and the route fills it with {wanted}; change one of \
         them"
    )]
    Type {
        /// As the route has it.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// What the route has.
        wanted: ColumnType,
    },
    /// A column takes no values.
    #[error("{table} fills the column {column:?} by itself; leave it out of the route")]
    Generated {
        /// As the route has it.
        table: String,
        /// The column.
        column: String,
    },
    /// A column is null for some events, and must not be.
    #[error(
        "{table} has the column {column:?} NOT NULL, and the route may leave it null; add required = true or a \
         default there"
    )]
    NotNull {
        /// As the route has it.
        table: String,
        /// The column.
        column: String,
    },
    /// A column is null for all events, and must not be.
    #[error(
        "{table} has the column {column:?} NOT NULL and without a default, and the route does not fill it; add it to \
         `columns`"
    )]
    Unfilled {
        /// As the route has it.
        table: String,
        /// The column.
        column: String,
    },
    /// Nothing makes the key unique.
    #[error(
        "{table} has no unique index on just the columns of the key, {key}, for all rows and checked at once"
    )]
    NoIndex {
        /// As the route has it.
        table: String,
        /// With commas between them.
        key: String,
    },
    /// The mirror's user may not write there.
    #[error("the user {user} lacks {rights} on {place}")]
    MissingRights {
        /// The mirror's.
        user: String,
        /// What it lacks.
        rights: String,
        /// The table, its schema, or the database.
        place: String,
    },
}

impl RouteFault {
    /// One that no SQL mends, or where it takes a decision.
    pub(super) fn new(route: &Route, problem: Problem) -> Self {
        Self {
            route: route.name.clone(),
            problem,
            sql: None,
            heals_at_start: false,
        }
    }

    pub(super) fn no_table(route: &Route) -> Self {
        let table = route.table.to_string();
        Self {
            heals_at_start: route.creates_table,
            ..Self::with(route, Problem::NoTable { table }, definition::table(route, false))
        }
    }

    pub(super) fn no_column(route: &Route, column: &Column) -> Self {
        let problem = Problem::NoColumn {
            table: route.table.to_string(),
            column: column.name.clone(),
        };
        Self::with(route, problem, definition::column(route, column))
    }

    pub(super) fn no_index(route: &Route) -> Self {
        let key: Vec<_> = route.key_columns().map(|column| column.name.as_str()).collect();
        let problem = Problem::NoIndex {
            table: route.table.to_string(),
            key: key.join(", "),
        };
        Self::with(route, problem, definition::index(route))
    }

    pub(super) fn missing_rights(route: &Route, user: &str, rights: &str) -> Self {
        let problem = Problem::MissingRights {
            user: user.to_owned(),
            rights: rights.to_owned(),
            place: route.table.to_string(),
        };
        Self::with(route, problem, definition::grant(route, rights, user))
    }

    pub(super) fn missing_usage(route: &Route, user: &str) -> Self {
        let problem = Problem::MissingRights {
            user: user.to_owned(),
            rights: "USAGE".to_owned(),
            place: format!("the schema {}", route.table.schema),
        };
        Self::with(route, problem, definition::grant_usage(route, user))
    }

    /// The mirror is to make the table, and may not.
    pub(super) fn missing_create_in_schema(route: &Route, user: &str) -> Self {
        let problem = Problem::MissingRights {
            user: user.to_owned(),
            rights: "CREATE".to_owned(),
            place: format!("the schema {}", route.table.schema),
        };
        Self::with(route, problem, definition::grant_create_in_schema(route, user))
    }

    /// The mirror is to make the table and its schema, and may not.
    pub(super) fn missing_create_in_database(route: &Route, user: &str, database: &str) -> Self {
        let problem = Problem::MissingRights {
            user: user.to_owned(),
            rights: "CREATE".to_owned(),
            place: format!(
                "the database {database}, where the schema {} is to be made",
                route.table.schema
            ),
        };
        Self::with(
            route,
            problem,
            definition::grant_create_in_database(database, user),
        )
    }

    fn with(route: &Route, problem: Problem, sql: String) -> Self {
        Self {
            sql: Some(sql),
            ..Self::new(route, problem)
        }
    }
}

fn advice(sql: Option<&str>) -> String {
    sql.map_or_else(String::new, |sql| format!("; run:\n{sql}"))
}
