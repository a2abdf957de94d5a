//! One shard: a database, and what is counted in it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use redb::WriteTransaction;
use tailwater_stream::{AppendExtent, Position, StreamId, StreamName, StreamState, Timestamp};

use super::block::{Block, PIECE_BYTES};
use super::lookup::Found;
use super::placement::Placement;
use super::read;
use super::tables::{self, BLOCKS, PIECES, REDIRECTS, ShardMeta};
use crate::backend::{BackendError, ControlsRequest, ReadError, ReadRequest, Slices};
use crate::database::{Database, DatabaseOptions, Failure, Tables, Turn, View};
use crate::disk::Disk;
use crate::reachable::oldest_reachable;
use crate::stream_tables::keys::{self, pair_key};
use crate::stream_tables::{StreamRow, StreamTables, deadline, queries};

/// Rows that are removed in one change at the most, so that appends do not wait for long.
const REMOVED_ROWS_MAX: u64 = 4096;

/// A shard that is open.
pub(super) struct Shard {
    database: Database,
    /// As the last change has left it. Changed by whoever makes a change, before the next one begins.
    meta: Mutex<ShardMeta>,
    /// Whether there may be pages to give back that were taken to keep room.
    may_have_ballast: AtomicBool,
}

impl Shard {
    /// Makes an empty shard, durably but for the file's name.
    pub(super) fn create(
        disk: &dyn Disk,
        path: &Path,
        options: DatabaseOptions,
        meta: ShardMeta,
    ) -> Result<Self, BackendError> {
        let make = |transaction: &_| tables::make_all(transaction, &meta);
        Ok(Self {
            database: Database::create(disk, path, options, make)?,
            meta: Mutex::new(meta),
            may_have_ballast: AtomicBool::new(false),
        })
    }

    /// Opens a shard, also after a crash.
    ///
    /// # Errors
    /// If it is not the one that `expected` says, of the same store; what that counts is not looked at.
    pub(super) fn open(
        disk: &dyn Disk,
        path: &Path,
        options: DatabaseOptions,
        expected: &ShardMeta,
    ) -> Result<Self, BackendError> {
        Self::over(Database::open(disk, path, options)?, path, expected)
    }

    /// Opens a shard that nobody has open, and changes nothing of it.
    ///
    /// # Errors
    /// As [`Shard::open`].
    pub(super) fn look_at(
        disk: &dyn Disk,
        path: &Path,
        options: DatabaseOptions,
        expected: &ShardMeta,
    ) -> Result<Self, BackendError> {
        Self::over(Database::look_at(disk, path, options)?, path, expected)
    }

    fn over(database: Database, path: &Path, expected: &ShardMeta) -> Result<Self, BackendError> {
        let meta = database.view()?.ask(tables::meta)?;
        meta.check_identity(expected)
            .map_err(|what| BackendError::Damaged {
                what: format!("the shard {}: {what}", path.display()),
            })?;
        Ok(Self {
            database,
            meta: Mutex::new(meta),
            may_have_ballast: AtomicBool::new(true),
        })
    }

    /// The length of its file.
    pub(super) fn file_bytes(&self) -> Result<u64, BackendError> {
        self.database.file_bytes()
    }

    /// As [`Database::compact`].
    pub(super) fn compact(self) -> Result<(), BackendError> {
        self.database.compact()
    }

    pub(super) fn meta(&self) -> ShardMeta {
        *self.meta.lock()
    }

    /// What it says now.
    pub(super) fn view(&self) -> Result<View, BackendError> {
        self.database.view()
    }

    /// Keeps everybody from changing the shard until the answer is dropped.
    pub(super) fn turn(&self) -> Turn {
        self.database.turn()
    }

    /// Makes a change durable that `make` makes, which says what is known of the shard from then on.
    pub(super) fn change<T>(
        &self,
        make: impl FnOnce(&WriteTransaction, &mut ShardMeta) -> Result<T, Failure>,
    ) -> Result<T, BackendError> {
        let change = self.database.change()?;
        let mut meta = self.meta();
        let made = change.ask(|transaction| {
            if self.may_have_ballast.load(Ordering::Relaxed) {
                tables::remove_ballast(transaction)?;
            }
            let made = make(transaction, &mut meta)?;
            tables::put_meta(transaction, &meta)?;
            Ok(made)
        })?;
        // The next change begins only once this one is counted.
        let turn = change.commit()?;
        *self.meta.lock() = meta;
        self.may_have_ballast.store(false, Ordering::Relaxed);
        drop(turn);
        Ok(made)
    }

