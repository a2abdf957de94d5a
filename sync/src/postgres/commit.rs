//! The transaction that writes rows and places together: a compare-and-swap of each stream's place, then the rows
//! between the old place and the new one. How either is said in SQL is known to `streams_table` and `rows`.
//!
//! A place is only ever moved from exactly where a run of chunks begins, with a lock on it until the transaction
//! ends. So the rows of a stream are those before its place, each once, however many mirrors write and wherever they
//! are cut off.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Transaction;

use super::batch::{Batch, has_name_that_fits};
use super::connection::Connection;
use super::error::{Error, RowFault};
use super::lease::{Fence, Held};
use super::place::{Outcome, Place};
use super::rows::{self, DeadLetter, Row};
use super::{leases_table, streams_table};
use crate::event::Chunk;

/// Rows that share one savepoint once it is known that some of the batch are refused.
const WARY_ROWS: usize = 256;

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

/// Writes chunks, and tells of each what became of it.
pub(super) async fn commit(
    connection: &mut Connection,
    fence: Option<&Fence>,
    chunks: &[Chunk],
) -> Result<Vec<Outcome>, Error> {
    let batch = Batch::new(chunks);
    let takes_dead_letters = connection.takes_dead_letters;
    for trust in [Trust::All, Trust::None] {
        let written = connection.transaction("a commit", async |transaction| {
            write(transaction, &batch, fence, trust, takes_dead_letters).await
        });
        match written.await {
            Ok(outcomes) => return Ok(outcomes),
            Err(WriteError::RefusedRow) => {}
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
    trust: Trust,
    takes_dead_letters: bool,
) -> Result<Vec<Outcome>, WriteError> {
    let held = leases_table::hold(transaction, fence, batch.streams()).await?;
    let claims = batch.runs.iter().map(|run| &run.claim);
    let claimed = streams_table::claim(transaction, claims.filter(|claim| held.has(claim.stream))).await?;
    let (mut rows, mut dead) = (Vec::new(), Vec::new());
    let claimed_runs = batch.runs.iter().filter(|run| claimed.contains(run.claim.stream));
    for at in claimed_runs.clone().flat_map(|run| run.chunks.iter().copied()) {
        let chunk = &batch.chunks[at];
        for event in &chunk.events {
            match Row::new(at, chunk, event) {
                Ok(row) => rows.push(row),
                Err(letter) => dead.push(letter),
            }
        }
    }
    match trust {
        Trust::All => rows::write(transaction, &rows)
            .await
            .map_err(|error| match RowFault::of(&error) {
                Some(_) => WriteError::RefusedRow,
                None => WriteError::Other(error.into()),
            })?,
        Trust::None => dead.extend(write_warily(transaction, &rows).await?),
    }
    let first_dead = dead.iter().min_by_key(|letter| letter.position());
    if let Some(letter) = first_dead.filter(|_| !takes_dead_letters) {
        return Err(letter.refusal().into());
    }
    rows::bury(transaction, &dead).await.map_err(Error::from)?;
    let moved = moved_places(transaction, batch, &claimed).await?;
    let written: HashSet<usize> = claimed_runs.flat_map(|run| run.chunks.iter().copied()).collect();
    Ok(outcomes(batch, &held, &written, &dead, &moved))
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
    written: &HashSet<usize>,
    dead: &[DeadLetter<'_>],
    moved: &HashMap<String, Place>,
) -> Vec<Outcome> {
    let mut dead_of_chunks: HashMap<usize, u64> = HashMap::new();
    for letter in dead {
        *dead_of_chunks.entry(letter.chunk_at).or_default() += 1;
    }
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

/// Writes what PostgreSQL takes, and returns the rest. It says which row it has stopped at; the rows before that one
/// go in without it, and if it should not say so, halves are tried.
async fn write_warily<'a>(
    transaction: &Transaction<'_>,
    rows: &[Row<'a>],
) -> Result<Vec<DeadLetter<'a>>, Error> {
    let mut dead = Vec::new();
    let mut parts: Vec<&[Row<'a>]> = rows.chunks(WARY_ROWS).rev().collect();
    while let Some(part) = parts.pop() {
        transaction.batch_execute("SAVEPOINT part").await?;
        let Err(error) = rows::write(transaction, part).await else {
            transaction.batch_execute("RELEASE part").await?;
            continue;
        };
        let Some(fault) = RowFault::of(&error) else {
            return Err(error.into());
        };
        transaction
            .batch_execute("ROLLBACK TO part; RELEASE part")
            .await?;
        if let [row] = part {
            dead.push(row.refused(fault.reason));
            continue;
        }
        // The row that was named is tried by itself, in case it was not the one.
        let (before, rest) = match fault.row.filter(|at| *at < part.len()) {
            Some(at) => part.split_at(at),
            None => part.split_at(part.len() / 2),
        };
        let (named, behind) = match fault.row {
            Some(_) => rest.split_at(1),
            None => rest.split_at(0),
        };
        parts.extend(
            [behind, named, before]
                .into_iter()
                .filter(|part| !part.is_empty()),
        );
    }
    Ok(dead)
}
