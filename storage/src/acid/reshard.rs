//! Gives a store that nobody uses another number of shards.
//!
//! All rows are copied into new shards beside the old ones, `SHARDS` is replaced once those are durable, and then the old
//! ones go. So whenever it is cut off the store has the old shards or the new ones, whole. What is left of the others is
//! removed when the store is opened, or when this is done again.

use std::path::Path;
use std::sync::Arc;

use tailwater_stream::StreamName;

use super::copy::ShardCopy;
use super::layout::{self, Layout};
use super::placement::{Placement, SHARDS_MAX};
use super::prefixes::Prefixes;
use super::shard::Shard;
use super::tables::{self, ShardMeta};
use super::{AcidOptions, AcidStore};
use crate::backend::BackendError;
use crate::directory::OpenError;
use crate::disk::{Disk, RealDisk};

/// Memory for the caches of the old shards together, and for those of the new ones.
const CACHE_BYTES: u64 = 64 << 20;
/// Names that are looked at in one go.
const NAMES_MAX: usize = 4096;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReshardReport {
    /// Shards that there were. If it is as many as there are now, nothing was done.
    pub from: u32,
    /// Shards that there are.
    pub to: u32,
    /// Streams in them that are not released.
    pub streams: u64,
    /// Bytes of their payloads that are kept.
    pub stored_bytes: u64,
    /// The length of the shards' files.
    pub shard_bytes: u64,
}

/// Gives the store of a directory so many shards, a power of two up to [`SHARDS_MAX`]. No other process may use it
/// meanwhile. There must be room for the new shards beside the old ones.
///
/// # Errors
/// [`OpenError`], which says what to do. The store is as it was then, or has the new shards.
///
/// # Panics
/// If it is another number.
pub fn reshard(data_dir: &Path, to: u32) -> Result<ReshardReport, OpenError> {
    let _lock = super::lock(data_dir)?;
    reshard_unlocked(&(Arc::new(RealDisk) as Arc<dyn Disk>), data_dir, to)
}

/// As [`reshard`], on any disk. Whoever calls it sees to it that nobody else has the store open.
///
/// # Errors
/// As [`reshard`].
///
/// # Panics
/// As [`reshard`].
pub fn reshard_unlocked(disk: &Arc<dyn Disk>, data_dir: &Path, to: u32) -> Result<ReshardReport, OpenError> {
    assert!(to.is_power_of_two() && to <= SHARDS_MAX, "{to} shards");
    super::identity_of(disk.as_ref(), data_dir)?;
    let layout = Layout::new(disk.as_ref(), data_dir);
    // A store that was not made to the end is made with the new number.
    let from = layout.count()?.unwrap_or(to);
    let options = AcidOptions {
        shard_count: from,
        cache_bytes: CACHE_BYTES,
        ..AcidOptions::new(data_dir.to_owned())
    };
    // Opening it also mends what a crash has left, and removes what is left of an earlier run of this.
    let old = AcidStore::open_unlocked(disk, &options)?;
    if from == to {
        return report(from, &old.shards);
    }
    let new = copy(&layout, &old, to).inspect_err(|_| {
        // It must not keep a disk full that has no room for it.
        if let Err(error) = layout.remove_shards(to) {
            tracing::warn!(%error, "shards that were not finished could not be removed");
        }
    })?;
    let report = report(from, &new)?;
    drop((old, new));
    layout.sync(to)?;
    layout.draft_count(to)?;
    layout.put_count()?;
    layout.remove_leftovers(to)?;
    Ok(report)
}

/// Makes shards that have all that the store's have, durably but for their names.
fn copy(layout: &Layout<'_>, old: &AcidStore, to: u32) -> Result<Vec<Shard>, OpenError> {
    let last_id = old.shards.iter().map(|shard| shard.meta().last_id).max();
    let meta = |number| ShardMeta {
        last_id: last_id.unwrap_or(0),
        ..ShardMeta::new(old.id, number, to)
    };
    let mut copy = ShardCopy::new(layout.make_shards(layout::cached(CACHE_BYTES, to), to, meta)?);
    for shard in &old.shards {
        copy.take(&shard.view()?, &|| Ok::<_, BackendError>(()))?;
    }
    let shards = copy.finish()?;
    lead_names(&shards)?;
    Ok(shards)
}

/// Leads the names of streams to where they stand, if that is not where the names say. In a store of one shard they lead
/// nowhere, for there they are found without.
fn lead_names(shards: &[Shard]) -> Result<(), BackendError> {
    let prefixes = Prefixes::load(shards)?;
    for shard in shards {
        let mut after = None;
        loop {
            let names = shard.names(after.as_ref(), NAMES_MAX)?;
            let Some((last, _)) = names.last() else {
                break;
            };
            after = Some(last.clone());
            let mut elsewhere: Vec<Vec<(StreamName, Placement)>> = vec![Vec::new(); shards.len()];
            for (name, id) in names {
                let (own, stands) = (Placement::of_name(&name), Placement::of_id(id));
                if own != stands && !prefixes.placements_of(&name).contains(&stands) {
                    elsewhere[own.shard(shards.len())].push((name, stands));
                }
            }
            for (looked_up, names) in shards.iter().zip(&elsewhere) {
                let names: Vec<_> = names.iter().map(|(name, to)| (name.as_str(), *to)).collect();
                let not_led = looked_up.not_led(&names)?;
                if !not_led.is_empty() {
                    looked_up.change(|transaction, _| tables::put_redirects(transaction, &not_led))?;
                }
            }
        }
    }
    Ok(())
}

fn report(from: u32, shards: &[Shard]) -> Result<ReshardReport, OpenError> {
    let mut report = ReshardReport {
        from,
        to: u32::try_from(shards.len()).expect("at most a few hundred"),
        streams: 0,
        stored_bytes: 0,
        shard_bytes: 0,
    };
    for shard in shards {
        let meta = shard.meta();
        report.streams += meta.streams;
        report.stored_bytes += meta.payload_bytes;
        report.shard_bytes += shard.file_bytes()?;
    }
    Ok(report)
}
