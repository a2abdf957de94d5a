//! The transaction that writes rows and places together: a compare-and-swap of each stream's place, then the rows
//! between the old place and the new one, also those of routes. How either is said in SQL is known to `streams_table`,
//! `rows` and `routed`.
//!
//! A place is only ever moved from exactly where a run of chunks begins, with a lock on it until the transaction
//! ends. So the rows of a stream are those before its place, each once, however many mirrors write and wherever they
//! are cut off.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::Transaction;

use super::batch::{Batch, has_name_that_fits};
use super::connection::Connection;
use super::dead_letters::{DeadLetter, DeadLetters};
use super::error::Error;
use super::lease::{Fence, Held};
use super::place::{Outcome, Place};
use super::refusals::{Destination, write_warily};
use super::routed::{self, RoutedRow, Targets};
use super::rows::{Events, Row};
use super::{leases_table, streams_table};
use crate::event::Chunk;
use crate::route::Routes;

/// What keeps a batch from being written.
enum WriteError {
    /// PostgreSQL does not take some row. It is to be found out which.
    RefusedRow,
    Other(Error),
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// How much is thought of rows that are about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// They are all written at once. One that is refused takes the transaction with it.
    All,
    /// Savepoints part those that are refused from the others.
    None,
}

/// What is the same for every batch.
struct Rules<'r> {
    routes: &'r Routes,
    /// Of the routes of all chunks.
    targets: &'r Targets,
    takes_dead_letters: bool,
}

/// Writes chunks, and tells of each what became of it.
pub(super) async fn commit(
    connection: &mut Connection,
    fence: Option<&Fence>,
    chunks: &[Chunk],
) -> Result<Vec<Outcome>, Error> {
    let batch = Batch::new(chunks);
    let targets = routed::targets_of(connection, chunks).await?;
    let routes = Arc::clone(&connection.routes);
    let rules = Rules {
        routes: &routes,
        targets: &targets,
        takes_dead_letters: connection.takes_dead_letters,
    };
    for trust in [Trust::All, Trust::None] {
        let written = connection.transaction("a commit", async |transaction| {
            write(transaction, &batch, fence, &rules, trust).await
        });
        match written.await {
            Ok(outcomes) => return Ok(outcomes),
            Err(WriteError::RefusedRow) => {}
            // Nothing that PostgreSQL was asked went wrong, so a stream that is halted costs no new connection.
            Err(WriteError::Other(error @ Error::Unmappable { .. })) => return Err(error),
            Err(WriteError::Other(error)) => {
                // A copy that does not even begin is answered twice, and the second answer would be taken for that to
                // another question. A new connection is sure to be in step.
                connection.give_up();
                return Err(error);
            }
        }
    }
    unreachable!("with savepoints every refused row becomes a dead letter")
}

async fn write(
    transaction: &Transaction<'_>,
    batch: &Batch<'_>,
    fence: Option<&Fence>,
    rules: &Rules<'_>,
    trust: Trust,
) -> Result<Vec<Outcome>, WriteError> {
    let held = leases_table::hold(transaction, fence, batch.streams()).await?;
    let claims = batch.runs.iter().map(|run| &run.claim);
    let claimed = streams_table::claim(transaction, claims.filter(|claim| held.has(claim.stream))).await?;
    let claimed_runs = batch.runs.iter().filter(|run| claimed.contains(run.claim.stream));
    // In the order in which they came, which is also that of each stream.
    let written: BTreeSet<usize> = claimed_runs.flat_map(|run| run.chunks.iter().copied()).collect();
    let mut dead = DeadLetters::default();
    write_events(transaction, batch, rules, &written, trust, &mut dead).await?;
    write_routed(transaction, batch, rules, &written, trust, &mut dead).await?;
    if let Some(letter) = dead.first().filter(|_| !rules.takes_dead_letters) {
        return Err(letter.refusal().into());
    }
    dead.bury(transaction).await.map_err(Error::from)?;
    let moved = moved_places(transaction, batch, &claimed).await?;
    Ok(outcomes(batch, &held, &written, &dead, &moved))
}

async fn write_events<'a>(
    transaction: &Transaction<'_>,
    batch: &Batch<'a>,
    rules: &Rules<'_>,
    written: &BTreeSet<usize>,
    trust: Trust,
    dead: &mut DeadLetters<'a>,
) -> Result<(), WriteError> {
    let mut rows = Vec::new();
    for (at, chunk) in written.iter().map(|at| (*at, &batch.chunks[*at])) {
        if !rules.routes.keep_events_of(&chunk.stream) {
            continue;
        }
        for event in &chunk.events {
            match Row::new(at, chunk, event) {
                Ok(row) => rows.push(row),
                Err(letter) => dead.add(letter),
            }
        }
    }
    let refused = write_to(transaction, &Events, &rows, trust).await;
    for (at, reason) in refused.map_err(|error| error.into_write_error(Error::from))? {
        dead.add(rows[at].refused(reason));
    }
    Ok(())
}

