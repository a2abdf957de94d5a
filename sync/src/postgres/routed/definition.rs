//! The SQL that makes what a route needs: for the mirror to run, or for people. Runs nothing.

use std::fmt::Write as _;

use crate::route::table_name::identifier;
use crate::route::{Column, Route};

/// Makes a route's table, and its schema if that may be missing too.
pub(super) fn table(route: &Route, with_schema: bool) -> String {
    let mut sql = String::new();
    if with_schema && route.table.schema != "public" {
        let schema = identifier(&route.table.schema);
        // CREATE SCHEMA IF NOT EXISTS takes the right to make one even where there is one.
        let _ = writeln!(
            sql,
            "DO $$BEGIN IF to_regnamespace({}) IS NULL THEN CREATE SCHEMA {schema}; END IF; END$$;",
            literal(&schema)
        );
    }
    let _ = write!(sql, "CREATE TABLE {} (", route.table.to_sql());
    for (at, column) in route.columns.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(sql, "{comma}\n    {}", definition(column));
    }
    let key: Vec<_> = route
        .key_columns()
        .map(|column| identifier(&column.name))
        .collect();
    if !key.is_empty() {
        let _ = write!(sql, ",\n    PRIMARY KEY ({})", key.join(", "));
    }
    sql.push_str("\n);");
    sql
}

/// Adds a column to a table that lacks it. It may be null, since there may be rows.
pub(super) fn column(route: &Route, column: &Column) -> String {
    let (table, name) = (route.table.to_sql(), identifier(&column.name));
    format!("ALTER TABLE {table} ADD COLUMN {name} {};", column.of)
}

/// Makes the index that `upsert` finds rows by.
pub(super) fn index(route: &Route) -> String {
    let key: Vec<_> = route
        .key_columns()
        .map(|column| identifier(&column.name))
        .collect();
    format!(
        "CREATE UNIQUE INDEX ON {} ({});",
        route.table.to_sql(),
        key.join(", ")
    )
}

/// Gives a user rights on the table.
pub(super) fn grant(route: &Route, rights: &str, user: &str) -> String {
    format!(
        "GRANT {rights} ON {} TO {};",
        route.table.to_sql(),
        identifier(user)
    )
}

/// Lets a user into the schema.
pub(super) fn grant_usage(route: &Route, user: &str) -> String {
    format!(
        "GRANT USAGE ON SCHEMA {} TO {};",
        identifier(&route.table.schema),
        identifier(user)
    )
}

/// Lets a user make tables in the schema.
pub(super) fn grant_create_in_schema(route: &Route, user: &str) -> String {
    format!(
        "GRANT USAGE, CREATE ON SCHEMA {} TO {};",
        identifier(&route.table.schema),
        identifier(user)
    )
}

/// Lets a user make schemas.
pub(super) fn grant_create_in_database(database: &str, user: &str) -> String {
    format!(
        "GRANT CREATE ON DATABASE {} TO {};",
        identifier(database),
        identifier(user)
    )
}

fn definition(column: &Column) -> String {
    let not_null = if column.may_be_null() { "" } else { " NOT NULL" };
    format!("{} {}{not_null}", identifier(&column.name), column.of)
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
