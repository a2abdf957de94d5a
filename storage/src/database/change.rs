//! A change of a database: all of it is made, durably, or nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use super::opened::{Opened, Shared, Turn};
use super::row::{self, Failure, Tables};
use crate::backend::BackendError;
use crate::codec::Encode as _;

/// What is known of the database as a whole. One row is its own, and counts the changes; the others are its user's.
pub(crate) const META: TableDefinition<'_, &'static [u8], &'static [u8]> = TableDefinition::new("meta");

const CHANGES: &[u8] = b"changes";

/// A change that is being made. It sees what it has written itself, and nobody else does before it is committed.
/// To drop it undoes it.
pub(crate) struct Change {
    transaction: WriteTransaction,
    opened: Arc<Opened>,
    shared: Arc<Shared>,
    /// Given back after the transaction has ended.
    turn: Turn,
}

impl Change {
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, BackendError> {
        let turn = shared.turn();
        let opened = shared.usable()?;
        let transaction = opened.ask(|| begin(&opened))?;
        Ok(Self {
            transaction,
            opened,
            shared: Arc::clone(shared),
            turn,
        })
    }

    /// Does a part of the change, and answers what it finds.
    ///
    /// # Errors
    /// As the medium says, or if a row cannot be read. The change is to be dropped then.
    pub(crate) fn ask<T>(
        &self,
        answer: impl FnOnce(&WriteTransaction) -> Result<T, Failure>,
    ) -> Result<T, BackendError> {
        // What does not fit on the disk would pile up in memory until the commit fails.
        self.opened.check()?;
        self.opened.ask(|| answer(&self.transaction))
    }

    /// For tests that write what a change does not.
    #[cfg(test)]
    pub(crate) fn transaction(&self) -> &WriteTransaction {
        &self.transaction
    }

    /// Makes the change durable. The next one begins only once the answer is dropped.
    ///
    /// # Errors
    /// If there is no space, in which case nothing was changed, and another change can be tried. If it failed
    /// otherwise, it is not known what became of it.
    pub(crate) fn commit(self) -> Result<Turn, BackendError> {
        let changes = self.opened.changes.load(Ordering::Acquire) + 1;
        self.ask(|transaction| put_changes(transaction, changes))?;
        let Self {
            transaction,
            opened,
            shared,
            turn,
        } = self;
        let header_writes = opened.medium.header_writes();
        // What was written to no purpose but that of memory may have failed without a word.
        let committed = opened
            .ask(|| Ok(transaction.commit()?))
            .and_then(|()| opened.check());
        let Err(error) = committed else {
            opened.changes.store(changes, Ordering::Release);
            return Ok(turn);
        };
        // What a newly opened database shows is durable, because it has synced the file to begin with.
        match shared.instead_of(&opened) {
            Ok(current) if current.changes.load(Ordering::Acquire) == changes => Ok(turn),
            Ok(_) => Err(error),
            // Nothing shows before the header says so.
            Err(_) if opened.medium.header_writes() == header_writes => Err(error),
            // A lack of space would say that it was not made.
            Err(_) => Err(opened.unknown(&error)),
        }
    }
}

fn begin(opened: &Opened) -> Result<WriteTransaction, Failure> {
    let mut transaction = opened.database.begin_write()?;
    transaction.set_quick_repair(opened.options().opens_quickly);
    Ok(transaction)
}

/// Makes the tables of a new database.
pub(super) fn make(
    opened: &Opened,
    make: impl FnOnce(&WriteTransaction) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let transaction = begin(opened)?;
    put_changes(&transaction, 0)?;
    make(&transaction)?;
    Ok(transaction.commit()?)
}

fn put_changes(transaction: &WriteTransaction, changes: u64) -> Result<(), Failure> {
    let value = row::value(|out| out.put_u64(changes));
    let mut table = transaction.open_table(META)?;
    table.insert(CHANGES, value.as_slice())?;
    Ok(())
}

/// How many changes were committed.
pub(crate) fn changes(tables: &impl Tables) -> Result<u64, Failure> {
    let table = tables.table(META)?;
    let value = table
        .get(CHANGES)?
        .ok_or_else(|| Failure::of_row("meta", CHANGES, &"it is missing"))?;
    row::read("meta", CHANGES, value.value(), |from| {
        from.u64("a number of changes")
    })
}
