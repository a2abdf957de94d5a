//! The SQL of `tailwater.streams`: places, and what is noted of streams. Knows nothing of events.

use std::collections::{BTreeMap, HashMap, HashSet};

use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use super::error::Error;
use super::place::{Fault, Place, Tail};
use crate::event::{Incarnation, Offset};

/// Moves those places that are where their runs begin, and locks all of them, in the order of the arrays. The
/// subquery keeps a run that does not begin its stream from becoming the first that is known of it; it locks, so that
/// what it has seen stays.
const CLAIM: &str = "
    INSERT INTO tailwater.streams AS place
        (name, incarnation, previous_offset, next_offset, position, next_index, events, skipped_bytes, closed)
    SELECT name, incarnation, after, next, position, next_index, events, skipped_bytes, closed
    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::bool[])
        AS claim (name, incarnation, after, next, position, next_index, events, skipped_bytes, closed)
    WHERE claim.after = $10
        OR EXISTS (SELECT FROM tailwater.streams AS known WHERE known.name = claim.name FOR UPDATE)
    ON CONFLICT (name) DO UPDATE SET
        incarnation = excluded.incarnation,
        previous_offset = excluded.previous_offset,
        next_offset = excluded.next_offset,
        position = excluded.position,
        next_index = CASE WHEN place.incarnation = excluded.incarnation
            THEN greatest(place.next_index, excluded.next_index) ELSE excluded.next_index END,
        events = excluded.events
            + CASE WHEN place.incarnation = excluded.incarnation THEN place.events ELSE 0 END,
        skipped_bytes = excluded.skipped_bytes
            + CASE WHEN place.incarnation = excluded.incarnation THEN place.skipped_bytes ELSE 0 END,
        closed = excluded.closed OR (place.incarnation = excluded.incarnation AND place.closed),
        deleted_at = CASE WHEN place.incarnation = excluded.incarnation THEN place.deleted_at END,
        tail_position = CASE WHEN place.incarnation = excluded.incarnation THEN place.tail_position ELSE 0 END,
        tail_index = CASE WHEN place.incarnation = excluded.incarnation THEN place.tail_index ELSE 0 END,
        updated_at = now()
    WHERE (place.incarnation = excluded.incarnation AND place.next_offset = excluded.previous_offset)
        OR (place.incarnation < excluded.incarnation AND excluded.previous_offset = $10)
    RETURNING name";
const CLAIM_TYPES: [Type; 10] = [
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::BOOL_ARRAY,
    Type::TEXT,
];

const PLACES: &str = "SELECT name, incarnation, next_offset, closed, deleted_at IS NOT NULL, events \
     FROM tailwater.streams WHERE name = ANY($1)";

/// Of what is noted of a stream; an error may quote all of a request.
const ERROR_CHARACTERS_MAX: usize = 2_000;

/// Locks in the order of names, as commits do.
const MARK_DELETED: &str = "
    WITH known AS (
        SELECT name FROM tailwater.streams WHERE name = ANY($1) ORDER BY name FOR UPDATE
    )
    UPDATE tailwater.streams AS place SET deleted_at = now(), updated_at = now()
    FROM unnest($1::text[], $2::bigint[]) AS gone (name, incarnation) JOIN known USING (name)
    WHERE place.name = gone.name AND place.incarnation = gone.incarnation AND place.deleted_at IS NULL
    RETURNING place.name";

/// Locks in the order of names, as commits do, byte by byte. Each name is there once.
const NOTE_ERRORS: &str = "
    INSERT INTO tailwater.streams AS place
        (name, incarnation, previous_offset, next_offset, position, last_error, last_error_at)
    SELECT name, incarnation, $4, $4, 0, message, clock_timestamp()
    FROM unnest($1::text[], $2::bigint[], $3::text[]) AS error (name, incarnation, message) ORDER BY name COLLATE \"C\"
    ON CONFLICT (name) DO UPDATE SET last_error = excluded.last_error, last_error_at = excluded.last_error_at";

/// Locks in the order of names, as commits do.
const NOTE_TAILS: &str = "
    WITH known AS (
        SELECT name FROM tailwater.streams WHERE name = ANY($1) ORDER BY name FOR UPDATE
    )
    UPDATE tailwater.streams AS place
    SET tail_position = tail.position, tail_index = tail.index
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS tail (name, incarnation, position, index)
        JOIN known USING (name)
    WHERE place.name = tail.name AND place.incarnation = tail.incarnation
        AND (place.tail_position, place.tail_index) IS DISTINCT FROM (tail.position, tail.index)";

/// A place that is to be moved, if it is where it should be.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    pub(super) stream: &'a str,
    pub(super) incarnation: Incarnation,
    /// Where the place has to be.
    pub(super) after: Offset,
    /// Where it is moved to.
    pub(super) next: Offset,
    /// The number of the event behind `next`. None, if no event is told of.
    pub(super) next_index: Option<u64>,
    /// Events between `after` and `next`.
    pub(super) events: u64,
    /// Bytes between `after` and `next` that nobody can read any more.
    pub(super) skipped_bytes: u64,
    /// Whether the stream ends at `next`.
    pub(super) closed: bool,
}

