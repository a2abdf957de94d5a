//! A change of the catalog: all of it is made, durably, or nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{ReadableTable, WriteTransaction};
use tailwater_stream::{Position, ProducerId, ProducerState, StreamId, StreamName, Timestamp};

use super::opened::{Opened, Shared, Turn};
use super::queries;
use super::rows::{self, Meta, SegmentRow, StreamRow};
use super::tables::{self, Failure};
use crate::backend::BackendError;
use crate::file::codec::Encode;
use crate::file::segment::Run;

/// A change that is being made. It sees what it has written itself, and nobody else does before it is committed.
/// To drop it undoes it.
pub(in crate::file) struct CatalogChange {
    transaction: WriteTransaction,
    opened: Arc<Opened>,
    shared: Arc<Shared>,
    /// Given back after the transaction has ended.
    turn: Turn,
}

impl CatalogChange {
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

    fn ask<T>(
        &self,
        answer: impl FnOnce(&WriteTransaction) -> Result<T, Failure>,
    ) -> Result<T, BackendError> {
        // What does not fit on the disk would pile up in memory until the commit fails.
        self.opened.check()?;
        self.opened.ask(|| answer(&self.transaction))
    }

    /// For tests that write what a change does not.
    #[cfg(test)]
    pub(in crate::file) fn transaction(&self) -> &WriteTransaction {
        &self.transaction
    }

    /// What is known of a stream, without its producers.
    pub(in crate::file) fn head(&self, id: StreamId) -> Result<Option<StreamRow>, BackendError> {
        self.ask(|tables| queries::head(tables, id))
    }

    /// All segments, in order of their numbers.
    pub(in crate::file) fn segments(&self) -> Result<Vec<SegmentRow>, BackendError> {
        self.ask(queries::segments)
    }