async fn write_routed<'a>(
    transaction: &Transaction<'_>,
    batch: &Batch<'a>,
    rules: &Rules<'a>,
    written: &BTreeSet<usize>,
    trust: Trust,
    dead: &mut DeadLetters<'a>,
) -> Result<(), WriteError> {
    let mut rows_of: BTreeMap<usize, Vec<RoutedRow<'a>>> = BTreeMap::new();
    for (chunk_at, chunk) in written.iter().map(|at| (*at, &batch.chunks[*at])) {
        let Some(number) = rules.routes.of(&chunk.stream) else {
            continue;
        };
        let route = &rules.routes[number];
        let mapper = route.mapper(chunk);
        for event in &chunk.events {
            match mapper.map(event) {
                Ok(values) => rows_of.entry(number).or_default().push(RoutedRow {
                    chunk_at,
                    chunk,
                    event,
                    values,
                }),
                Err(unmappable) => dead.add(DeadLetter {
                    chunk_at,
                    chunk,
                    event,
                    reason: unmappable.to_string(),
                    route: Some(&route.name),
                }),
            }
        }
    }
    for (number, rows) in &rows_of {
        let route = &rules.routes[*number];
        let target = &*rules.targets[number];
        let refused = write_to(transaction, target, rows, trust).await;
        let of_route = |error| Error::of_route(error, route);
        for (at, reason) in refused.map_err(|error| error.into_write_error(of_route))? {
            let RoutedRow {
                chunk_at,
                chunk,
                event,
                ..
            } = rows[at];
            dead.add(DeadLetter {
                chunk_at,
                chunk,
                event,
                reason,
                route: Some(&route.name),
            });
        }
    }
    Ok(())
}

/// An error, and whether it is about some row.
struct Refusal {
    error: tokio_postgres::Error,
    is_of_row: bool,
}

impl Refusal {
    fn into_write_error(self, other: impl FnOnce(tokio_postgres::Error) -> Error) -> WriteError {
        if self.is_of_row {
            WriteError::RefusedRow
        } else {
            WriteError::Other(other(self.error))
        }
    }
}

/// Writes rows, and returns those that were refused, with the reasons. While all are trusted a refusal is an error.
async fn write_to<R: Sync, D: Destination<R>>(
    transaction: &Transaction<'_>,
    destination: &D,
    rows: &[R],
    trust: Trust,
) -> Result<Vec<(usize, String)>, Refusal> {
    if trust == Trust::None {
        let refused = write_warily(transaction, destination, rows).await;
        return refused.map_err(|error| Refusal {
            error,
            is_of_row: false,
        });
    }
    let mut written = destination.write(transaction, rows).await;
    if written.is_ok() {
        written = destination.settle(transaction).await;
    }
    match written {
        Ok(()) => Ok(Vec::new()),
        Err(error) => Err(Refusal {
            is_of_row: destination.fault_of(&error).is_some(),
            error,
        }),
    }
}

/// Of each stream of which some chunk was not written, where it stands. Asked after the claims, which hold those
/// places.
async fn moved_places(
    transaction: &Transaction<'_>,
    batch: &Batch<'_>,
    claimed: &HashSet<String>,
) -> Result<HashMap<String, Place>, Error> {
    let unclaimed = batch
        .runs
        .iter()
        .map(|run| run.claim.stream)
        .filter(|stream| !claimed.contains(*stream));
    let strays = batch.strays.iter().map(|at| batch.chunks[*at].stream.as_ref());
    let asked: Vec<_> = unclaimed.chain(strays).collect();
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    streams_table::places(transaction, &asked).await
}

fn outcomes(
    batch: &Batch<'_>,
    held: &Held,
    written: &BTreeSet<usize>,
    dead: &DeadLetters<'_>,
    moved: &HashMap<String, Place>,
) -> Vec<Outcome> {
    let dead_of_chunks = dead.counts();
    let outcome = |(at, chunk): (usize, &Chunk)| {
        if !has_name_that_fits(chunk) {
            return Outcome::NameTooLong;
        }
        if !held.has(&chunk.stream) {
            return Outcome::Fenced;
        }
        if !written.contains(&at) {
            let place = moved.get(chunk.stream.as_ref()).copied();
            return Outcome::Moved { place };
        }
        let dead_letters = dead_of_chunks.get(&at).copied().unwrap_or(0);
        Outcome::Written {
            rows: chunk.events.len() as u64 - dead_letters,
            dead_letters,
        }
    };
    batch.chunks.iter().enumerate().map(outcome).collect()
}
