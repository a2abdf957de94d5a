//! Compares events with the rows that their route has made of them. Changes nothing, and knows no end of a stream.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use super::rows::{columns_of, part_of};
use super::target::{self, Target};
use super::{RoutedRow, targets_of};
use crate::event::Chunk;
use crate::postgres::Store;
use crate::postgres::error::Error;
use crate::postgres::rows::{incarnation, position};
use crate::postgres::survey::Differences;
use crate::route::table_name::identifier;
use crate::route::{Column, Extent, Field, Mode, Route};

/// Those of a route's table. A letter that names no route is about `tailwater.events` alone.
const DEAD_LETTERS: &str = "SELECT position, payload FROM tailwater.dead_letters \
     WHERE stream = $1 AND incarnation = $2 AND position > $3 AND position <= $4 AND route IS NOT NULL";

/// What the rows of a chunk's events are like.
#[derive(Debug, Default)]
pub struct RoutedDifferences {
    /// Of rows and dead letters. Of upserted rows only what can be said without the events behind the chunk.
    pub rows: Differences,
    /// Of each key of the chunk what its row is like, by the last event of the chunk with that key.
    pub keys: HashMap<String, KeyState>,
}

/// What the row of a key is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// As the event has it.
    Same,
    /// Otherwise.
    Different,
    /// It is not there.
    Missing,
}

impl Store {
    /// Compares each event of a chunk with the row that its stream's route has made of it, as far as
    /// [`Route::extent`] says. Without a route there is nothing to compare.
    ///
    /// # Errors
    /// [`Error::Routes`] or [`Error::RoutedTable`] if the table cannot be compared, and whatever else keeps the mirror
    /// from it.
    pub async fn routed_differences(&mut self, chunk: &Chunk) -> Result<RoutedDifferences, Error> {
        let routes = Arc::clone(&self.connection.routes);
        let Some(number) = routes.of(&chunk.stream) else {
            return Ok(RoutedDifferences::default());
        };
        let targets = targets_of(&mut self.connection, std::slice::from_ref(chunk)).await?;
        let (route, target) = (&routes[number], &targets[&number]);
        let work = async |transaction: &Transaction<'_>| compare(transaction, route, target, chunk).await;
        self.connection.transaction("a comparison", work).await
    }
}

async fn compare(
    transaction: &Transaction<'_>,
    route: &Route,
    target: &Target,
    chunk: &Chunk,
) -> Result<RoutedDifferences, Error> {
    let mut found = RoutedDifferences::default();
    let mut dead = dead_letters(transaction, chunk).await?;
    let mapper = route.mapper(chunk);
    let mut rows = Vec::new();
    for event in &chunk.events {
        if let Some(bytes) = dead.remove(&position(event)) {
            found.rows.different += u64::from(bytes != event.payload.as_bytes()[..]);
            continue;
        }
        match mapper.map(event) {
            Ok(values) => rows.push(RoutedRow {
                chunk_at: 0,
                chunk,
                event,
                values,
            }),
            // It should be a dead letter.
            Err(_unmappable) => found.rows.missing += 1,
        }
    }
    found.rows.extra += dead.len() as u64;
    let statement = statement(route, target);
    let mut rest = &rows[..];
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(part_of(rest));
        rest = behind;
        let columns = columns_of(part, target.types.len());
        let arrays = columns.iter().map(|column| column as &(dyn ToSql + Sync));
        let arrays: Vec<_> = arrays.zip(target.types.iter().cloned()).collect();
        let answer = transaction.query_typed(&statement, &arrays).await;
        for row in answer.map_err(|error| Error::of_route(error, route))? {
            if matches!(route.mode, Mode::Insert) {
                found.rows.missing += row.try_get::<_, i64>(0)?.cast_unsigned();
                found.rows.extra += row.try_get::<_, i64>(1)?.cast_unsigned();
            } else {
                let state = match (row.try_get(1)?, row.try_get(2)?) {
                    (false, _) => KeyState::Missing,
                    (true, false) => KeyState::Different,
                    (true, true) => KeyState::Same,
                };
                found.keys.insert(row.try_get(0)?, state);
            }
        }
    }
    Ok(found)
}

async fn dead_letters(transaction: &Transaction<'_>, chunk: &Chunk) -> Result<HashMap<i64, Vec<u8>>, Error> {
    let (stream, of) = (&*chunk.stream, incarnation(chunk));
    let after = chunk.after.position().cast_signed();
    let next = chunk.next.position().cast_signed();
    let stretch: [(&(dyn ToSql + Sync), Type); 4] = [
        (&stream, Type::TEXT),
        (&of, Type::INT8),
        (&after, Type::INT8),
        (&next, Type::INT8),
    ];
    let rows = transaction.query_typed(DEAD_LETTERS, &stretch).await?;
    let letters = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    letters.collect()
}