    /// Makes a change durable if there is room for it within the shard, and for changes that make room after it: pages for
    /// those are taken at the same time, and then given back.
    pub(super) fn change_and_keep_room(
        &self,
        make: impl FnOnce(&WriteTransaction, &mut ShardMeta) -> Result<(), Failure>,
    ) -> Result<(), BackendError> {
        self.change(|transaction, meta| {
            make(transaction, meta)?;
            tables::put_ballast(transaction)
        })?;
        self.may_have_ballast.store(true, Ordering::Relaxed);
        match self.change(|_, _| Ok(())) {
            // The change is durable; the pages are given back by any other one.
            Err(error) if error.is_full() => Ok(()),
            given_back => given_back,
        }
    }

    /// Those of a few names that do not lead to where they are to.
    pub(super) fn not_led<'n>(
        &self,
        names: &[(&'n str, Placement)],
    ) -> Result<Vec<(&'n str, Placement)>, BackendError> {
        self.database.view()?.ask(|tables| {
            let mut not_led = Vec::new();
            for (name, to) in names {
                if !tables::redirects(tables, name)?.contains(&to.0) {
                    not_led.push((*name, *to));
                }
            }
            Ok(not_led)
        })
    }

    /// Names behind one, in order, at most `count_max`, with the newest stream of each that stands here.
    pub(super) fn names(
        &self,
        after: Option<&StreamName>,
        count_max: usize,
    ) -> Result<Vec<(StreamName, StreamId)>, BackendError> {
        let after = after.map(StreamName::as_str);
        self.database
            .view()?
            .ask(|tables| queries::names(tables, "", after, count_max))
    }

    /// Where a name, or what stands for a prefix, leads.
    pub(super) fn redirects(&self, key: &str) -> Result<Vec<Placement>, BackendError> {
        let view = self.database.view()?;
        let found = view.ask(|tables| tables::redirects(tables, key))?;
        Ok(found.into_iter().map(Placement).collect())
    }

    /// Lets a name, or what stands for a prefix, lead to a few of the placements that it leads to, and to no others, durably.
    pub(super) fn lead_only(&self, key: &str, to: &[Placement]) -> Result<(), BackendError> {
        let placements: Vec<_> = to.iter().map(|Placement(placement)| *placement).collect();
        self.change(|transaction, _| tables::keep_redirects(transaction, key, &placements))
    }

    /// Whether a stream stands here whose name begins so.
    pub(super) fn has_names_below(&self, prefix: &str) -> Result<bool, BackendError> {
        let view = self.database.view()?;
        let first = view.ask(|tables| queries::names(tables, prefix, None, 1))?;
        Ok(!first.is_empty())
    }

    /// The prefixes of names that lead elsewhere, as far as they stand here, and where they lead.
    pub(super) fn prefixes(&self) -> Result<Vec<(String, Vec<Placement>)>, BackendError> {
        let found = self.database.view()?.ask(tables::prefixes)?;
        let placed = |placements: Vec<u8>| placements.into_iter().map(Placement).collect();
        Ok(found
            .into_iter()
            .map(|(prefix, placements)| (prefix, placed(placements)))
            .collect())
    }

    /// What is known of names here, and where else to look for those that no stream has which is not deleted.
    pub(super) fn found(&self, asked: &[&StreamName]) -> Result<Vec<Found>, BackendError> {
        self.database.view()?.ask(|tables| {
            let redirects = tables.table(REDIRECTS)?;
            let found = |newest, name: &StreamName| {
                let mut found = Found {
                    newest,
                    elsewhere: Vec::new(),
                };
                if !found.is_alive() {
                    let placements = tables::redirects_in(&redirects, name.as_str())?;
                    found.elsewhere = placements.into_iter().map(Placement).collect();
                }
                Ok(found)
            };
            let states = newest_of(tables, asked)?.into_iter();
            states
                .zip(asked)
                .map(|(newest, name)| found(newest, name))
                .collect()
        })
    }

    /// The newest stream here of each name.
    pub(super) fn load_all(&self, asked: &[&StreamName]) -> Result<Vec<Option<StreamState>>, BackendError> {
        self.database.view()?.ask(|tables| newest_of(tables, asked))
    }

    /// The newest stream of a name that stands here.
    pub(super) fn owner(&self, name: &StreamName) -> Result<Option<StreamId>, BackendError> {
        self.database.view()?.ask(|tables| queries::id_of(tables, name))
    }

    pub(super) fn name_of(&self, id: StreamId) -> Result<Option<StreamName>, BackendError> {
        let row = self.database.view()?.ask(|tables| queries::head(tables, id))?;
        Ok(row.map(|row| row.state.name))
    }

    /// Streams that are not deleted, in the order of their names.
    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        count_max: usize,
    ) -> Result<Vec<StreamState>, BackendError> {
        self.database.view()?.ask(|tables| {
            let mut states = Vec::new();
            let mut after = after.map(str::to_owned);
            while states.len() < count_max {
                let wanted = count_max - states.len();
                let names = queries::names(tables, prefix, after.as_deref(), wanted)?;
                for (_, id) in &names {
                    let row = queries::with_producers(tables, *id)?;
                    states.extend(row.map(|row| row.state).filter(|state| !state.deleted));
                }
                if names.len() < wanted {
                    break;
                }
                after = names.last().map(|(name, _)| name.as_str().to_owned());
            }
            Ok(states)
        })
    }

