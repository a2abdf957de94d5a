//! Questions about the tables that no transaction of the mirror asks: for people who look at it, and for those who
//! check it.

use std::collections::HashMap;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Transaction};

use super::Store;
use super::error::Error;
use crate::event::{Chunk, Event, Incarnation, Offset, Payload};

/// Streams that are told of at once.
const STREAMS_MAX: i64 = 1000;

/// An error is over once something was written after it.
const STREAMS: &str = "
    SELECT name, incarnation, next_offset, events, closed, deleted_at IS NOT NULL, skipped_bytes,
        CASE WHEN last_error_at >= updated_at THEN last_error END
    FROM tailwater.streams WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2";

/// Those that have no row. What only a route's table has not taken has one all the same.
const DEAD_LETTERS: &str = "SELECT position, payload FROM tailwater.dead_letters AS letter \
     WHERE stream = $1 AND incarnation = $2 AND position > $3 AND position <= $4 AND (route IS NULL OR NOT EXISTS \
     (SELECT FROM tailwater.events WHERE stream = $1 AND incarnation = $2 AND position = letter.position))";

const DIFFERENCES: &str = "
    WITH source AS (
        SELECT * FROM unnest($5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::bytea[])
            AS event (position, index, at_ms, json, bytes)
    ), held AS (
        SELECT position, index, appended_at, payload, payload_bytes FROM tailwater.events
        WHERE stream = $1 AND incarnation = $2 AND position > $3 AND position <= $4
    )
    SELECT count(*) FILTER (WHERE held.position IS NULL),
        count(*) FILTER (WHERE source.position IS NULL),
        count(*) FILTER (WHERE held.index <> source.index
            OR held.appended_at <> 'epoch'::timestamptz + source.at_ms * interval '1 millisecond'
            OR (held.position = source.position AND held.payload IS DISTINCT FROM source.json::jsonb)
            OR (held.position = source.position AND held.payload_bytes IS DISTINCT FROM source.bytes))
    FROM source FULL JOIN held ON held.position = source.position";

const RIGHTS: &str = "
    SELECT made,
        CASE WHEN made THEN has_schema_privilege('tailwater', 'USAGE')
            WHEN to_regnamespace('tailwater') IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege('tailwater', 'CREATE') END,
        current_user::text, current_setting('server_version')
    FROM (SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = 'tailwater' AND relname = 'schema_version') AS made) AS tables";

const TABLE_RIGHTS: &str = "
    SELECT coalesce(string_agg(relname, ', ' ORDER BY relname), '') FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'tailwater' AND relname IN ('streams', 'events', 'dead_letters', 'instances', 'leases')
        AND NOT (has_table_privilege(pg_class.oid, 'SELECT')
            AND has_table_privilege(pg_class.oid, 'INSERT')
            AND (relname IN ('events', 'dead_letters') OR has_table_privilege(pg_class.oid, 'UPDATE'))
            AND (relname <> 'instances' OR has_table_privilege(pg_class.oid, 'DELETE')))";

/// What the mirror knows of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Which stream of that name.
    pub incarnation: Incarnation,
    /// What is before it is mirrored.
    pub next: Offset,
    /// How many events these are.
    pub events: u64,
    /// Whether its end is mirrored too.
    pub closed: bool,
    /// Whether it is deleted at the source.
    pub deleted: bool,
    /// Bytes that had been trimmed at the source before they were mirrored.
    pub skipped_bytes: u64,
    /// What went wrong with it last, if nothing was written since.
    pub error: Option<String>,
}

/// How the events of a chunk and the rows in their place differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Differences {
    /// Events without a row or a dead letter.
    pub missing: u64,
    /// Rows without an event.
    pub extra: u64,
    /// Rows and dead letters that are not what their events are.
    pub different: u64,
}

/// What a database is like for the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether the tables are there. Else they are made at the start.
    pub has_tables: bool,
    /// As the server says it.
    pub server_version: String,
}

impl Differences {
    /// Whether there are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::AddAssign for Differences {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.extra += other.extra;
        self.different += other.different;
    }
}

