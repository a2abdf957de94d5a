//! Rows into a table where some of them may be refused: each of the others is written all the same. Knows no table.

use tokio_postgres::Transaction;

use super::row_fault::RowFault;

/// Rows that share one savepoint once it is known that some of them are refused.
const WARY_ROWS: usize = 256;

/// Where rows go.
pub(super) trait Destination<R: Sync>: Sync {
    /// Writes rows; all of them or none.
    fn write(
        &self,
        transaction: &Transaction<'_>,
        rows: &[R],
    ) -> impl Future<Output = Result<(), tokio_postgres::Error>> + Send;

    /// Lets everything be checked now that would be checked when the transaction ends.
    fn settle(
        &self,
        transaction: &Transaction<'_>,
    ) -> impl Future<Output = Result<(), tokio_postgres::Error>> + Send {
        let _ = transaction;
        std::future::ready(Ok(()))
    }

    /// What an error says of some row; none if it is not the rows that it is about.
    fn fault_of(&self, error: &tokio_postgres::Error) -> Option<RowFault>;
}

/// Writes what PostgreSQL takes, and returns where the rest is among the rows, with the reasons. It says which row it
/// has stopped at, or not: then halves are tried. The rows before it go in without it. The order of rows is kept.
pub(super) async fn write_warily<R: Sync, D: Destination<R>>(
    transaction: &Transaction<'_>,
    destination: &D,
    rows: &[R],
) -> Result<Vec<(usize, String)>, tokio_postgres::Error> {
    let mut refused = Vec::new();
    let mut parts: Vec<(usize, &[R])> = (0..).step_by(WARY_ROWS).zip(rows.chunks(WARY_ROWS)).collect();
    parts.reverse();
    while let Some((at, part)) = parts.pop() {
        transaction.batch_execute("SAVEPOINT part").await?;
        let mut written = destination.write(transaction, part).await;
        if written.is_ok() {
            written = destination.settle(transaction).await;
        }
        let Err(error) = written else {
            transaction.batch_execute("RELEASE part").await?;
            continue;
        };
        let Some(fault) = destination.fault_of(&error) else {
            return Err(error);
        };
        transaction
            .batch_execute("ROLLBACK TO part; RELEASE part")
            .await?;
        if part.len() == 1 {
            refused.push((at, fault.reason));
            continue;
        }
        // The row that was named is tried by itself, in case it was not the one.
        let (named, behind) = match fault.row.filter(|row| *row < part.len()) {
            Some(row) => (row, row + 1),
            None => (part.len() / 2, part.len() / 2),
        };
        let pieces = [behind..part.len(), named..behind, 0..named];
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
        parts.extend(pieces.map(|piece| (at + piece.start, &part[piece])));
    }
    Ok(refused)
}