/// Takes one array for each column of the route, as [`Target::statement`] does.
fn statement(route: &Route, target: &Target) -> String {
    let types: Vec<_> = target.compared_as.iter().map(String::as_str).collect();
    let events = target::events(route, &types);
    match route.mode {
        Mode::Insert => of_inserted(route, &types, &events),
        Mode::Upsert { .. } => of_upserted(route, &types, &events),
    }
}

/// How many rows are missing, and how many are there without an event. A row with other values is both.
fn of_inserted(route: &Route, types: &[&str], events: &str) -> String {
    let values: Vec<_> = (1..=types.len()).map(|n| format!("c{n}")).collect();
    let held = (0..types.len()).map(|at| held(route, types, at));
    let (values, held) = (values.join(", "), held.collect::<Vec<_>>().join(", "));
    let table = route.table.to_sql();
    // What is the same for all events of the stream leaves few rows to look at.
    let mut stretch: Vec<_> = columns(route, Column::is_of_stream)
        .map(|at| {
            format!(
                "{} = (SELECT c{} FROM source LIMIT 1)",
                held_in_table(route, types, at),
                at + 1
            )
        })
        .collect();
    if route.extent() == Extent::Rows {
        let number = |column: &Column| column.is_field(Field::Index) || column.is_field(Field::Position);
        stretch.extend(columns(route, number).map(|at| {
            let (column, n) = (held_in_table(route, types, at), at + 1);
            format!("{column} BETWEEN (SELECT min(c{n}) FROM source) AND (SELECT max(c{n}) FROM source)")
        }));
    }
    let stretch = match &stretch[..] {
        [] => String::new(),
        stretch => format!(" WHERE {}", stretch.join(" AND ")),
    };
    let extra = match route.extent() {
        Extent::Rows => "(SELECT count(*) FROM (TABLE held EXCEPT ALL TABLE source) AS extra)",
        _ => "0::bigint",
    };
    format!(
        "WITH source AS (SELECT {values} FROM ({events}) AS event), \
         held ({values}) AS (SELECT {held} FROM {table} AS held{stretch}) \
         SELECT (SELECT count(*) FROM (TABLE source EXCEPT ALL TABLE held) AS missing), {extra}"
    )
}

/// Of each key, as a text, whether its row is there, and whether it is as the last of the events has it.
fn of_upserted(route: &Route, types: &[&str], events: &str) -> String {
    let table = route.table.to_sql();
    let key: Vec<_> = (0..types.len()).filter(|at| route.is_key(*at)).collect();
    let list = |item: &dyn Fn(usize) -> String, between: &str| {
        key.iter().map(|at| item(*at)).collect::<Vec<_>>().join(between)
    };
    let key_values = list(&|at| format!("c{}", at + 1), ", ");
    let key_row = list(&|at| format!("last.c{}", at + 1), ", ");
    let on = list(
        &|at| format!("{} = last.c{}", held_in_table(route, types, at), at + 1),
        " AND ",
    );
    let others = (0..types.len()).filter(|at| !route.is_key(*at));
    let same: Vec<_> = others
        .map(|at| {
            format!(
                " AND {} IS NOT DISTINCT FROM last.c{}",
                held(route, types, at),
                at + 1
            )
        })
        .collect();
    let same = match route.extent() {
        Extent::Keys => same.concat(),
        _ => String::new(),
    };
    let is_there = format!("held.{} IS NOT NULL", identifier(&route.columns[key[0]].name));
    format!(
        "WITH last AS (SELECT DISTINCT ON ({key_values}) * FROM ({events}) AS event ORDER BY {key_values}, n DESC) \
         SELECT ROW({key_row})::text, {is_there}, {is_there}{same} FROM last LEFT JOIN {table} AS held ON {on}"
    )
}

fn columns(route: &Route, is_meant: impl Fn(&Column) -> bool) -> impl Iterator<Item = usize> {
    (0..route.columns.len()).filter(move |at| is_meant(&route.columns[*at]))
}

/// The value of a column in the table, as it is compared.
fn held(route: &Route, types: &[&str], at: usize) -> String {
    format!("held.{}::{}", identifier(&route.columns[at].name), types[at])
}

/// The same as an index of the table knows it.
fn held_in_table(route: &Route, types: &[&str], at: usize) -> String {
    match types[at] {
        "jsonb" => held(route, types, at),
        _ => format!("held.{}", identifier(&route.columns[at].name)),
    }
}
