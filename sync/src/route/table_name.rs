//! Names of tables, as routes have them. Knows no table.

use std::fmt;
use std::str::FromStr;

use super::mistake::RouteMistake;

/// The longest name of anything in PostgreSQL, in bytes.
pub(super) const IDENTIFIER_BYTES_MAX: usize = 63;
/// The mirror's own tables are there.
const OWN_SCHEMA: &str = "tailwater";

/// `schema.table`, each just as it is in PostgreSQL: capitals count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Where it is.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// As it is written in SQL.
    #[must_use]
    pub fn to_sql(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.table))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

impl FromStr for TableName {
    type Err = RouteMistake;

    fn from_str(text: &str) -> Result<Self, RouteMistake> {
        let refused = || RouteMistake::BadTable {
            text: text.to_owned(),
        };
        let (schema, table) = text.split_once('.').ok_or_else(refused)?;
        if !is_identifier(schema) || !is_identifier(table) || table.contains('.') {
            return Err(refused());
        }
        if schema == OWN_SCHEMA {
            return Err(RouteMistake::OwnTable {
                text: text.to_owned(),
            });
        }
        Ok(Self {
            schema: schema.to_owned(),
            table: table.to_owned(),
        })
    }
}

/// Whether PostgreSQL can have something of that name.
pub(super) fn is_identifier(text: &str) -> bool {
    (1..=IDENTIFIER_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A name as it is written in SQL.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_with_its_schema() {
        let name: TableName = "public.Runs \"x\"".parse().unwrap();
        assert_eq!(name.to_sql(), r#""public"."Runs ""x""""#);
        assert_eq!(name.to_string(), "public.Runs \"x\"");
        for text in ["runs", ".runs", "public.", "a.b.c", "", "public.a\nb"] {
            assert!(
                matches!(text.parse::<TableName>(), Err(RouteMistake::BadTable { .. })),
                "{text:?}"
            );
        }
        let long = format!("public.{}", "n".repeat(IDENTIFIER_BYTES_MAX + 1));
        assert!(long.parse::<TableName>().is_err(), "PostgreSQL would cut it");
        assert!(matches!(
            "tailwater.streams".parse::<TableName>(),
            Err(RouteMistake::OwnTable { .. })
        ));
    }
}
