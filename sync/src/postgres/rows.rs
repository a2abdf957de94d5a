//! Events as rows of `tailwater.events`. Knows the columns, and no place of a stream.

use std::error::Error as StdError;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::dead_letters::DeadLetter;
use super::refusals::Destination;
use super::row_fault::RowFault;
use crate::event::{Chunk, Event, Payload};
use crate::json_text;

/// 2000-01-01, where PostgreSQL counts from, in milliseconds since 1970.
const EPOCH_MS: i64 = 946_684_800_000;
/// The moments that a `timestamptz` can tell, in microseconds since 2000: 4713 BC to 294276 AD.
const MOMENTS_US: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

const COPY: &str = "COPY tailwater.events \
     (stream, incarnation, position, index, appended_at, content_type, payload, payload_bytes) \
     FROM STDIN (FORMAT binary)";
const COPY_TYPES: [Type; 8] = [
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::JSONB,
    Type::BYTEA,
];

/// An event that may become a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    chunk_at: usize,
    chunk: &'a Chunk,
    event: &'a Event,
    index: i64,
    appended_at: Moment,
}

impl<'a> Row<'a> {
    /// The row of an event, or why it is none.
    pub(super) fn new(chunk_at: usize, chunk: &'a Chunk, event: &'a Event) -> Result<Self, DeadLetter<'a>> {
        let dead = |reason: String| DeadLetter {
            chunk_at,
            chunk,
            event,
            reason,
            route: None,
        };
        let appended_at = Moment::of_ms(event.at_ms);
        let appended_at =
            appended_at.ok_or_else(|| dead("its time is beyond PostgreSQL's calendar".to_owned()))?;
        let index = i64::try_from(event.index).ok();
        let index = index.ok_or_else(|| dead("its index is beyond a bigint".to_owned()))?;
        if let Payload::Json(text) = &event.payload {
            json_text::check(text).map_err(|fault| dead(fault.to_string()))?;
        }
        Ok(Self {
            chunk_at,
            chunk,
            event,
            index,
            appended_at,
        })
    }

    /// The dead letter that it is, now that PostgreSQL has refused it.
    pub(super) fn refused(self, reason: String) -> DeadLetter<'a> {
        DeadLetter {
            chunk_at: self.chunk_at,
            chunk: self.chunk,
            event: self.event,
            reason,
            route: None,
        }
    }
}

/// `tailwater.events`.
pub(super) struct Events;

impl<'a> Destination<Row<'a>> for Events {
    async fn write(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Row<'a>],
    ) -> Result<(), tokio_postgres::Error> {
        copy(transaction, rows).await
    }

    fn fault_of(&self, error: &tokio_postgres::Error) -> Option<RowFault> {
        RowFault::of(error)
    }
}

async fn copy(transaction: &Transaction<'_>, rows: &[Row<'_>]) -> Result<(), tokio_postgres::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let sink = transaction.copy_in(COPY).await?;
    let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &COPY_TYPES));
    for row in rows {
        let (text, bytes) = match &row.event.payload {
            Payload::Json(text) => (Some(JsonText(text)), None),
            Payload::Bytes(bytes) => (None, Some(&bytes[..])),
        };
        let columns: [&(dyn ToSql + Sync); 8] = [
            &row.chunk.stream.as_ref(),
            &incarnation(row.chunk),
            &position(row.event),
            &row.index,
            &row.appended_at,
            &row.chunk.content_type.as_ref(),
            &text,
            &bytes,
        ];
        writer.as_mut().write(&columns).await?;
    }
    writer.as_mut().finish().await?;
    Ok(())
}

/// Ids stay below 10¹⁶.
pub(super) fn incarnation(chunk: &Chunk) -> i64 {
    chunk.incarnation.number().cast_signed()
}

/// Positions stay below 10¹⁶.
pub(super) fn position(event: &Event) -> i64 {
    event.offset.position().cast_signed()
}

/// A `timestamptz`: microseconds since 2000 began in UTC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(i64);

impl Moment {
    pub(super) fn of_ms(at_ms: i64) -> Option<Self> {
        let at_us = at_ms.checked_sub(EPOCH_MS)?.checked_mul(1_000)?;
        MOMENTS_US.contains(&at_us).then_some(Self(at_us))
    }
}

impl ToSql for Moment {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_i64(self.0);
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

/// A `jsonb` as its text, which PostgreSQL parses. Version 1 of its binary form is just that.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonText<'a>(pub(super) &'a [u8]);

impl ToSql for JsonText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_u8(1);
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSONB
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        let micros = |at_ms| Moment::of_ms(at_ms).map(|moment| moment.0);
        assert_eq!(micros(EPOCH_MS), Some(0));
        assert_eq!(micros(0), Some(-946_684_800_000_000));
        assert_eq!(micros(i64::MAX), None);
        assert_eq!(micros(i64::MIN), None);
        let last = (MOMENTS_US.end - 1) / 1_000 + EPOCH_MS;
        assert!(micros(last).is_some());
        assert_eq!(micros(last + 1), None);
    }
}
