//! The format of journals: numbered files in which batches of records follow each other. FORMAT.md describes it.
//!
//! Knows what one journal says and how much of it can be believed, and nothing of the catalog, of segments, or of
//! which journal is written to.
//!
//! | file | what stands there |
//! |---|---|
//! | `header.rs` | what a journal and each of its batches say of themselves |
//! | `entry.rs` | what a batch says of one part of a record |
//! | `batch.rs` | records become the bytes of a batch |
//! | `contents.rs` | what stands in a journal's file: batches, as far as they are whole |
//! | `replay.rs` | a journal is read back, up to where it ends, is torn or is damaged |
//! | `survey.rs` | all of a journal is checked, also behind what is damaged |

mod batch;
mod contents;
mod entry;
mod header;
mod replay;
mod survey;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::codec::Malformed;
use crate::directory::StoreId;
use crate::disk::{Disk, DiskFile};
use header::JournalHeader;

pub(super) use batch::{BATCH_OVERHEAD_BYTES, BatchEncoder, PartPlace};
pub(super) use entry::{AppendMeta, append_meta, check_entry};
pub(super) use replay::{End, has_batches, replay};
pub(super) use survey::survey;

/// Where the first batch of a journal stands; before it is reserved for what the journal says of itself.
pub(super) const FIRST_BATCH_AT: u64 = 4096;
/// Batches begin at multiples of this.
const ALIGNMENT: usize = 8;
/// How much is written at once while a journal is filled with zeros.
const FILL_BYTES: usize = 1 << 20;

/// Something that only a later version of Tailwater writes. To go on without it would lose what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Newer {
    #[error("the format version of {of} is {found}, and this Tailwater knows none later than {known}")]
    Version {
        of: &'static str,
        found: u32,
        known: u32,
    },
    #[error("{of} has the flags {found:#b}, and this Tailwater knows only {known:#b}")]
    Flags {
        of: &'static str,
        found: u32,
        known: u32,
    },
    #[error("an entry is of the kind {found}, and this Tailwater knows none above {known}")]
    Kind { found: u8, known: u8 },
}

/// Why bytes whose checksum is right cannot be understood all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Newer(#[from] Newer),
}

/// Makes a journal of `bytes` bytes and syncs it. Its zeros are really written, so that a sync of batches written
/// over them has nothing else to make durable.
///
/// # Errors
/// As the system says. A part of the file may be there then.
pub(super) fn create(
    disk: &dyn Disk,
    path: &Path,
    number: u64,
    store: StoreId,
    bytes: u64,
) -> io::Result<Arc<dyn DiskFile>> {
    assert!(
        (FIRST_BATCH_AT..=u64::from(u32::MAX)).contains(&bytes),
        "places in a journal have 32 bits"
    );
    let file = disk.create(path)?;
    let zeros = vec![0; FILL_BYTES.min(bytes as usize)];
    let mut filled = 0;
    while filled < bytes {
        let count = (bytes - filled).min(zeros.len() as u64);
        file.write_at(filled, &zeros[..count as usize])?;
        filled += count;
    }
    renew(file.as_ref(), number, store)?;
    Ok(file)
}

/// Makes an empty journal of one that is used up, and syncs it. The batches that still stand in it carry the number
/// that it had, and are not taken for its own.
///
/// # Errors
/// As the system says. The file is neither the old nor the new journal then.
pub(super) fn renew(file: &dyn DiskFile, number: u64, store: StoreId) -> io::Result<()> {
    file.write_at(0, &JournalHeader { number, store }.encode())?;
    file.sync()
}