    pub(super) fn forks_of(&self, source: StreamId) -> Result<Vec<StreamId>, BackendError> {
        self.database
            .view()?
            .ask(|tables| queries::forks_of(tables, source))
    }

    pub(super) fn deleted(&self) -> Result<Vec<StreamId>, BackendError> {
        self.database.view()?.ask(queries::deleted)
    }

    /// The streams that are marked as ones that keep trimmed bytes.
    pub(super) fn trimmed(&self) -> Result<Vec<StreamId>, BackendError> {
        self.database.view()?.ask(tables::trimmed)
    }

    pub(super) fn due(&self, now: Timestamp, count_max: usize) -> Result<Vec<StreamName>, BackendError> {
        self.database.view()?.ask(|tables| {
            let mut names = Vec::new();
            for (_, id) in queries::due(tables, now, None, count_max)? {
                names.extend(queries::head(tables, id)?.map(|row| row.state.name));
            }
            Ok(names)
        })
    }

    pub(super) fn control(&self, id: StreamId, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        self.database
            .view()?
            .ask(|tables| queries::control(tables, id, key))
    }

    pub(super) fn controls(
        &self,
        id: StreamId,
        request: &ControlsRequest<'_>,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.database
            .view()?
            .ask(|tables| queries::controls(tables, id, request))
    }

    pub(super) fn read(&self, request: &ReadRequest) -> Result<Slices, ReadError> {
        let found = self.database.view()?.ask(|tables| read::bytes(tables, request));
        found?.ok_or(ReadError::Gone)
    }

    pub(super) fn extents(&self, request: &ReadRequest) -> Result<Vec<AppendExtent>, ReadError> {
        let found = self.database.view()?.ask(|tables| read::extents(tables, request));
        found?.ok_or(ReadError::Gone)
    }

    /// Forgets a deleted stream, with one change if it is not long. Answers its source if that is deleted too, and how many
    /// bytes were removed, those of its rows included: of very many short streams those are most.
    pub(super) fn release(&self, id: StreamId) -> Result<(Option<StreamId>, u64), BackendError> {
        // No view is held meanwhile: pages that are freed under one cannot be used again.
        let row = self.database.view()?.ask(|tables| queries::head(tables, id))?;
        let Some(row) = row else { return Ok((None, 0)) };
        assert!(row.state.deleted, "stream {id} is released but not deleted");
        loop {
            // A crash in between leaves a deleted stream, which is released again.
            let source = self.change(|transaction, meta| {
                if !remove_some(transaction, meta, id, Position::LAST)? {
                    return Ok(None);
                }
                let mut streams = StreamTables::new(transaction);
                if streams.remove_stream(id)?.is_some() {
                    meta.streams = meta.streams.saturating_sub(1);
                }
                let source = row.state.source.as_ref();
                let source = source.map_or(Ok(None), |source| streams.head(source.id))?;
                let source = source.filter(|source| source.state.deleted);
                Ok(Some((
                    source.map(|source| source.state.id),
                    streams.removed_bytes(),
                )))
            })?;
            if let Some((source, row_bytes)) = source {
                return Ok((source, kept_bytes(&row) + row_bytes));
            }
        }
    }