/// Moves places, and tells of which streams. There is at most one claim for each, in the order of their names.
pub(super) async fn claim<'a>(
    transaction: &Transaction<'_>,
    claims: impl Iterator<Item = &'a Claim<'a>>,
) -> Result<HashSet<String>, Error> {
    let claims: Vec<_> = claims.collect();
    if claims.is_empty() {
        return Ok(HashSet::new());
    }
    let names: Vec<_> = claims.iter().map(|claim| claim.stream).collect();
    let incarnations: Vec<_> = claims
        .iter()
        .map(|claim| bigint(claim.incarnation.number()))
        .collect();
    let afters: Vec<_> = claims.iter().map(|claim| claim.after.to_string()).collect();
    let nexts: Vec<_> = claims.iter().map(|claim| claim.next.to_string()).collect();
    let positions: Vec<_> = claims.iter().map(|claim| bigint(claim.next.position())).collect();
    let next_indexes: Vec<_> = claims
        .iter()
        .map(|claim| bigint(claim.next_index.unwrap_or(0)))
        .collect();
    let events: Vec<_> = claims.iter().map(|claim| bigint(claim.events)).collect();
    let skipped: Vec<_> = claims.iter().map(|claim| bigint(claim.skipped_bytes)).collect();
    let closed: Vec<_> = claims.iter().map(|claim| claim.closed).collect();
    let beginning = Offset::BEGINNING.to_string();
    let columns: [&(dyn ToSql + Sync); 10] = [
        &names,
        &incarnations,
        &afters,
        &nexts,
        &positions,
        &next_indexes,
        &events,
        &skipped,
        &closed,
        &beginning,
    ];
    let columns: Vec<_> = columns.into_iter().zip(CLAIM_TYPES).collect();
    let claimed = transaction.query_typed(CLAIM, &columns).await?;
    claimed.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The places of those streams that have one.
pub(super) async fn places(
    transaction: &Transaction<'_>,
    streams: &[&str],
) -> Result<HashMap<String, Place>, Error> {
    let found = transaction
        .query_typed(PLACES, &[(&streams, Type::TEXT_ARRAY)])
        .await?;
    found.iter().map(read_place).collect()
}

fn read_place(row: &tokio_postgres::Row) -> Result<(String, Place), Error> {
    let stream: String = row.try_get(0)?;
    let (incarnation, next, events): (i64, String, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(5)?);
    let of = format!("{incarnation:016}").parse();
    let (of, next, events) = match (of, next.parse(), u64::try_from(events)) {
        (Ok(of), Ok(next), Ok(events)) => (of, next, events),
        _ => {
            let what = format!("the incarnation {incarnation}, the next_offset {next:?} and {events} events");
            return Err(Error::Foreign { stream, what });
        }
    };
    let place = Place {
        of,
        next,
        closed: row.try_get(3)?,
        deleted: row.try_get(4)?,
        events,
    };
    Ok((stream, place))
}

/// Marks streams as deleted, and tells which there were to mark.
pub(super) async fn mark_deleted(
    transaction: &Transaction<'_>,
    streams: &[(&str, Incarnation)],
) -> Result<Vec<String>, Error> {
    let names: Vec<_> = streams.iter().map(|(stream, _)| *stream).collect();
    let incarnations: Vec<_> = streams.iter().map(|(_, of)| bigint(of.number())).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&names, Type::TEXT_ARRAY), (&incarnations, Type::INT8_ARRAY)];
    let marked = transaction.query_typed(MARK_DELETED, &parameters).await?;
    marked.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Notes what went wrong with streams, also before anything of them was written. Of several errors of one the last counts.
pub(super) async fn note_errors(transaction: &Transaction<'_>, faults: &[Fault<'_>]) -> Result<(), Error> {
    let last: BTreeMap<_, _> = faults.iter().map(|fault| (fault.stream, fault)).collect();
    let names: Vec<_> = last.keys().copied().collect();
    let incarnations: Vec<_> = last
        .values()
        .map(|fault| bigint(fault.incarnation.number()))
        .collect();
    let messages: Vec<_> = last.values().map(|fault| shown(fault.message)).collect();
    let beginning = Offset::BEGINNING.to_string();
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&names, Type::TEXT_ARRAY),
        (&incarnations, Type::INT8_ARRAY),
        (&messages, Type::TEXT_ARRAY),
        (&beginning, Type::TEXT),
    ];
    transaction.execute_typed(NOTE_ERRORS, &parameters).await?;
    Ok(())
}

/// PostgreSQL has no NUL in a text.
fn shown(message: &str) -> String {
    let characters = message.chars().filter(|c| *c != '\0');
    characters.take(ERROR_CHARACTERS_MAX).collect()
}

/// Notes where streams end.
pub(super) async fn note_tails(transaction: &Transaction<'_>, tails: &[Tail<'_>]) -> Result<(), Error> {
    let streams: Vec<_> = tails.iter().map(|tail| tail.stream).collect();
    let incarnations: Vec<_> = tails
        .iter()
        .map(|tail| bigint(tail.incarnation.number()))
        .collect();
    let positions: Vec<_> = tails.iter().map(|tail| bigint(tail.next.position())).collect();
    let events: Vec<_> = tails.iter().map(|tail| bigint(tail.events)).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&streams, Type::TEXT_ARRAY),
        (&incarnations, Type::INT8_ARRAY),
        (&positions, Type::INT8_ARRAY),
        (&events, Type::INT8_ARRAY),
    ];
    transaction.execute_typed(NOTE_TAILS, &parameters).await?;
    Ok(())
}

/// Ids and positions stay below 10¹⁶, and numbers of events below positions.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
