//! The tables as a change writes them.

use redb::{Table, TableDefinition, WriteTransaction};
use tailwater_stream::{ProducerId, ProducerState, StreamId, StreamName, Timestamp};

use super::keys::{self, Bytes, Key};
use super::queries;
use super::rows::{self, StreamRow};
use crate::codec::Encode as _;
use crate::database::{Failure, row};

/// The tables, each opened when it is first used, and open until this is dropped. Nobody else may have them open in the
/// same transaction.
pub(crate) struct StreamTables<'t> {
    transaction: &'t WriteTransaction,
    streams: LazyTable<'t, Key<8>, Bytes>,
    names: LazyTable<'t, Bytes, Bytes>,
    producers: LazyTable<'t, Bytes, Bytes>,
    controls: LazyTable<'t, Bytes, Bytes>,
    forks: LazyTable<'t, Key<16>, ()>,
    deleted: LazyTable<'t, Key<8>, ()>,
    deadlines: LazyTable<'t, Key<16>, ()>,
    removed_bytes: u64,
}

/// A table that is opened when it is first used.
pub(crate) struct LazyTable<'t, K: redb::Key + 'static, V: redb::Value + 'static> {
    definition: TableDefinition<'static, K, V>,
    table: Option<Table<'t, K, V>>,
}

impl<'t, K: redb::Key + 'static, V: redb::Value + 'static> LazyTable<'t, K, V> {
    /// A table that is not open yet.
    pub(crate) fn new(definition: TableDefinition<'static, K, V>) -> Self {
        Self {
            definition,
            table: None,
        }
    }

    /// The table, open from now on.
    pub(crate) fn open(
        &mut self,
        transaction: &'t WriteTransaction,
    ) -> Result<&mut Table<'t, K, V>, Failure> {
        if self.table.is_none() {
            self.table = Some(transaction.open_table(self.definition)?);
        }
        Ok(self.table.as_mut().expect("just opened"))
    }
}

impl<'t> StreamTables<'t> {
    /// The tables in a transaction.
    pub(crate) fn new(transaction: &'t WriteTransaction) -> Self {
        Self {
            transaction,
            streams: LazyTable::new(keys::STREAMS),
            names: LazyTable::new(keys::NAMES),
            producers: LazyTable::new(keys::PRODUCERS),
            controls: LazyTable::new(keys::CONTROLS),
            forks: LazyTable::new(keys::FORKS),
            deleted: LazyTable::new(keys::DELETED),
            deadlines: LazyTable::new(keys::DEADLINES),
            removed_bytes: 0,
        }
    }

    /// The bytes in keys and values of the streams that were removed through this.
    pub(crate) fn removed_bytes(&self) -> u64 {
        self.removed_bytes
    }

    /// What is known of a stream, without its producers.
    pub(crate) fn head(&mut self, id: StreamId) -> Result<Option<StreamRow>, Failure> {
        queries::head_in(self.streams.open(self.transaction)?, id)
    }

    /// Says what is known of a stream, without regard to its producers, and when to look whether it has expired.
    pub(crate) fn put_row(&mut self, row: &StreamRow, deadline: Option<Timestamp>) -> Result<(), Failure> {
        let id = row.state.id;
        let key = keys::id_key(id);
        let value = row.value(deadline);
        let before = {
            let streams = self.streams.open(self.transaction)?;
            let before = streams.insert(&key, value.as_slice())?;
            let before = before.map(|before| rows::read_deadline(&key, before.value()));
            before.transpose()?.flatten()
        };
        if before != deadline {
            let deadlines = self.deadlines.open(self.transaction)?;
            if let Some(before) = before {
                deadlines.remove(&keys::deadline_key(before, id))?;
            }
            if let Some(deadline) = deadline {
                deadlines.insert(&keys::deadline_key(deadline, id), ())?;
            }
        }
        Ok(())
    }

