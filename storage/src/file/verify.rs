//! Checks all of a store that nobody has open, and changes nothing of it. Goes on behind what is damaged, so that
//! all damage is told of at once.

mod journals;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::catalog::{Audit, Catalog, CatalogView};
use super::place::Layout;
use super::segment::Segment;
use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::directory::{self, OpenError};
use crate::disk::Disk;
use crate::findings::Findings;

pub(super) use journals::replay;

/// Memory for the catalog's pages.
const CATALOG_CACHE_BYTES: u64 = 64 << 20;

/// What is in a store, and what is damaged of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// What is damaged and where, one sentence each.
    pub damage: Vec<String>,
    /// Damages beside those.
    pub more_damage: u64,
    /// What looks strange and is none, one sentence each: what crashes leave behind.
    pub notes: Vec<String>,
    /// Streams in the catalog.
    pub streams: u64,
    /// Those of them that are deleted and not released.
    pub deleted_streams: u64,
    /// Segments that the catalog knows.
    pub segments: u64,
    /// Their length in bytes.
    pub segment_bytes: u64,
    /// Runs of bytes in them.
    pub runs: u64,
    /// Those of them that no stream wants any more.
    pub dead_runs: u64,
    /// Appends in all runs.
    pub appends: u64,
    /// Messages in all appends.
    pub messages: u64,
    /// Journals that are not wholly in the catalog and in segments.
    pub journals: u64,
    /// Whole batches in them that are not.
    pub journal_batches: u64,
    /// What the batches take.
    pub journal_bytes: u64,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
    }

    fn with(self, found: Findings) -> Self {
        Self {
            damage: found.damage,
            more_damage: found.more_damage,
            notes: found.notes,
            ..self
        }
    }
}

/// Checks the store of a directory. Nobody may have it open meanwhile: see
/// [`verify_directory`](super::verify_directory). A store on which no more than its identity can be made out is a
/// damaged one.
///
/// # Errors
/// [`OpenError`] if there is no store, a later version has made it, or it cannot be looked at.
pub fn verify(disk: &dyn Disk, data_dir: &Path) -> Result<VerifyReport, OpenError> {
    let layout = Layout::new(data_dir);
    let mut found = Findings::default();
    let Some(description) = directory::checked_identity(disk, &layout.root, &mut found)? else {
        return Ok(VerifyReport::default().with(found));
    };
    let mut verification = Verification {
        disk,
        layout,
        store: description.store,
        report: VerifyReport::default(),
        found,
    };
    let catalog = verification.catalog()?;
    verification.segments(catalog.as_ref())?;
    if let Some((view, Audit { meta: Some(meta), .. })) = &catalog {
        verification.journals(view, meta)?;
    } else if catalog.is_some() {
        let note = "the journals were not checked: where they begin is not known";
        verification.found.note(note.to_owned());
    }
    Ok(verification.report.with(verification.found))
}

struct Verification<'a> {
    disk: &'a dyn Disk,
    layout: Layout,
    store: StoreId,
    report: VerifyReport,
    found: Findings,
}

/// A look at the catalog, and what its rows say.
type Checked = (CatalogView, Audit);