    /// Says what is known of a stream, without regard to its producers, and when to look whether it has expired.
    pub(in crate::file) fn put_row(
        &mut self,
        row: &StreamRow,
        deadline: Option<Timestamp>,
    ) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let id = row.state.id;
            let key = tables::id_key(id);
            let value = row.value(deadline);
            let mut streams = transaction.open_table(tables::STREAMS)?;
            let before = streams.insert(&key, value.as_slice())?;
            let before = before.map(|before| rows::read_deadline(&key, before.value()));
            let before = before.transpose()?.flatten();
            if before != deadline {
                let mut deadlines = transaction.open_table(tables::DEADLINES)?;
                if let Some(before) = before {
                    deadlines.remove(&tables::deadline_key(before, id))?;
                }
                if let Some(deadline) = deadline {
                    deadlines.insert(&tables::deadline_key(deadline, id), ())?;
                }
            }
            Ok(())
        })
    }

    /// Remembers producers, beside those of the stream that are not among them.
    pub(in crate::file) fn put_producers<'a>(
        &mut self,
        id: StreamId,
        producers: impl IntoIterator<Item = (&'a ProducerId, &'a ProducerState)>,
    ) -> Result<(), BackendError> {
        let mut producers = producers.into_iter().peekable();
        if producers.peek().is_none() {
            return Ok(());
        }
        self.ask(|transaction| {
            let mut table = transaction.open_table(tables::PRODUCERS)?;
            for (producer, state) in producers {
                let key = tables::owned_key(id, producer.as_str().as_bytes());
                table.insert(key.as_slice(), rows::producer_value(state).as_slice())?;
            }
            Ok(())
        })
    }

    /// Gives a stream its name. A name belongs to the highest id that was given it.
    pub(in crate::file) fn put_name(&mut self, name: &StreamName, id: StreamId) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let key = name.as_str().as_bytes();
            let mut names = transaction.open_table(tables::NAMES)?;
            let owner = names
                .get(key)?
                .map(|owner| queries::read_name(key, owner.value()));
            if owner.transpose()? < Some(id) {
                names.insert(key, rows::value(|out| out.put_id(id)).as_slice())?;
            }
            Ok(())
        })
    }

    /// Lets a name lead nowhere, unless a stream with a higher id has it.
    pub(in crate::file) fn remove_name(
        &mut self,
        name: &StreamName,
        id: StreamId,
    ) -> Result<(), BackendError> {
        self.ask(|transaction| {
            if queries::id_of(transaction, name)?.is_some_and(|owner| owner <= id) {
                let mut names = transaction.open_table(tables::NAMES)?;
                names.remove(name.as_str().as_bytes())?;
            }
            Ok(())
        })
    }

    /// Remembers that a stream was forked from another one.
    pub(in crate::file) fn put_fork(&mut self, source: StreamId, fork: StreamId) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let mut forks = transaction.open_table(tables::FORKS)?;
            forks.insert(&tables::fork_key(source, fork), ())?;
            Ok(())
        })
    }

    /// Remembers that a stream is deleted and not released.
    pub(in crate::file) fn mark_deleted(&mut self, id: StreamId) -> Result<(), BackendError> {
        self.ask(|transaction| {
            transaction
                .open_table(tables::DELETED)?
                .insert(&tables::id_key(id), ())?;
            Ok(())
        })
    }

    /// Remembers that a stream which was staged is there.
    pub(in crate::file) fn unmark_deleted(&mut self, id: StreamId) -> Result<(), BackendError> {
        self.ask(|transaction| {
            transaction
                .open_table(tables::DELETED)?
                .remove(&tables::id_key(id))?;
            Ok(())
        })
    }

    /// Forgets all that is known of a stream but its runs, and its name if no other stream has it by now. Answers
    /// what was known of it, without its producers.
    pub(in crate::file) fn remove_stream(&mut self, id: StreamId) -> Result<Option<StreamRow>, BackendError> {
        self.ask(|transaction| {
            let key = tables::id_key(id);
            let row = transaction
                .open_table(tables::STREAMS)?
                .remove(&key)?
                .map(|value| StreamRow::read(id, &key, value.value()))
                .transpose()?;
            let Some((row, deadline)) = row else {
                return Ok(None);
            };
            if let Some(deadline) = deadline {
                transaction
                    .open_table(tables::DEADLINES)?
                    .remove(&tables::deadline_key(deadline, id))?;
            }
            transaction.open_table(tables::DELETED)?.remove(&key)?;
            if let Some(source) = &row.state.source {
                transaction
                    .open_table(tables::FORKS)?
                    .remove(&tables::fork_key(source.id, id))?;
            }
            if queries::id_of(transaction, &row.state.name)? == Some(id) {
                let name = row.state.name.as_str().as_bytes();
                transaction.open_table(tables::NAMES)?.remove(name)?;
            }
            let next = tables::number_key(id.get() + 1);
            for table in [tables::PRODUCERS, tables::CONTROLS] {
                transaction
                    .open_table(table)?
                    .retain_in::<&[u8], _>(key.as_slice()..next.as_slice(), |_, _| false)?;
            }
            Ok(Some(row))
        })
    }

    /// Says where a run of a stream's bytes is.
    pub(in crate::file) fn put_run(&mut self, segment: u64, run: &Run) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let key = rows::key_of_run(segment, run);
            let mut runs = transaction.open_table(tables::RUNS)?;
            runs.insert(&key, rows::run_value(run).as_slice())?;
            Ok(())
        })
    }

    /// Forgets a run.
    pub(in crate::file) fn remove_run(&mut self, segment: u64, run: &Run) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let mut runs = transaction.open_table(tables::RUNS)?;
            runs.remove(&rows::key_of_run(segment, run))?;
            Ok(())
        })
    }

    /// Notes that a stream wants its bytes from `to` on, and no more those from `from` on: forgets the runs that end
    /// there or before. Answers which segments lose how many bytes by that, which may be part of a run that stays.
    pub(in crate::file) fn lose_runs(
        &mut self,
        id: StreamId,
        from: Position,
        to: Position,
    ) -> Result<Vec<(u64, u64)>, BackendError> {
        self.ask(|transaction| {
            let mut known = queries::runs(transaction, id, Position::ZERO)?;
            let lost = |(segment, run): &(u64, Run)| {
                let bytes = run.dead_bytes(to).saturating_sub(run.dead_bytes(from));
                (bytes > 0).then_some((*segment, bytes))
            };
            let lost = known.iter().filter_map(lost).collect();
            known.retain(|(_, run)| run.until <= to);
            if !known.is_empty() {
                let mut runs = transaction.open_table(tables::RUNS)?;
                for (segment, run) in &known {
                    runs.remove(&rows::key_of_run(*segment, run))?;
                }
            }
            Ok(lost)
        })
    }

    /// Sets the value of a control key, or removes it.
    pub(in crate::file) fn put_control(
        &mut self,
        id: StreamId,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let key = tables::owned_key(id, key);
            let mut controls = transaction.open_table(tables::CONTROLS)?;
            match value {
                Some(value) => {
                    let value = rows::value(|out| out.put_bytes(value));
                    controls.insert(key.as_slice(), value.as_slice())?;
                }
                None => {
                    controls.remove(key.as_slice())?;
                }
            }
            Ok(())
        })
    }

    /// Says what is known of a segment.
    pub(in crate::file) fn put_segment(&mut self, row: &SegmentRow) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let key = tables::number_key(row.number);
            let mut segments = transaction.open_table(tables::SEGMENTS)?;
            segments.insert(&key, row.value().as_slice())?;
            Ok(())
        })
    }

    /// Forgets a segment.
    pub(in crate::file) fn remove_segment(&mut self, number: u64) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let mut segments = transaction.open_table(tables::SEGMENTS)?;
            segments.remove(&tables::number_key(number))?;
            Ok(())
        })
    }

    /// Says what is known of the store as a whole.
    pub(in crate::file) fn put_meta(&mut self, meta: &Meta) -> Result<(), BackendError> {
        self.ask(|transaction| put_meta(transaction, meta))
    }

    /// Makes the change durable.
    ///
    /// # Errors
    /// If there is no space, in which case nothing was changed, and another change can be tried. If it failed
    /// otherwise, it is not known what became of it.
    pub(in crate::file) fn commit(self) -> Result<(), BackendError> {
        let changes = self.opened.changes.load(Ordering::Acquire) + 1;
        self.ask(|transaction| put_changes(transaction, changes))?;
        let Self {
            transaction,
            opened,
            shared,
            turn: _turn,
        } = self;
        let header_writes = opened.medium.header_writes();
        let committed = opened.ask(|| Ok(transaction.commit()?));
        let Err(error) = committed else {
            opened.changes.store(changes, Ordering::Release);
            return Ok(());
        };
        // What a newly opened database shows is durable, because it has synced the file to begin with.
        match shared.instead_of(&opened) {
            Ok(current) if current.changes.load(Ordering::Acquire) == changes => Ok(()),
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
    // With it, opening the database after a crash reads a few pages and not all.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Makes the tables of a new catalog.
pub(super) fn make(opened: &Opened, meta: &Meta) -> Result<(), Failure> {
    let transaction = begin(opened)?;
    tables::make_all(&transaction)?;
    put_meta(&transaction, meta)?;
    put_changes(&transaction, 0)?;
    Ok(transaction.commit()?)
}

fn put_meta(transaction: &WriteTransaction, meta: &Meta) -> Result<(), Failure> {
    let mut table = transaction.open_table(tables::META)?;
    table.insert(tables::META_STORE, meta.value().as_slice())?;
    Ok(())
}

fn put_changes(transaction: &WriteTransaction, changes: u64) -> Result<(), Failure> {
    let value = rows::value(|out| out.put_u64(changes));
    let mut table = transaction.open_table(tables::META)?;
    table.insert(tables::META_CHANGES, value.as_slice())?;
    Ok(())
}
