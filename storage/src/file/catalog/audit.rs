//! Reads every row of the catalog, and asks whether the rows agree with each other.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition};
use tailwater_stream::{Position, Producers, StreamId};

use super::queries;
use super::rows::{self as own_rows, Meta, SegmentRow};
use super::tables;
use crate::database::{self, Failure};
use crate::file::segment::Run;
use crate::file::verify::Findings;
use crate::stream_tables::deadline;
use crate::stream_tables::keys;
use crate::stream_tables::queries as streams;
use crate::stream_tables::rows::{self, StreamRow};

/// Runs that the catalog knows in one segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::file) struct Known {
    pub(in crate::file) runs: u64,
    /// Bytes of them that their streams still want.
    pub(in crate::file) live_bytes: u64,
}

/// What the rows say, and what is wrong with them.
#[derive(Default)]
pub(in crate::file) struct Audit {
    pub(in crate::file) found: Findings,
    /// None if it cannot be read.
    pub(in crate::file) meta: Option<Meta>,
    pub(in crate::file) segments: Vec<SegmentRow>,
    /// By the number of the segment.
    pub(in crate::file) known: HashMap<u64, Known, RandomState>,
    pub(in crate::file) streams: u64,
    pub(in crate::file) deleted: u64,
    payload_bytes: u64,
    last_id: u64,
    /// A row of a stream cannot be read, so that sums over all of them say nothing.
    is_partial: bool,
}

/// A look at one table.
type Pass<'a> = fn(&mut Auditor<'a>) -> Result<(), Failure>;
type Table<K> = ReadOnlyTable<K, keys::Bytes>;

struct Auditor<'a> {
    transaction: &'a ReadTransaction,
    streams: Table<&'static [u8; 8]>,
    audit: Audit,
    /// The last stream that was asked for, for rows of one stream stand together.
    last_asked: Option<(StreamId, bool)>,
}

