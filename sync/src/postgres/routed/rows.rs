//! Events as rows of a route's table. Knows how values are sent, and no name of a table.

use std::error::Error as StdError;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::Transaction;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::target::Target;
use crate::event::{Chunk, Event};
use crate::postgres::refusals::Destination;
use crate::postgres::row_fault::RowFault;
use crate::postgres::rows::JsonText;
use crate::route::Value;

/// Rows of one statement, and bytes of the events that they are made of: PostgreSQL has a few copies of its arrays in
/// memory.
const PART_ROWS: usize = 10_000;
const PART_BYTES: usize = 16 << 20;
/// 2000-01-01, where PostgreSQL counts from, since 1970.
const EPOCH_US: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// An event that may become a row of its route's table.
#[derive(Debug)]
pub(in crate::postgres) struct RoutedRow<'a> {
    /// Which chunk of the batch it is from.
    pub(in crate::postgres) chunk_at: usize,
    pub(in crate::postgres) chunk: &'a Chunk,
    pub(in crate::postgres) event: &'a Event,
    /// In the order of the route's columns; none is null.
    pub(in crate::postgres) values: Vec<Option<Value<'a>>>,
}

impl<'a> Destination<RoutedRow<'a>> for Target {
    async fn write(
        &self,
        transaction: &Transaction<'_>,
        rows: &[RoutedRow<'a>],
    ) -> Result<(), tokio_postgres::Error> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(part_of(rest));
            rest = behind;
            let columns = columns_of(part, self.types.len());
            let arrays = columns.iter().map(|column| column as &(dyn ToSql + Sync));
            let arrays: Vec<_> = arrays.zip(self.types.iter().cloned()).collect();
            transaction.execute_typed(&self.statement, &arrays).await?;
        }
        Ok(())
    }

    async fn settle(&self, transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
        if self.defers {
            // When the transaction ends nobody could tell which row it was.
            transaction.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        }
        Ok(())
    }

    fn fault_of(&self, error: &tokio_postgres::Error) -> Option<RowFault> {
        RowFault::of_routed(error)
    }
}

/// The values of rows, column by column.
pub(super) fn columns_of<'r>(rows: &'r [RoutedRow<'_>], columns: usize) -> Vec<Vec<Option<Sent<'r>>>> {
    let column = |at: usize| rows.iter().map(|row| row.values[at].as_ref().map(Sent)).collect();
    (0..columns).map(column).collect()
}

/// How many of the first rows one statement takes: one at least.
pub(super) fn part_of(rows: &[RoutedRow<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |row: &&RoutedRow<'_>| {
        bytes += row.event.payload.as_bytes().len();
        bytes <= PART_BYTES
    };
    rows.iter().take(PART_ROWS).take_while(fits).count().max(1)
}

/// A value as it goes to PostgreSQL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent<'v>(&'v Value<'v>);

impl ToSql for Sent<'_> {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self.0 {
            Value::Text(text) | Value::Numeric(text) => text.as_ref().to_sql(of, out),
            Value::BigInt(number) => number.to_sql(of, out),
            Value::Integer(number) => number.to_sql(of, out),
            Value::Double(number) => number.to_sql(of, out),
            Value::Boolean(is) => is.to_sql(of, out),
            Value::Timestamp(at_us) => {
                // A value has no moment before PostgreSQL's calendar, so this stays far from the least number.
                out.put_i64(at_us - EPOCH_US);
                Ok(IsNull::No)
            }
            Value::Date(days) => {
                out.put_i32(days - EPOCH_DAYS);
                Ok(IsNull::No)
            }
            Value::Uuid(uuid) => uuid.to_sql(of, out),
            Value::Json(text) => JsonText(text).to_sql(of, out),
            Value::Bytes(bytes) => bytes.as_ref().to_sql(of, out),
        }
    }

    /// The types come from the same route as the values.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