impl Verification<'_> {
    /// The numbers of a kind of file, in order.
    fn numbers_in(&mut self, dir: &Path, extension: &str) -> Result<Vec<u64>, OpenError> {
        let mut numbers = Vec::new();
        for name in directory::checked_names(self.disk, dir, &mut self.found)? {
            if let Some(number) = Layout::number_of(&name, extension) {
                numbers.push(number);
            } else if dir.join(&name) != self.layout.kept_back_file() {
                self.found
                    .note(format!("{} is no part of the store", dir.join(name).display()));
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// None if there is no catalog that can be read.
    fn catalog(&mut self) -> Result<Option<Checked>, OpenError> {
        let path = self.layout.catalog_file();
        let root = self.layout.root.clone();
        let names = directory::checked_names(self.disk, &root, &mut self.found)?;
        if !names.iter().any(|name| name == "catalog.redb") {
            self.without_catalog(&path)?;
            return Ok(None);
        }
        if let Err(error) = Catalog::check_pages(self.disk, &path, CATALOG_CACHE_BYTES) {
            // What redb makes of pages that are not what it wrote is not to be relied on.
            self.found.add(error.to_string());
            self.found
                .note("segments were checked only for themselves, and journals not at all".to_owned());
            return Ok(None);
        }
        let checked = Catalog::look_at(self.disk, &path, CATALOG_CACHE_BYTES)
            .and_then(|catalog| catalog.view())
            .and_then(|view| Ok((view.audit()?, view)));
        let (mut audit, view) = match checked {
            Ok(checked) => checked,
            Err(error) => {
                self.found.add(error.to_string());
                return Ok(None);
            }
        };
        self.found.append(std::mem::take(&mut audit.found));
        self.report.streams = audit.sums.streams;
        self.report.deleted_streams = audit.sums.deleted;
        Ok(Some((view, audit)))
    }

    /// Only a new store has none. A copy of one that has segments has no journals.
    fn without_catalog(&mut self, path: &Path) -> Result<(), OpenError> {
        let (journals, segments) = (self.layout.journals_dir(), self.layout.segments_dir());
        let there = if !self.numbers_in(&journals, "journal")?.is_empty() {
            "journals"
        } else if !self.numbers_in(&segments, "segment")?.is_empty() {
            "segments"
        } else {
            let note = "the store is new, and nothing was ever kept in it";
            self.found.note(note.to_owned());
            return Ok(());
        };
        let what = format!("{} is missing though there are {there}", path.display());
        self.found.add(what);
        Ok(())
    }

    /// Those that the catalog knows; without one, all that are there.
    fn segments(&mut self, catalog: Option<&Checked>) -> Result<(), OpenError> {
        let dir = self.layout.segments_dir();
        let numbers = self.numbers_in(&dir, "segment")?;
        let Some((view, audit)) = catalog else {
            for number in numbers {
                self.segment(number);
            }
            return Ok(());
        };
        for row in &audit.segments {
            let Some((segment, report)) = self.segment(row.number) else {
                continue;
            };
            let path = self.layout.segment(row.number);
            if (row.bytes, row.payload_bytes) != (report.bytes, segment.payload_bytes()) {
                self.found.add(format!(
                    "{} has {} bytes, {} of payload, and the catalog says {} and {}",
                    path.display(),
                    report.bytes,
                    segment.payload_bytes(),
                    row.bytes,
                    row.payload_bytes
                ));
            }
            let known = audit.known.get(&row.number).copied().unwrap_or_default().runs;
            if let Err(error) = self.compare_runs(view, &segment, known) {
                self.found.add(error.to_string());
            }
        }
        let is_known = |number: &u64| audit.segments.iter().any(|row| row.number == *number);
        for number in audit.known.keys().filter(|number| !is_known(number)) {
            let what = format!("the catalog has runs in segment {number}, which it does not know");
            self.found.add(what);
        }
        for number in numbers.iter().filter(|number| !is_known(number)) {
            let path = self.layout.segment(*number);
            self.found.note(format!(
                "{} was not finished or is not wanted any more",
                path.display()
            ));
        }
        Ok(())
    }

    /// Checks a segment for itself. None if it cannot be opened.
    fn segment(&mut self, number: u64) -> Option<(Segment, super::segment::SegmentReport)> {
        let path = self.layout.segment(number);
        let segment = match Segment::open(self.disk, &path, number, self.store) {
            Ok(segment) => segment,
            Err(error) => {
                self.found.add(error.to_string());
                return None;
            }
        };
        let report = segment.survey(&mut |error| self.found.add(error.to_string()));
        self.report.segments += 1;
        self.report.segment_bytes += report.bytes;
        self.report.runs += report.runs;
        self.report.appends += report.appends;
        self.report.messages += report.messages;
        Some((segment, report))
    }

    /// Compares what a segment lists with the runs that the catalog knows there, of which there are `known`.
    fn compare_runs(
        &mut self,
        view: &CatalogView,
        segment: &Segment,
        known: u64,
    ) -> Result<(), BackendError> {
        // That the list cannot be read was told of when the segment was checked.
        let Ok(runs) = segment.runs() else { return Ok(()) };
        let number = segment.number();
        let mut found = 0;
        for run in &runs {
            match view.knows_run(number, run)? {
                Some(true) => found += 1,
                Some(false) => {
                    found += 1;
                    self.found.add(format!(
                        "segment {number}, stream {}, positions {} to {}: the catalog says otherwise where it is",
                        run.stream, run.from, run.until
                    ));
                }
                None => self.report.dead_runs += 1,
            }
        }
        if found != known {
            let missing = known.saturating_sub(found);
            self.found.add(format!(
                "segment {number}: {missing} runs that the catalog has there are not in it"
            ));
        }
        Ok(())
    }
}