/// Looks at every table. What cannot be read is passed over.
pub(super) fn audit(transaction: &ReadTransaction) -> Result<Audit, Failure> {
    let mut auditor = Auditor {
        transaction,
        streams: transaction.open_table(keys::STREAMS)?,
        audit: Audit::default(),
        last_asked: None,
    };
    let passes: [(&str, Pass<'_>); 10] = [
        ("meta", Auditor::meta),
        ("streams", Auditor::streams),
        ("names", Auditor::names),
        ("producers", Auditor::producers),
        ("controls", Auditor::controls),
        ("forks", Auditor::forks),
        ("deleted", Auditor::deleted),
        ("deadlines", Auditor::deadlines),
        ("runs", Auditor::runs),
        ("segments", Auditor::segments),
    ];
    for (table, pass) in passes {
        if let Err(failure) = pass(&mut auditor) {
            auditor.audit.is_partial = true;
            auditor.wrong(table, &said(&failure));
        }
    }
    auditor.sums();
    Ok(auditor.audit)
}

fn said(failure: &Failure) -> String {
    match failure {
        Failure::Storage(error) => error.to_string(),
        Failure::Damaged(what) => what.clone(),
    }
}

impl Auditor<'_> {
    fn wrong(&mut self, table: &str, what: &str) {
        self.audit.found.add(format!("catalog, table {table}: {what}"));
    }

    /// Says what is wrong with a row, and goes on.
    fn row<T>(&mut self, table: &str, row: Result<T, Failure>) -> Option<T> {
        row.map_err(|failure| self.wrong(table, &said(&failure))).ok()
    }

    fn head(&self, id: StreamId) -> Result<Option<StreamRow>, Failure> {
        let key = keys::id_key(id);
        let value = self.streams.get(&key)?;
        value
            .map(|value| Ok(StreamRow::read(id, &key, value.value())?.0))
            .transpose()
    }

    /// Whether there is a row of a stream, whatever it says.
    fn is_there(&mut self, id: StreamId) -> Result<bool, Failure> {
        if let Some((_, known)) = self.last_asked.filter(|(asked, _)| *asked == id) {
            return Ok(known);
        }
        let found = self.streams.get(&keys::id_key(id))?.is_some();
        self.last_asked = Some((id, found));
        Ok(found)
    }

    fn meta(&mut self) -> Result<(), Failure> {
        self.audit.meta = Some(queries::meta(self.transaction)?);
        database::changes(self.transaction).map(drop)
    }

    fn streams(&mut self) -> Result<(), Failure> {
        let era = self.audit.meta.as_ref().map_or(u64::MAX, |meta| meta.era);
        for entry in self.transaction.open_table(keys::STREAMS)?.iter()? {
            let (key, value) = entry?;
            let read = keys::id_of_key("streams", key.value())
                .and_then(|id| StreamRow::read(id, key.value(), value.value()));
            let Some((row, stored)) = self.row("streams", read) else {
                self.audit.is_partial = true;
                continue;
            };
            let id = row.state.id;
            self.audit.streams += 1;
            self.audit.deleted += u64::from(row.state.deleted);
            self.audit.payload_bytes += row.state.tail.since(row.stored_from);
            self.audit.last_id = self.audit.last_id.max(id.get());
            if row.era > era {
                let what = format!("stream {id} is of the era {}, and the store of {era}", row.era);
                self.wrong("streams", &what);
            }
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
            let runs = queries::runs(self.transaction, id, Position::ZERO);
            if let Some(runs) = self.row("runs", runs)
                && let Some(what) = gap_of(&row, &runs)
            {
                self.wrong("runs", &format!("stream {id}: {what}"));
            }
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
        let owner = match streams::id_of(self.transaction, name) {
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
            let Some(id) = self.row("names", streams::read_name(key.value(), value.value())) else {
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

    /// Whether something belongs to a stream that is there.
    fn check_owner(&mut self, table: &str, key: &[u8]) -> Result<(), Failure> {
        let owner = keys::id_of_key(table, key.get(..8).unwrap_or(key));
        if let Some(owner) = self.row(table, owner)
            && !self.is_there(owner)?
        {
            let what = format!("the row {} is of a stream that is not there", key.escape_ascii());
            self.wrong(table, &what);
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
            self.row("controls", streams::read_control(key.value(), value.value()));
            self.check_owner("controls", key.value())?;
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

    fn runs(&mut self) -> Result<(), Failure> {
        // Runs of one stream stand together.
        let mut kept = None;
        for entry in self.transaction.open_table(tables::RUNS)?.iter()? {
            let (key, value) = entry?;
            // The pass over streams tells of rows that cannot be read, and this one of those without a stream.
            let Ok((segment, run)) = own_rows::read_run(key.value(), value.value()) else {
                self.audit.is_partial = true;
                self.check_owner("runs", key.value())?;
                continue;
            };
            let stored_from = match kept {
                Some((stream, stored_from)) if stream == run.stream => stored_from,
                // The pass over streams tells of a row that cannot be read, and this one of one that is not there.
                _ => self
                    .head(run.stream)
                    .ok()
                    .flatten()
                    .map_or(Position::ZERO, |row| row.stored_from),
            };
            kept = Some((run.stream, stored_from));
            let known = self.audit.known.entry(segment).or_default();
            known.runs += 1;
            known.live_bytes += run.until.get().saturating_sub(run.from.get()) - run.dead_bytes(stored_from);
            self.check_owner("runs", key.value())?;
        }
        Ok(())
    }

    fn segments(&mut self) -> Result<(), Failure> {
        for entry in self.transaction.open_table(tables::SEGMENTS)?.iter()? {
            let (key, value) = entry?;
            let read = SegmentRow::read(key.value(), value.value());
            let row = self.row("segments", read);
            self.audit.segments.extend(row);
        }
        Ok(())
    }

    /// What was counted, against what is there.
    fn sums(&mut self) {
        let Some(meta) = self.audit.meta.clone() else {
            return;
        };
        let mut wrong = Vec::new();
        let newest = self.audit.segments.iter().map(|row| row.number).max();
        if newest.is_some_and(|newest| newest >= meta.next_segment) {
            let next = meta.next_segment;
            wrong.push(format!(
                "the next segment would be {next}, which is there already"
            ));
        }
        if self.audit.last_id.max(meta.era) > meta.last_id {
            let last = meta.last_id;
            wrong.push(format!(
                "the last id is said to be {last}, and there is a greater one"
            ));
        }
        if !self.audit.is_partial {
            let mut compare = |what: &str, said: u64, found: u64| {
                if said != found {
                    wrong.push(format!("{said} {what} are counted, and {found} are there"));
                }
            };
            compare("streams", meta.streams, self.audit.streams);
            compare("bytes", meta.payload_bytes, self.audit.payload_bytes);
            for row in &self.audit.segments {
                let known = self.audit.known.get(&row.number).copied().unwrap_or_default();
                let what = format!("live bytes of segment {}", row.number);
                compare(&what, row.live_bytes, known.live_bytes);
            }
        }
        wrong.iter().for_each(|what| self.wrong("meta", what));
    }
}

/// What is missing of a stream's own bytes, or there twice.
fn gap_of(row: &StreamRow, runs: &[(u64, Run)]) -> Option<String> {
    let tail = row.state.tail;
    let Some((_, first)) = runs.first() else {
        let from = row.stored_from;
        return (from < tail).then(|| format!("no run has the positions {from} to {tail}"));
    };
    if first.from > row.stored_from {
        return Some(format!(
            "no run has the positions {} to {}",
            row.stored_from, first.from
        ));
    }
    if first.until <= row.stored_from {
        return Some(format!(
            "the run from {} to {} is not wanted any more",
            first.from, first.until
        ));
    }
    let broken = runs.windows(2).find(|pair| pair[0].1.until != pair[1].1.from);
    if let Some([(_, one), (_, next)]) = broken {
        return Some(format!(
            "a run ends at {}, and the next one begins at {}",
            one.until, next.from
        ));
    }
    let end = runs.last().map(|(_, run)| run.until)?;
    (end != tail).then(|| format!("its runs end at {end}, and its tail is {tail}"))
}
