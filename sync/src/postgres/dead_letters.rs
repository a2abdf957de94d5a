//! Events that a table cannot take, with the reasons. Knows no table but that of these letters.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use super::error::Error;
use super::rows::{Moment, incarnation, position};
use crate::event::{Chunk, Event};

const BURY: &str = "INSERT INTO tailwater.dead_letters \
     (stream, incarnation, position, index, appended_at, content_type, payload, reason, route) \
     SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[], \
     $6::text[], $7::bytea[], $8::text[], $9::text[])";
const BURY_TYPES: [Type; 9] = [
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::TEXT_ARRAY,
    Type::BYTEA_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
];

/// An event that a table cannot take. Its bytes are kept, with the reason.
#[derive(Debug)]
pub(super) struct DeadLetter<'a> {
    /// Which chunk of the batch it is from.
    pub(super) chunk_at: usize,
    pub(super) chunk: &'a Chunk,
    pub(super) event: &'a Event,
    pub(super) reason: String,
    /// The route to whose table it should have gone; none for `tailwater.events`.
    pub(super) route: Option<&'a str>,
}

/// All of a batch, one for each event at most, in the order of the chunks and of each stream.
#[derive(Debug, Default)]
pub(super) struct DeadLetters<'a>(BTreeMap<(usize, u64), DeadLetter<'a>>);

impl<'a> DeadLetters<'a> {
    /// Adds one. What two tables cannot take is one letter with both reasons.
    pub(super) fn add(&mut self, letter: DeadLetter<'a>) {
        match self.0.entry((letter.chunk_at, letter.position())) {
            Entry::Vacant(place) => drop(place.insert(letter)),
            Entry::Occupied(mut place) => {
                let known = place.get_mut();
                known.reason = format!("{}; {}", known.reason, letter.reason);
                known.route = known.route.or(letter.route);
            }
        }
    }

    /// The first one of a stream.
    pub(super) fn first(&self) -> Option<&DeadLetter<'a>> {
        self.0.values().next()
    }

    /// How many there are of each chunk.
    pub(super) fn counts(&self) -> BTreeMap<usize, u64> {
        self.0.keys().fold(BTreeMap::new(), |mut counts, (chunk_at, _)| {
            *counts.entry(*chunk_at).or_default() += 1;
            counts
        })
    }

    /// Writes them.
    pub(super) async fn bury(&self, transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let dead = || self.0.values();
        let of_chunks = |what: for<'c> fn(&'c Chunk) -> &'c str| -> Vec<_> {
            dead().map(|one| what(one.chunk)).collect()
        };
        let streams = of_chunks(|chunk| &chunk.stream);
        let content_types = of_chunks(|chunk| &chunk.content_type);
        let incarnations: Vec<_> = dead().map(|one| incarnation(one.chunk)).collect();
        let positions: Vec<_> = dead().map(|one| position(one.event)).collect();
        // What is wrong with an event may be these; they are missing then.
        let indexes: Vec<_> = dead().map(|one| i64::try_from(one.event.index).ok()).collect();
        let moments: Vec<_> = dead().map(|one| Moment::of_ms(one.event.at_ms)).collect();
        let payloads: Vec<_> = dead().map(|one| &one.event.payload.as_bytes()[..]).collect();
        // PostgreSQL may quote what it refuses.
        let reasons: Vec<_> = dead().map(|one| one.reason.replace('\0', "")).collect();
        let routes: Vec<_> = dead().map(|one| one.route).collect();
        let columns: [&(dyn ToSql + Sync); 9] = [
            &streams,
            &incarnations,
            &positions,
            &indexes,
            &moments,
            &content_types,
            &payloads,
            &reasons,
            &routes,
        ];
        let columns: Vec<_> = columns.into_iter().zip(BURY_TYPES).collect();
        transaction.execute_typed(BURY, &columns).await?;
        Ok(())
    }
}

impl DeadLetter<'_> {
    fn position(&self) -> u64 {
        self.event.offset.position()
    }

    /// What is wrong, for those who want no dead letters.
    pub(super) fn refusal(&self) -> Error {
        Error::Unmappable {
            stream: self.chunk.stream.to_string(),
            position: self.position(),
            index: self.event.index,
            reason: match self.route {
                Some(route) => format!("route `{route}`: {}", self.reason),
                None => self.reason.clone(),
            },
        }
    }
}
