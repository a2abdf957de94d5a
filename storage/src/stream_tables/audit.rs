//! Reads every row of the tables, and asks whether the rows agree with each other. What a backend has beside them it
//! looks at itself, through the same auditor.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition};
use tailwater_stream::{Producers, StreamId, StreamName};

use super::deadline;
use super::keys;
use super::queries;
use super::rows::{self, StreamRow};
use crate::database::Failure;
use crate::findings::Findings;
use crate::{queues, schedules, subscriptions};

/// What was counted, for whoever says how much there is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    pub(crate) streams: u64,
    /// Those of them that are deleted and not released.
    pub(crate) deleted: u64,
    pub(crate) payload_bytes: u64,
    /// The greatest id that a stream has.
    pub(crate) last_id: u64,
}

type Table<K> = ReadOnlyTable<K, keys::Bytes>;

/// Looks at table after table of one database.
pub(crate) struct Auditor<'a> {
    pub(crate) transaction: &'a ReadTransaction,
    /// What the database is called in what is found.
    called: String,
    streams: Table<&'static [u8; 8]>,
    pub(crate) found: Findings,
    pub(crate) sums: Sums,
    /// A row of a stream cannot be read, so that sums over all of them say nothing.
    pub(crate) is_partial: bool,
    /// The last stream that was asked for, for rows of one stream stand together.
    last_asked: Option<(StreamId, bool)>,
    /// The last stream with control keys, and its name.
    last_owner: Option<(StreamId, Option<StreamName>)>,
}

impl<'a> Auditor<'a> {
    pub(crate) fn new(transaction: &'a ReadTransaction, called: String) -> Result<Self, Failure> {
        Ok(Self {
            transaction,
            called,
            streams: transaction.open_table(keys::STREAMS)?,
            found: Findings::default(),
            sums: Sums::default(),
            is_partial: false,
            last_asked: None,
            last_owner: None,
        })
    }

    /// Looks at a table. A failure ends that look only.
    pub(crate) fn pass(&mut self, table: &str, look: impl FnOnce(&mut Self) -> Result<(), Failure>) {
        if let Err(failure) = look(self) {
            self.is_partial = true;
            self.wrong(table, &failure.to_string());
        }
    }

    /// Looks at every table that all backends have. `also` looks at what else there is of a stream whose row can be read.
    pub(crate) fn stream_tables(
        &mut self,
        mut also: impl FnMut(&mut Self, &StreamRow) -> Result<(), Failure>,
    ) {
        self.pass("streams", |auditor| auditor.streams(&mut also));
        self.pass("names", Self::names);
        self.pass("producers", Self::producers);
        self.pass("controls", Self::controls);
        self.pass("forks", Self::forks);
        self.pass("deleted", Self::deleted);
        self.pass("deadlines", Self::deadlines);
    }

    pub(crate) fn wrong(&mut self, table: &str, what: &str) {
        self.found.add(format!("{}, table {table}: {what}", self.called));
    }

    /// Compares what the database says that it holds with what is there. Says nothing if not all of it could be read.
    pub(crate) fn compare(&mut self, what: &str, said: u64, found: u64) {
        if said != found && !self.is_partial {
            self.wrong(
                "meta",
                &format!("{said} {what} are counted, and {found} are there"),
            );
        }
    }

    /// Compares the greatest id that the database knows of with one that is there.
    pub(crate) fn compare_last_id(&mut self, said: u64, found: u64) {
        if found > said {
            let what = format!("the last id is said to be {said}, and there is a greater one");
            self.wrong("meta", &what);
        }
    }

    /// Says what is wrong with a row, and goes on.
    pub(crate) fn row<T>(&mut self, table: &str, row: Result<T, Failure>) -> Option<T> {
        row.map_err(|failure| self.wrong(table, &failure.to_string()))
            .ok()
    }

    pub(crate) fn head(&self, id: StreamId) -> Result<Option<StreamRow>, Failure> {
        queries::head_in(&self.streams, id)
    }

    /// Whether there is a row of a stream, whatever it says.
    pub(crate) fn is_there(&mut self, id: StreamId) -> Result<bool, Failure> {
        if let Some((_, known)) = self.last_asked.filter(|(asked, _)| *asked == id) {
            return Ok(known);
        }
        let found = self.streams.get(&keys::id_key(id))?.is_some();
        self.last_asked = Some((id, found));
        Ok(found)
    }

    /// Whether something belongs to a stream that is there.
    pub(crate) fn check_owner(&mut self, table: &str, key: &[u8]) -> Result<(), Failure> {
        let owner = keys::id_of_key(table, key.get(..8).unwrap_or(key));
        if let Some(owner) = self.row(table, owner)
            && !self.is_there(owner)?
        {
            let what = format!("the row {} is of a stream that is not there", key.escape_ascii());
            self.wrong(table, &what);
        }
        Ok(())
    }

