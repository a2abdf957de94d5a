//! Reads every row of the catalog, and asks whether the rows agree with each other.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use redb::{ReadTransaction, ReadableTable as _};
use tailwater_stream::Position;

use super::queries;
use super::rows::{self, Meta, SegmentRow};
use super::tables;
use crate::database::{self, Failure};
use crate::findings::Findings;
use crate::stream_tables::audit::{Auditor, Coverage, Sums};
use crate::stream_tables::rows::StreamRow;

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
    pub(in crate::file) sums: Sums,
}

/// Looks at every table. What cannot be read is passed over.
pub(super) fn audit(transaction: &ReadTransaction) -> Result<Audit, Failure> {
    let mut auditor = Auditor::new(transaction, "catalog".to_owned())?;
    let mut audit = Audit::default();
    auditor.pass("meta", |auditor| audit.meta(auditor));
    let era = audit.meta.as_ref().map_or(u64::MAX, |meta| meta.era);
    auditor.stream_tables(|auditor, row| check_stream(auditor, row, era));
    auditor.pass("runs", |auditor| audit.runs(auditor));
    auditor.pass("segments", |auditor| audit.segments(auditor));
    auditor.pass("trimmed", check_trimmed);
    audit.compare_sums(&mut auditor);
    audit.sums = auditor.sums;
    audit.found = auditor.found;
    Ok(audit)
}

/// Looks at what only the catalog has of a stream.
fn check_stream(auditor: &mut Auditor<'_>, row: &StreamRow, era: u64) -> Result<(), Failure> {
    let id = row.state.id;
    if row.era > era {
        let what = format!("stream {id} is of the era {}, and the store of {era}", row.era);
        auditor.wrong("streams", &what);
    }
    if !row.last_block.is_empty() {
        auditor.wrong("streams", &format!("stream {id} has bytes in its row"));
    }
    let runs = queries::runs(auditor.transaction, id, Position::ZERO);
    let Some(runs) = auditor.row("runs", runs) else {
        return Ok(());
    };
    let mut coverage = Coverage::of(row, "run");
    for (_, run) in &runs {
        coverage.show(run.from.get(), run.until.get());
    }
    if let Some(what) = coverage.gap() {
        auditor.wrong("runs", &format!("stream {id}: {what}"));
    }
    Ok(())
}

/// That a stream is missing there is no damage: a catalog of an earlier build has none of those that were trimmed before.
fn check_trimmed(auditor: &mut Auditor<'_>) -> Result<(), Failure> {
    for id in queries::trimmed(auditor.transaction)? {
        let Ok(row) = auditor.head(id) else { continue };
        if row.is_none_or(|row| !row.keeps_trimmed_bytes()) {
            auditor.wrong("trimmed", &format!("stream {id} keeps nothing that was trimmed"));
        }
    }
    Ok(())
}

impl Audit {
    fn meta(&mut self, auditor: &mut Auditor<'_>) -> Result<(), Failure> {
        self.meta = Some(queries::meta(auditor.transaction)?);
        database::changes(auditor.transaction).map(drop)
    }

    fn runs(&mut self, auditor: &mut Auditor<'_>) -> Result<(), Failure> {
        // Runs of one stream stand together.
        let mut kept = None;
        for entry in auditor.transaction.open_table(tables::RUNS)?.iter()? {
            let (key, value) = entry?;
            // The pass over streams tells of rows that cannot be read, and this one of those without a stream.
            let Ok((segment, run)) = rows::read_run(key.value(), value.value()) else {
                auditor.is_partial = true;
                auditor.check_owner("runs", key.value())?;
                continue;
            };
            let stored_from = match kept {
                Some((stream, stored_from)) if stream == run.stream => stored_from,
                // The pass over streams tells of a row that cannot be read, and this one of one that is not there.
                _ => auditor
                    .head(run.stream)
                    .ok()
                    .flatten()
                    .map_or(Position::ZERO, |row| row.stored_from),
            };
            kept = Some((run.stream, stored_from));
            let known = self.known.entry(segment).or_default();
            known.runs += 1;
            known.live_bytes += run.until.get().saturating_sub(run.from.get()) - run.dead_bytes(stored_from);
            auditor.check_owner("runs", key.value())?;
        }
        Ok(())
    }

    fn segments(&mut self, auditor: &mut Auditor<'_>) -> Result<(), Failure> {
        for entry in auditor.transaction.open_table(tables::SEGMENTS)?.iter()? {
            let (key, value) = entry?;
            let read = SegmentRow::read(key.value(), value.value());
            self.segments.extend(auditor.row("segments", read));
        }
        Ok(())
    }

    /// What was counted, against what is there.
    fn compare_sums(&self, auditor: &mut Auditor<'_>) {
        let Some(meta) = &self.meta else { return };
        let newest = self.segments.iter().map(|row| row.number).max();
        if newest.is_some_and(|newest| newest >= meta.next_segment) {
            let next = meta.next_segment;
            let what = format!("the next segment would be {next}, which is there already");
            auditor.wrong("meta", &what);
        }
        let sums = auditor.sums;
        auditor.compare_last_id(meta.last_id, sums.last_id.max(meta.era));
        auditor.compare("streams", meta.streams, sums.streams);
        auditor.compare("bytes", meta.payload_bytes, sums.payload_bytes);
        for row in &self.segments {
            let known = self.known.get(&row.number).copied().unwrap_or_default();
            let what = format!("live bytes of segment {}", row.number);
            auditor.compare(&what, row.live_bytes, known.live_bytes);
        }
    }
}
