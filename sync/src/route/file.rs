//! Routes as they are in the configuration file: every mistake in them is found at once, each with its line. Reads no
//! file and asks no database.

use tailwater_process::{ConfigError, File};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::column::Column;
use super::column_entry::read_column;
use super::entry::Entry;
use super::mistake::RouteMistake;
use super::pointer::Search;
use super::{COLUMNS_MAX, Filling, Mode, ROUTES_MAX, Route, Routes, TableName};
use crate::source::Pattern;

/// The key of the list of routes.
pub const KEY: &str = "route";
/// Of a name: it is a label of metrics.
const NAME_BYTES_MAX: usize = 63;

const STREAMS: &str = "streams = \"runs/{run_id}\"";
const TABLE: &str = "table = \"public.runs\"";
const COLUMNS: &str =
    "a table [route.columns] with lines such as status = { pointer = \"/status\", type = \"text\" }";

/// A mistake, and the byte of the file where it is.
pub(super) type Found = (usize, RouteMistake);

/// Reads the routes of a file. `creates_tables` is what holds for a route that does not say whether its table is made.
///
/// What is no TOML at all has no routes; whoever reads the rest of the file says so.
///
/// # Errors
/// Every mistake, in the order of the file.
pub fn read(file: &File, creates_tables: bool) -> Result<Routes, Vec<ConfigError>> {
    let Ok(root) = DeTable::parse(&file.text) else {
        return Ok(Routes::default());
    };
    let Some((key, value)) = root.get_ref().iter().find(|(key, _)| key.get_ref() == KEY) else {
        return Ok(Routes::default());
    };
    let tables = tables(value);
    let is_too_long = tables.as_ref().is_some_and(|tables| tables.len() > ROUTES_MAX);
    let Some(tables) = tables.filter(|_| !is_too_long) else {
        let mistake = if is_too_long {
            RouteMistake::TooManyRoutes
        } else {
            RouteMistake::NotRoutes
        };
        return Err(vec![told(file, KEY.to_owned(), (key.span().start, mistake))]);
    };
    let mut routes: Vec<Route> = Vec::new();
    let mut errors = Vec::new();
    for (number, (at, table)) in (1..).zip(tables) {
        let mut entry = Entry::new(table, at);
        let mut route = read_route(&mut entry, creates_tables);
        entry.refuse_others(&[
            "name",
            "streams",
            "table",
            "mode",
            "key",
            "columns",
            "events",
            "create_tables",
        ]);
        if let Some(known) = route
            .as_ref()
            .filter(|one| routes.iter().any(|other| other.name == one.name))
        {
            let name = known.name.clone();
            entry.mistakes.push((at, RouteMistake::NameTwice { name }));
            route = None;
        }
        let what = format!("route {number}");
        entry.mistakes.sort_by_key(|(at, _)| *at);
        errors.extend(
            entry
                .mistakes
                .into_iter()
                .map(|found| told(file, what.clone(), found)),
        );
        routes.extend(route);
    }
    if errors.is_empty() {
        Ok(Routes(routes))
    } else {
        Err(errors)
    }
}

fn told(file: &File, entry: String, (at, mistake): Found) -> ConfigError {
    ConfigError::Entry {
        origin: file.at(at),
        entry,
        reason: mistake.to_string(),
    }
}

/// The tables of a list of nothing else, and where they begin.
fn tables<'t>(value: &'t Spanned<DeValue<'_>>) -> Option<Vec<(usize, &'t DeTable<'t>)>> {
    let DeValue::Array(items) = value.get_ref() else {
        return None;
    };
    items
        .iter()
        .map(|item| match item.get_ref() {
            DeValue::Table(table) => Some((item.span().start, table)),
            _ => None,
        })
        .collect()
}