    fn streams(
        &mut self,
        also: &mut dyn FnMut(&mut Self, &StreamRow) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for entry in self.transaction.open_table(keys::STREAMS)?.iter()? {
            let (key, value) = entry?;
            let read = keys::id_of_key("streams", key.value())
                .and_then(|id| StreamRow::read(id, key.value(), value.value()));
            let Some((row, stored)) = self.row("streams", read) else {
                self.is_partial = true;
                continue;
            };
            let id = row.state.id;
            self.sums.streams += 1;
            self.sums.deleted += u64::from(row.state.deleted);
            self.sums.payload_bytes += row.state.tail.since(row.stored_from);
            self.sums.last_id = self.sums.last_id.max(id.get());
            if stored != deadline(&row.state) {
                let what = format!("stream {id} does not have the deadline that its lifetime gives it");
                self.wrong("streams", &what);
            }
            if let Some(at) = stored
                && self.is_absent(keys::DEADLINES, &keys::deadline_key(at, id))?
            {
                self.wrong("deadlines", &format!("stream {id} is missing"));
            }
            if row.state.deleted && self.is_absent(keys::DELETED, &keys::id_key(id))? {
                self.wrong("deleted", &format!("stream {id} is missing"));
            }
            self.check_name(&row)?;
            self.check_ancestors(&row)?;
            also(self, &row)?;
        }
        Ok(())
    }

    fn is_absent<const N: usize>(
        &self,
        table: TableDefinition<'_, &'static [u8; N], ()>,
        key: &[u8; N],
    ) -> Result<bool, Failure> {
        Ok(self.transaction.open_table(table)?.get(key)?.is_none())
    }

    /// A name leads to the newest stream that has it, unless that was deleted and is gone, or is staged.
    fn check_name(&mut self, row: &StreamRow) -> Result<(), Failure> {
        let (id, name) = (row.state.id, &row.state.name);
        let owner = match queries::id_of(self.transaction, name) {
            // The pass over names tells of it.
            Err(Failure::Damaged(_)) => return Ok(()),
            owner => owner?,
        };
        let fits = match owner {
            Some(owner) if row.staged => owner != id,
            Some(owner) => owner == id || (row.state.deleted && owner > id),
            None => row.state.deleted,
        };
        if !fits {
            let leads = owner.map_or_else(|| "nowhere".to_owned(), |owner| format!("to stream {owner}"));
            self.wrong("names", &format!("{name} leads {leads} and not to stream {id}"));
        }
        Ok(())
    }

    /// Streams whose bytes a stream shows are there, and know of it.
    fn check_ancestors(&mut self, row: &StreamRow) -> Result<(), Failure> {
        let id = row.state.id;
        if let Some(source) = &row.state.source
            && self.is_absent(keys::FORKS, &keys::fork_key(source.id, id))?
        {
            self.wrong(
                "forks",
                &format!("stream {id}, a fork of {}, is missing", source.id),
            );
        }
        let stored_in = row.state.lineage.spans().iter().map(|span| span.stored_in);
        let source = row.state.source.iter().map(|source| source.id);
        let mut ancestors: Vec<_> = stored_in.chain(source).filter(|other| *other != id).collect();
        ancestors.dedup();
        for ancestor in ancestors {
            if !self.is_there(ancestor)? {
                let what = format!("stream {ancestor} is missing, and stream {id} was forked from it");
                self.wrong("streams", &what);
            }
        }
        Ok(())
    }

    fn names(&mut self) -> Result<(), Failure> {
        for entry in self.transaction.open_table(keys::NAMES)?.iter()? {
            let (key, value) = entry?;
            let Some(id) = self.row("names", queries::read_name(key.value(), value.value())) else {
                continue;
            };
            // A row that cannot be read was told of by the pass over streams.
            let Ok(row) = self.head(id) else { continue };
            if row.is_none_or(|row| row.state.name.as_str().as_bytes() != key.value()) {
                let name = key.value().escape_ascii();
                self.wrong(
                    "names",
                    &format!("{name} leads to stream {id}, which does not have it"),
                );
            }
        }
        Ok(())
    }

    fn producers(&mut self) -> Result<(), Failure> {
        for entry in self.transaction.open_table(keys::PRODUCERS)?.iter()? {
            let (key, value) = entry?;
            let read = rows::read_producer(key.value(), value.value(), &mut Producers::default());
            self.row("producers", read);
            self.check_owner("producers", key.value())?;
        }
        Ok(())
    }

    fn controls(&mut self) -> Result<(), Failure> {
        for entry in self.transaction.open_table(keys::CONTROLS)?.iter()? {
            let (key, value) = entry?;
            let value = self.row("controls", queries::read_control(key.value(), value.value()));
            self.check_owner("controls", key.value())?;
            if let (Some(value), Some((owner, control_key))) = (value, key.value().split_first_chunk()) {
                self.check_control(u64::from_be_bytes(*owner), control_key, &value)?;
            }
        }
        Ok(())
    }

