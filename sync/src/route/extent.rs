//! How far the rows of a route can be compared with the events that they were made of. Knows no row.

use std::fmt;

use super::{Column, Field, Filling, Mode, Route};

/// How far the rows of a route can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Each event has its row, and no row is there without an event.
    Rows,
    /// Each event has its row. Nothing in a row tells which event it is of, so one too many is not seen.
    Values,
    /// The row of each key is as the last event of its stream with that key has it.
    Keys,
    /// Each key has a row. Streams may share keys, so it is not known whose values it should have.
    KeysAlone,
}

impl Route {
    /// How far its rows can be compared.
    #[must_use]
    pub fn extent(&self) -> Extent {
        let columns: Vec<_> = self.columns.iter().collect();
        let key: Vec<_> = self.key_columns().collect();
        match &self.mode {
            Mode::Insert if self.tells_events(&columns) => Extent::Rows,
            Mode::Insert => Extent::Values,
            Mode::Upsert { .. } if self.tells_stream(&key) => Extent::Keys,
            Mode::Upsert { .. } => Extent::KeysAlone,
        }
    }

    /// Whether these columns tell which event of all streams, of all times, a row is of.
    fn tells_events(&self, columns: &[&Column]) -> bool {
        let has = |field| columns.iter().any(|column| column.is_field(field));
        self.tells_stream(columns) && has(Field::Incarnation) && (has(Field::Index) || has(Field::Position))
    }

    /// Whether these columns tell the name of the stream.
    fn tells_stream(&self, columns: &[&Column]) -> bool {
        let parts: Vec<_> = columns
            .iter()
            .filter_map(|column| match &column.filling {
                Filling::Part(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        columns.iter().any(|column| column.is_field(Field::Stream)) || self.streams.is_told_by(&parts)
    }
}

impl Column {
    /// Whether it is filled with this.
    #[must_use]
    pub fn is_field(&self, field: Field) -> bool {
        matches!(self.filling, Filling::Field(of) if of == field)
    }

    /// Whether it is the same for all events of a stream.
    #[must_use]
    pub fn is_of_stream(&self) -> bool {
        matches!(self.filling, Filling::Part(_))
            || self.is_field(Field::Stream)
            || self.is_field(Field::Incarnation)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rows => "row by row",
            Self::Values => {
                "row by row, but for rows without an event: they take the stream, `incarnation`, and `index` or \
                 `position` as columns"
            }
            Self::Keys => "key by key",
            Self::KeysAlone => {
                "key by key, but for the values: the key does not tell the stream, so several may have written it"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::file;

    fn route(streams: &str, more: &str, columns: &str) -> Route {
        let text = format!(
            "[[route]]\nstreams = \"{streams}\"\ntable = \"app.rows\"\n{more}\ncolumns = {{ {columns} }}"
        );
        let path = "sync.toml".to_owned();
        let routes = file::read(&tailwater_process::File { path, text }, false).expect("a route");
        routes[0].clone()
    }

    #[test]
    fn rows_can_be_told_apart_by_what_their_columns_tell() {
        let stream = "stream = { field = \"stream\" }, incarnation = { field = \"incarnation\" }";
        let extent = |streams: &str, more: &str, columns: &str| route(streams, more, columns).extent();
        let index = "index = { field = \"index\" }";
        let run = "run = { part = \"run\" }";
        assert_eq!(extent("a/*", "", &format!("{stream}, {index}")), Extent::Rows);
        assert_eq!(extent("a/*", "", stream), Extent::Values);
        assert_eq!(extent("a/{run}", "", &format!("{run}, {index}")), Extent::Values);
        let upsert = "mode = \"upsert\"\nkey = [\"run\"]";
        assert_eq!(extent("a/{run}", upsert, run), Extent::Keys);
        assert_eq!(extent("a/{run}/*", upsert, run), Extent::KeysAlone);
    }
}