    /// Gives back what nobody can read any more of a stream's own bytes. Answers how many were removed, about.
    pub(super) fn reclaim(&self, id: StreamId) -> Result<u64, BackendError> {
        let view = self.database.view()?;
        let Some(row) = view.ask(|tables| queries::head(tables, id))? else {
            return Ok(0);
        };
        let state_of = |id| {
            let row = view.ask(|tables| queries::head(tables, id))?;
            Ok::<_, BackendError>(row.map(|row| row.state))
        };
        let forks_of = |id| view.ask(|tables| queries::forks_of(tables, id));
        let reachable = oldest_reachable(id, forks_of, state_of)?.min(row.state.tail);
        drop(view);
        if reachable <= row.stored_from {
            return Ok(0);
        }
        while !self.change(|transaction, meta| remove_some(transaction, meta, id, reachable))? {}
        Ok(reachable.since(row.stored_from))
    }
}

fn newest_of(tables: &impl Tables, asked: &[&StreamName]) -> Result<Vec<Option<StreamState>>, Failure> {
    let owners = tables.table(keys::NAMES)?;
    let newest = |name: &&StreamName| {
        let id = queries::owner_in(&owners, name)?;
        let row = id.map_or(Ok(None), |id| queries::with_producers(tables, id))?;
        Ok(row.map(|row| row.state))
    };
    asked.iter().map(newest).collect()
}

/// Removes blocks of a stream that end at or before a position, some at a time. Answers whether those were all.
fn remove_some(
    transaction: &WriteTransaction,
    meta: &mut ShardMeta,
    id: StreamId,
    before: Position,
) -> Result<bool, Failure> {
    let mut streams = StreamTables::new(transaction);
    let Some(mut row) = streams.head(id)? else {
        return Ok(true);
    };
    let before = before.min(row.state.tail);
    let (kept, was_marked) = (kept_bytes(&row), row.keeps_trimmed_bytes());
    if kept == 0 {
        return Ok(true);
    }
    let (from, is_done) = remove_blocks(transaction, id, before)?;
    row.stored_from = row.stored_from.max(if is_done { before } else { from });
    // The block that stands in the row ends at the tail.
    if row.stored_from == row.state.tail {
        row.last_block.clear();
    }
    streams.put_row(&row, deadline(&row.state))?;
    if was_marked && !row.keeps_trimmed_bytes() {
        tables::mark_trimmed(transaction, id, false)?;
    }
    meta.payload_bytes -= (kept - kept_bytes(&row)).min(meta.payload_bytes);
    Ok(is_done)
}

/// The bytes of a stream that count as stored.
pub(super) fn kept_bytes(row: &StreamRow) -> u64 {
    row.state.tail.since(row.stored_from)
}

/// Removes the first blocks of a stream, as far as they end at or before a position. Answers up to where the stream's
/// bytes are gone, and whether all that could go are.
fn remove_blocks(
    transaction: &WriteTransaction,
    id: StreamId,
    before: Position,
) -> Result<(Position, bool), Failure> {
    use redb::ReadableTable as _;
    let mut blocks = transaction.open_table(BLOCKS)?;
    let (first, last) = (pair_key(id.get(), 0), pair_key(id.get(), before.get()));
    let (mut ends, mut rows, mut is_done) = (Vec::new(), 0, true);
    for entry in blocks.range::<&[u8; 16]>(&first..&last)? {
        let (key, value) = entry?;
        let bounds = Block::read(key.value(), value.value())?.bounds();
        if bounds.until > before.get() {
            break;
        }
        if rows >= REMOVED_ROWS_MAX {
            is_done = false;
            break;
        }
        rows += 1 + (bounds.until - bounds.from) / PIECE_BYTES as u64;
        ends.push((*key.value(), bounds.until));
    }
    let end = ends.last().map_or(0, |(_, end)| *end);
    for (key, _) in &ends {
        blocks.remove(key)?;
    }
    let mut pieces = transaction.open_table(PIECES)?;
    pieces.retain_in::<&[u8; 16], _>(&first..&pair_key(id.get(), end), |_, _| false)?;
    Ok((Position::new(end).unwrap_or(Position::LAST), is_done))
}