    /// What stands in the control keys of a subscription, a schedule, a queue or a run must be what a start reads there.
    fn check_control(&mut self, owner: u64, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let Some(owner) = StreamId::new(owner) else {
            return Ok(());
        };
        let is_known = self.last_owner.as_ref().is_some_and(|(id, _)| *id == owner);
        if !is_known {
            // A row of the stream that cannot be read is told of where streams are looked at.
            let row = self.head(owner).ok().flatten();
            self.last_owner = Some((owner, row.map(|row| row.state.name)));
        }
        let Some((_, Some(name))) = &self.last_owner else {
            return Ok(());
        };
        let checked = if name.subscription().is_some() {
            subscriptions::check_stored(key, value)
        } else if name.schedule().is_some() {
            schedules::check_stored(key, value)
        } else if queues::is_of_queue(key) {
            queues::check_stored(name, key, value)
        } else {
            Ok(())
        };
        if let Err(malformed) = checked {
            let what = format!("{malformed} under {} of stream {owner}", key.escape_ascii());
            self.wrong("controls", &what);
        }
        Ok(())
    }

    fn forks(&mut self) -> Result<(), Failure> {
        for entry in self.transaction.open_table(keys::FORKS)?.iter()? {
            let key = entry?.0;
            let pair = keys::pair_of_key("forks", key.value());
            let Some((source, fork)) = self.row("forks", pair) else {
                continue;
            };
            let Ok(row) = self.head(fork) else { continue };
            let known = row.and_then(|row| row.state.source);
            if known.is_none_or(|known| known.id.get() != source) {
                self.wrong("forks", &format!("stream {fork} is not a fork of {source}"));
            }
        }
        Ok(())
    }

    fn deleted(&mut self) -> Result<(), Failure> {
        for entry in self.transaction.open_table(keys::DELETED)?.iter()? {
            let key = entry?.0;
            let Some(id) = self.row("deleted", keys::id_of_key("deleted", key.value())) else {
                continue;
            };
            let Ok(row) = self.head(id) else { continue };
            if row.is_none_or(|row| !row.state.deleted) {
                self.wrong("deleted", &format!("stream {id} is not deleted"));
            }
        }
        Ok(())
    }

    fn deadlines(&mut self) -> Result<(), Failure> {
        for entry in self.transaction.open_table(keys::DEADLINES)?.iter()? {
            let key = entry?.0;
            let pair = keys::pair_of_key("deadlines", key.value());
            let Some((at, id)) = self.row("deadlines", pair) else {
                continue;
            };
            let row_key = keys::id_key(id);
            let stored = match self.streams.get(&row_key)? {
                Some(value) => match rows::read_deadline(&row_key, value.value()) {
                    Ok(stored) => stored,
                    Err(_) => continue,
                },
                None => None,
            };
            if stored.is_none_or(|stored| stored.as_millis() != at) {
                self.wrong("deadlines", &format!("stream {id} has no deadline at {at}"));
            }
        }
        Ok(())
    }
}

/// Whether rows in which a stream's own bytes stand have all of them, and none twice. They are shown in order.
pub(crate) struct Coverage {
    /// What a row stands for, such as `run`.
    called: &'static str,
    stored_from: u64,
    tail: u64,
    /// Where the last row ends.
    end: Option<u64>,
    /// What was wrong first.
    gap: Option<String>,
}

impl Coverage {
    pub(crate) fn of(row: &StreamRow, called: &'static str) -> Self {
        Self {
            called,
            stored_from: row.stored_from.get(),
            tail: row.state.tail.get(),
            end: None,
            gap: None,
        }
    }

    /// Shows the next row.
    pub(crate) fn show(&mut self, from: u64, until: u64) {
        let Self {
            called,
            stored_from: wanted,
            ..
        } = *self;
        let before = self.end.replace(until);
        if self.gap.is_some() {
            return;
        }
        self.gap = match before {
            None if from > wanted => Some(format!("no {called} has the positions {wanted} to {from}")),
            None if until <= wanted => Some(format!(
                "the {called} from {from} to {until} is not wanted any more"
            )),
            Some(end) if end != from => Some(format!(
                "a {called} ends at {end}, and the next one begins at {from}"
            )),
            None | Some(_) => None,
        };
    }

    /// What is missing, or there twice.
    pub(crate) fn gap(self) -> Option<String> {
        let Self {
            called,
            stored_from: from,
            tail,
            ..
        } = self;
        self.gap.or_else(|| match self.end {
            None if from < tail => Some(format!("no {called} has the positions {from} to {tail}")),
            Some(end) if end != tail => Some(format!("its {called}s end at {end}, and its tail is {tail}")),
            None | Some(_) => None,
        })
    }
}