/// A route, if nothing in it is so wrong that there is none. The entry keeps what is wrong.
fn read_route(entry: &mut Entry<'_>, creates_tables: bool) -> Option<Route> {
    let streams = entry.required_text("streams", STREAMS);
    let streams = streams.and_then(|(at, text)| entry.keep(at, text.parse::<Pattern>().map_err(Into::into)));
    let table_text = entry.required_text("table", TABLE);
    let table = table_text.and_then(|(at, text)| entry.keep(at, text.parse::<TableName>()));
    let name = read_name(entry, table.as_ref());
    let columns = read_columns(entry, streams.as_ref());
    let mode = read_mode(entry, columns.as_deref().unwrap_or_default());
    let keeps_events = entry.switch("events", "events = false").unwrap_or(true);
    let creates_table = entry
        .switch("create_tables", "create_tables = true")
        .unwrap_or(creates_tables);
    let columns = columns?;
    let pointers = columns.iter().filter_map(|column| match &column.filling {
        Filling::Pointer { pointer, .. } => Some(pointer),
        Filling::Part(_) | Filling::Field(_) => None,
    });
    Some(Route {
        name: name?,
        streams: streams?,
        table: table?,
        mode: mode?,
        keeps_events,
        creates_table,
        search: Search::new(pointers),
        columns,
    })
}

/// The name that is given, or else that of the table.
fn read_name(entry: &mut Entry<'_>, table: Option<&TableName>) -> Option<String> {
    let (at, name) = match entry.text("name", "name = \"runs\"") {
        Some((at, name)) => (at, name.to_owned()),
        None => (entry.at, table?.to_string()),
    };
    let is_of_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_of_label);
    let named = if is_name {
        Ok(name)
    } else {
        Err(RouteMistake::BadName { text: name })
    };
    entry.keep(at, named)
}

fn read_columns(entry: &mut Entry<'_>, streams: Option<&Pattern>) -> Option<Vec<Column>> {
    let Some((at, value)) = entry.take("columns") else {
        let key = "columns";
        entry.mistakes.push((
            entry.at,
            RouteMistake::Missing {
                key,
                example: COLUMNS,
            },
        ));
        return None;
    };
    let DeValue::Table(table) = value else {
        entry.refuse_kind("columns", at, value, COLUMNS);
        return None;
    };
    let count = table.len();
    if !(1..=COLUMNS_MAX).contains(&count) {
        entry.mistakes.push((at, RouteMistake::ColumnCount { count }));
    }
    // In the order in which they were written, which is that of a table that is made.
    let mut written: Vec<_> = table.iter().collect();
    written.sort_by_key(|(name, _)| name.span().start);
    let mistakes_before = entry.mistakes.len();
    let columns: Vec<_> = written
        .into_iter()
        .filter_map(|(name, value)| read_column(name, value, streams, &mut entry.mistakes))
        .collect();
    (entry.mistakes.len() == mistakes_before).then_some(columns)
}

fn read_mode(entry: &mut Entry<'_>, columns: &[Column]) -> Option<Mode> {
    let mode = entry.text("mode", "mode = \"insert\"");
    let key = entry.take("key");
    match (mode.unwrap_or((entry.at, "insert")), key) {
        ((_, "insert"), None) => Some(Mode::Insert),
        ((_, "insert"), Some((at, _))) => entry.keep(at, Err(RouteMistake::KeyOfInsert)),
        ((at, "upsert"), None) => entry.keep(at, Err(RouteMistake::NoKey)),
        ((_, "upsert"), Some((at, DeValue::Array(names)))) => {
            let key = read_key(names, columns);
            entry.keep(at, key.map(|key| Mode::Upsert { key }))
        }
        ((_, "upsert"), Some((at, value))) => {
            entry.refuse_kind("key", at, value, "key = [\"run_id\"]");
            None
        }
        ((at, text), _) => {
            let text = text.to_owned();
            entry.keep(at, Err(RouteMistake::BadMode { text }))
        }
    }
}

fn read_key(names: &DeArray<'_>, columns: &[Column]) -> Result<Vec<usize>, RouteMistake> {
    let mut key = Vec::new();
    for name in names {
        let DeValue::String(name) = name.get_ref() else {
            return Err(RouteMistake::WrongKind {
                key: "key".to_owned(),
                found: "a list of something else than names",
                example: "key = [\"run_id\"]",
            });
        };
        let column = || name.to_string();
        let Some(at) = columns.iter().position(|column| column.name == *name) else {
            return Err(RouteMistake::KeyNoColumn { column: column() });
        };
        if columns[at].may_be_null() {
            return Err(RouteMistake::KeyMayBeNull { column: column() });
        }
        if key.contains(&at) {
            return Err(RouteMistake::KeyTwice { column: column() });
        }
        key.push(at);
    }
    if key.is_empty() {
        return Err(RouteMistake::NoKey);
    }
    Ok(key)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