impl Store {
    /// Some of the streams that the mirror knows, in the order of their names, behind the name `after`. None behind the
    /// last.
    ///
    /// # Errors
    /// Whatever keeps the mirror from it.
    pub async fn known(&mut self, after: Option<&str>) -> Result<Vec<Known>, Error> {
        let work = async |transaction: &Transaction<'_>| {
            let parameters: [(&(dyn ToSql + Sync), Type); 2] =
                [(&after, Type::TEXT), (&STREAMS_MAX, Type::INT8)];
            let rows = transaction.query_typed(STREAMS, &parameters).await?;
            rows.iter().map(read_known).collect::<Result<Vec<_>, Error>>()
        };
        self.connection
            .transaction("the question for streams", work)
            .await
    }

    /// Compares each event of a chunk with its row or its dead letter, and looks for rows between them.
    ///
    /// # Errors
    /// Whatever keeps the mirror from it.
    pub async fn differences(&mut self, chunk: &Chunk) -> Result<Differences, Error> {
        let work = async |transaction: &Transaction<'_>| differences(transaction, chunk).await;
        self.connection.transaction("a comparison", work).await
    }

    /// Whether the mirror's user may do what it has to. Changes nothing.
    ///
    /// # Errors
    /// [`Error::MissingRights`], and whatever else keeps the mirror from it.
    pub async fn readiness(&mut self) -> Result<Readiness, Error> {
        let work = async |transaction: &Transaction<'_>| {
            let row = transaction.query_typed_one(RIGHTS, &[]).await?;
            let (has_tables, may, user): (bool, bool, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let lacking: String = match may && has_tables {
                true => transaction.query_typed_one(TABLE_RIGHTS, &[]).await?.try_get(0)?,
                false => String::new(),
            };
            if !may || !lacking.is_empty() {
                let what = if has_tables { "use" } else { "make" };
                let message =
                    format!("the user {user} may not {what} the tables of the schema tailwater {lacking}");
                let message = message.trim_end().to_owned();
                return Err(Error::MissingRights { message });
            }
            Ok(Readiness {
                has_tables,
                server_version: row.try_get(3)?,
            })
        };
        self.connection.transaction("the question for rights", work).await
    }
}

async fn differences(transaction: &Transaction<'_>, chunk: &Chunk) -> Result<Differences, Error> {
    let (stream, incarnation) = (&*chunk.stream, chunk.incarnation.number().cast_signed());
    let (after, next) = (
        chunk.after.position().cast_signed(),
        chunk.next.position().cast_signed(),
    );
    let stretch: [(&(dyn ToSql + Sync), Type); 4] = [
        (&stream, Type::TEXT),
        (&incarnation, Type::INT8),
        (&after, Type::INT8),
        (&next, Type::INT8),
    ];
    let rows = transaction.query_typed(DEAD_LETTERS, &stretch).await?;
    let dead: HashMap<i64, Vec<u8>> = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, Error>>()?;
    let is_dead = |event: &&Event| dead.contains_key(&position(event));
    let (buried, living): (Vec<_>, Vec<_>) = chunk.events.iter().partition(is_dead);
    let changed = |event: &&&Event| {
        dead.get(&position(event)).map(|bytes| &bytes[..]) != Some(&event.payload.as_bytes()[..])
    };

    let positions: Vec<_> = living.iter().map(|event| position(event)).collect();
    let indexes: Vec<_> = living.iter().map(|event| event.index.cast_signed()).collect();
    let times: Vec<_> = living.iter().map(|event| event.at_ms).collect();
    let json: Vec<Option<String>> = living.iter().map(|event| json_text(event)).collect();
    let bytes: Vec<Option<&[u8]>> = living.iter().map(|event| plain_bytes(event)).collect();
    let events: [(&(dyn ToSql + Sync), Type); 5] = [
        (&positions, Type::INT8_ARRAY),
        (&indexes, Type::INT8_ARRAY),
        (&times, Type::INT8_ARRAY),
        (&json, Type::TEXT_ARRAY),
        (&bytes, Type::BYTEA_ARRAY),
    ];
    let parameters: Vec<_> = stretch.into_iter().chain(events).collect();
    let row = transaction.query_typed_one(DIFFERENCES, &parameters).await?;
    let count = |at| row.try_get::<_, i64>(at).map(i64::cast_unsigned);
    // A dead letter whose event is not there any more.
    let orphans = dead.len() - buried.len();
    Ok(Differences {
        missing: count(0)?,
        extra: count(1)? + orphans as u64,
        different: count(2)? + buried.iter().filter(changed).count() as u64,
    })
}

fn position(event: &Event) -> i64 {
    event.offset.position().cast_signed()
}

fn json_text(event: &Event) -> Option<String> {
    match &event.payload {
        Payload::Json(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Payload::Bytes(_) => None,
    }
}

fn plain_bytes(event: &Event) -> Option<&[u8]> {
    match &event.payload {
        Payload::Json(_) => None,
        Payload::Bytes(bytes) => Some(bytes),
    }
}

fn read_known(row: &Row) -> Result<Known, Error> {
    let name: String = row.try_get(0)?;
    let (incarnation, next): (i64, String) = (row.try_get(1)?, row.try_get(2)?);
    let of = format!("{incarnation:016}").parse();
    let (Ok(incarnation), Ok(next)) = (of, next.parse()) else {
        let what = format!("the incarnation {incarnation} and the next_offset {next:?}");
        return Err(Error::Foreign { stream: name, what });
    };
    Ok(Known {
        name,
        incarnation,
        next,
        events: row.try_get::<_, i64>(3)?.cast_unsigned(),
        closed: row.try_get(4)?,
        deleted: row.try_get(5)?,
        skipped_bytes: row.try_get::<_, i64>(6)?.cast_unsigned(),
        error: row.try_get(7)?,
    })
}
