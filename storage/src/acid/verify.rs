//! Checks all of a store that nobody has open, and changes nothing of it. Goes on behind what is damaged, so that
//! all damage is told of at once.
//!
//! | file | what stands there |
//! |---|---|
//! | `rows.rs` | the rows of one shard, against each other and those of other shards |
//! | `bytes.rs` | a stream's own bytes: blocks and pieces |

mod bytes;
mod rows;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use super::layout::{self, Layout};
use super::tables::ShardMeta;
use crate::database::{Database, DatabaseOptions, LOG_BYTES_MAX, View, log_path};
use crate::directory::{self, OpenError, StoreId};
use crate::disk::Disk;
use crate::findings::Findings;
use rows::Audit;

/// Memory for the pages of all shards together.
const CACHE_BYTES: u64 = 64 << 20;

/// What is in a store, and what is damaged of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AcidVerifyReport {
    /// What is damaged and where, one sentence each.
    pub damage: Vec<String>,
    /// Damages beside those.
    pub more_damage: u64,
    /// What looks strange and is none, one sentence each: what crashes leave behind.
    pub notes: Vec<String>,
    /// Streams that are not released.
    pub streams: u64,
    /// Those of them that are deleted.
    pub deleted_streams: u64,
    /// Shards whose files are there.
    pub shards: u64,
    /// The length of those files in bytes.
    pub shard_bytes: u64,
    /// Rows of appends that were committed together.
    pub blocks: u64,
    /// Appends in all blocks.
    pub appends: u64,
    /// Messages in all appends.
    pub messages: u64,
}

impl AcidVerifyReport {
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
pub fn verify(disk: &dyn Disk, data_dir: &Path) -> Result<AcidVerifyReport, OpenError> {
    let mut found = Findings::default();
    let Some(description) = directory::checked_identity(disk, data_dir, &mut found)? else {
        return Ok(AcidVerifyReport::default().with(found));
    };
    let mut verification = Verification {
        disk,
        layout: Layout::new(disk, data_dir),
        store: description.store,
        has_logs: layout::has_logs(description.format),
        report: AcidVerifyReport::default(),
        found,
    };
    if let Some(count) = verification.count()? {
        verification.shards(count)?;
    }
    Ok(verification.report.with(verification.found))
}

struct Verification<'a> {
    disk: &'a dyn Disk,
    layout: Layout<'a>,
    store: StoreId,
    has_logs: bool,
    report: AcidVerifyReport,
    found: Findings,
}

impl Verification<'_> {
    fn names_in(&mut self, dir: &Path) -> Result<Vec<String>, OpenError> {
        directory::checked_names(self.disk, dir, &mut self.found)
    }

    fn note_foreign(&mut self, dir: &Path, name: &str) {
        let path = dir.join(name);
        self.found
            .note(format!("{} is no part of the store", path.display()));
    }

    /// How many shards there are; none if none can be checked.
    fn count(&mut self) -> Result<Option<u32>, OpenError> {
        let dir = self.layout.dir.clone();
        let names = self.names_in(&dir)?;
        match self.layout.count() {
            Ok(Some(count)) => {
                let shards = self.layout.shards_dir(count);
                let own = [Path::new(layout::SHARDS), Path::new(layout::SPARE), &shards];
                let own = own.map(|own| dir.join(own));
                for name in names.iter().filter(|name| !own.contains(&dir.join(name))) {
                    self.note_foreign(&dir, name);
                }
                return Ok(Some(count));
            }
            Ok(None) if names.iter().any(|name| name == layout::SHARDS_DRAFT) => {
                self.found
                    .note("the store was not made to its end, and nothing was ever kept in it".to_owned());
                return Ok(None);
            }
            Ok(None) if names.is_empty() => {
                self.found
                    .note("the store is new, and nothing was ever kept in it".to_owned());
                return Ok(None);
            }
            Ok(None) => {
                let path = dir.join(layout::SHARDS);
                self.found
                    .add(format!("{} is missing though there are shards", path.display()));
            }
            Err(error @ OpenError::Damaged { .. }) => self.found.add(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(self.count_by_name(&names))
    }

    /// How many shards the name of their directory says, if there is just one such name.
    fn count_by_name(&mut self, names: &[String]) -> Option<u32> {
        let said = |name: &String| {
            let count = name.strip_prefix("shards-")?.parse().ok()?;
            let is_named_so = self.layout.shards_dir(count).ends_with(name);
            (layout::is_count(count) && is_named_so).then_some(count)
        };
        let said: Vec<_> = names.iter().filter_map(said).collect();
        let &[count] = &said[..] else {
            self.found.note("no shard was checked".to_owned());
            return None;
        };
        self.found.note(format!(
            "the shards were checked as {count}, which their directory says"
        ));
        Some(count)
    }

    fn shards(&mut self, count: u32) -> Result<(), OpenError> {
        let dir = self.layout.shards_dir(count);
        let names = self.names_in(&dir)?;
        let files: Vec<_> = (0..count)
            .map(|number| self.layout.shard(number, count))
            .collect();
        let is_own = |path: &Path| {
            let is_log = |shard: &PathBuf| self.has_logs && log_path(shard) == path;
            files.iter().any(|shard| shard == path || is_log(shard))
        };
        let foreign: Vec<_> = names.iter().filter(|name| !is_own(&dir.join(name))).collect();
        for name in foreign {
            self.note_foreign(&dir, name);
        }
        let mut shards = Vec::new();
        for (number, path) in (0..count).zip(&files) {
            shards.push(if names.iter().any(|name| path.ends_with(name)) {
                self.pages(number, count, path)?
            } else {
                self.found.add(format!("{} is missing", path.display()));
                None
            });
        }
        for (number, shard) in (0..count).zip(&shards) {
            let Some(shard) = shard else {
                self.found.note(format!(
                    "the rows of shard {number:03} were not checked, nor what others have to do with them"
                ));
                continue;
            };
            let expected = ShardMeta::new(self.store, number, count);
            match shard.ask(|transaction| rows::audit(transaction, &expected, &shards)) {
                Ok(audit) => self.count_in(audit),
                Err(error) => self.found.add(error.to_string()),
            }
        }
        Ok(())
    }

    /// Compares the checksums of a shard's pages. None if what stands in them is not to be relied on.
    fn pages(&mut self, number: u32, count: u32, path: &Path) -> Result<Option<View>, OpenError> {
        let file = self.disk.open_sealed(path).map_err(OpenError::io("open", path))?;
        self.report.shards += 1;
        self.report.shard_bytes += file.len().map_err(OpenError::io("read", path))?;
        let options = DatabaseOptions {
            log_bytes_max: self.has_logs.then_some(LOG_BYTES_MAX),
            ..layout::cached(CACHE_BYTES, count)
        };
        let shard = Database::check_pages(self.disk, path, options)
            .and_then(|()| Database::look_at(self.disk, path, options)?.view());
        let expected = ShardMeta::new(self.store, number, count);
        let shard = shard.and_then(|shard| {
            rows::check_identity(&shard, path, &expected)?;
            Ok(shard)
        });
        Ok(shard.map_err(|error| self.found.add(error.to_string())).ok())
    }

    fn count_in(&mut self, audit: Audit) {
        self.found.append(audit.found);
        self.report.streams += audit.sums.streams;
        self.report.deleted_streams += audit.sums.deleted;
        self.report.blocks += audit.bytes.blocks;
        self.report.appends += audit.bytes.appends;
        self.report.messages += audit.bytes.messages;
    }
}