    /// Remembers producers, beside those of the stream that are not among them.
    pub(crate) fn put_producers<'a>(
        &mut self,
        id: StreamId,
        producers: impl IntoIterator<Item = (&'a ProducerId, &'a ProducerState)>,
    ) -> Result<(), Failure> {
        for (producer, state) in producers {
            let key = keys::owned_key(id, producer.as_str().as_bytes());
            let table = self.producers.open(self.transaction)?;
            table.insert(key.as_slice(), rows::producer_value(state).as_slice())?;
        }
        Ok(())
    }

    /// Gives a stream its name. A name belongs to the highest id that was given it.
    pub(crate) fn put_name(&mut self, name: &StreamName, id: StreamId) -> Result<(), Failure> {
        let key = name.as_str().as_bytes();
        let names = self.names.open(self.transaction)?;
        let mut put = |id| {
            let before = names.insert(key, row::value(|out| out.put_id(id)).as_slice())?;
            before
                .map(|before| queries::read_name(key, before.value()))
                .transpose()
        };
        // Next to always there was none, or an older one.
        match put(id)? {
            Some(newer) if newer > id => put(newer).map(|_own| ()),
            _ => Ok(()),
        }
    }

    fn owner(&mut self, name: &StreamName) -> Result<Option<StreamId>, Failure> {
        queries::owner_in(self.names.open(self.transaction)?, name)
    }

    /// Lets a name lead nowhere, unless a stream with a higher id has it.
    pub(crate) fn remove_name(&mut self, name: &StreamName, id: StreamId) -> Result<(), Failure> {
        if self.owner(name)?.is_some_and(|owner| owner <= id) {
            let names = self.names.open(self.transaction)?;
            names.remove(name.as_str().as_bytes())?;
        }
        Ok(())
    }

    /// Remembers that a stream was forked from another one.
    pub(crate) fn put_fork(&mut self, source: StreamId, fork: StreamId) -> Result<(), Failure> {
        let forks = self.forks.open(self.transaction)?;
        forks.insert(&keys::fork_key(source, fork), ())?;
        Ok(())
    }

    /// Remembers that a stream is deleted and not released.
    pub(crate) fn mark_deleted(&mut self, id: StreamId) -> Result<(), Failure> {
        self.deleted
            .open(self.transaction)?
            .insert(&keys::id_key(id), ())?;
        Ok(())
    }

    /// Remembers that a stream which was staged is there.
    pub(crate) fn unmark_deleted(&mut self, id: StreamId) -> Result<(), Failure> {
        self.deleted.open(self.transaction)?.remove(&keys::id_key(id))?;
        Ok(())
    }

    /// Forgets all that these tables say of a stream, and its name if no other stream has it by now. Answers what was
    /// known of it, without its producers.
    pub(crate) fn remove_stream(&mut self, id: StreamId) -> Result<Option<StreamRow>, Failure> {
        let key = keys::id_key(id);
        let row = {
            let removed = self.streams.open(self.transaction)?.remove(&key)?;
            let row = removed.map(|value| {
                self.removed_bytes += (key.len() + value.value().len()) as u64;
                StreamRow::read(id, &key, value.value())
            });
            row.transpose()?
        };
        let Some((row, deadline)) = row else {
            return Ok(None);
        };
        if let Some(deadline) = deadline {
            let deadlines = self.deadlines.open(self.transaction)?;
            deadlines.remove(&keys::deadline_key(deadline, id))?;
        }
        self.unmark_deleted(id)?;
        if let Some(source) = &row.state.source {
            let forks = self.forks.open(self.transaction)?;
            forks.remove(&keys::fork_key(source.id, id))?;
        }
        if self.owner(&row.state.name)? == Some(id) {
            let names = self.names.open(self.transaction)?;
            names.remove(row.state.name.as_str().as_bytes())?;
            self.removed_bytes += row.state.name.as_str().len() as u64;
        }
        let next = keys::number_key(id.get() + 1);
        for table in [&mut self.producers, &mut self.controls] {
            let table = table.open(self.transaction)?;
            let mut remove = |key: &[u8], value: &[u8]| {
                self.removed_bytes += (key.len() + value.len()) as u64;
                false
            };
            table.retain_in::<&[u8], _>(key.as_slice()..next.as_slice(), &mut remove)?;
        }
        Ok(Some(row))
    }

    /// Sets the value of a control key, or removes it.
    pub(crate) fn put_control(
        &mut self,
        id: StreamId,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), Failure> {
        let key = keys::owned_key(id, key);
        let controls = self.controls.open(self.transaction)?;
        match value {
            Some(value) => {
                let value = row::value(|out| out.put_bytes(value));
                controls.insert(key.as_slice(), value.as_slice())?;
            }
            None => {
                controls.remove(key.as_slice())?;
            }
        }
        Ok(())
    }
}
