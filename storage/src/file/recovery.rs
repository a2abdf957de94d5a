//! Opens a store: finds out what is there (`recovery/files.rs`), replays the journals, and goes on behind them.

mod files;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::catalog::Meta;
use super::journal::{self, End, FIRST_BATCH_AT};
use super::log::{Journal, Log};
use super::options::{Durability, FileOptions};
use super::overlay::Overlay;
use super::place::{Layout, LogPlace};
use super::spares::{self, Spares};
use super::store::{Files, Parts, Store, io_error};
use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::{Disk, DiskFile, Map};
use files::{files_of, keep_for_use, open_catalog, open_segments, remove_strays};

/// Stands in the place of a boot id in a copy of a store, which does not have what was written afterwards.
pub(super) const COPY_BOOT_ID: &str = "copy";
/// Bytes written again at a time.
const REWRITE_BYTES: usize = 1 << 20;

/// What a replay has found.
struct Replayed {
    overlay: Overlay,
    journals: BTreeMap<u64, Arc<dyn Map>>,
    next_batch: u64,
    last_id: u64,
    bytes: u64,
    /// The greatest number of a journal that is there; 0 if there is none.
    newest: u64,
    /// That journal, which is as long as what is in it.
    last: Option<Journal>,
}

/// A journal that is to be replayed.
struct Found {
    number: u64,
    file: Arc<dyn DiskFile>,
    map: Arc<dyn Map>,
}

/// Opens the store of a directory that is locked and identified.
///
/// # Errors
/// If the disk fails, or what is there is damaged: nothing is changed then.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    layout: Layout,
    id: StoreId,
    options: FileOptions,
) -> Result<Store, BackendError> {
    let catalog = open_catalog(disk.as_ref(), &layout, options.catalog_cache_bytes)?;
    let meta = catalog.view()?.meta()?;
    let segments = open_segments(disk.as_ref(), &layout, id, &catalog)?;
    let numbers = files_of(disk.as_ref(), &layout.journals_dir(), "journal")?;
    // A name that an interrupted start gave must not be lost while that of a later journal stays.
    let dir = layout.journals_dir();
    disk.sync_dir(&dir).map_err(io_error("syncing", &dir))?;
    let (folded, unfolded): (Vec<u64>, Vec<u64>) =
        numbers.iter().partition(|number| **number < meta.folded.journal);
    let replayed = replay(disk.as_ref(), &layout, id, &meta, &unfolded)?;
    remove_strays(disk.as_ref(), &layout, &segments)?;
    let newest = replayed
        .newest
        .max(folded.last().copied().unwrap_or(0))
        .max(meta.folded.journal - 1);
    let mut used = keep_for_use(disk.as_ref(), &layout, &folded, options.journal_bytes)?;
    let journal_bytes = options.journal_bytes;
    let (journal, at) = match replayed.last {
        // It is full: the first batch goes to another one.
        Some(last) => {
            let end = last.capacity;
            (last, end)
        }
        None => {
            let used = used.pop();
            let first = spares::make_first(disk.as_ref(), &layout, id, newest + 1, journal_bytes, used)?;
            (first, FIRST_BATCH_AT)
        }
    };
    let mut files = Files {
        journals: replayed.journals,
        segments,
    };
    files.journals.insert(journal.number, Arc::clone(&journal.map));
    let last_id = replayed.last_id.max(meta.last_id);
    let mut store = Store::new(Parts {
        spares: Spares::new(newest.max(journal.number), used),
        log: Log::new(id, journal, at, replayed.next_batch, replayed.bytes),
        overlay: replayed.overlay,
        disk,
        layout,
        options,
        id,
        catalog,
        meta,
        files,
        last_id,
    });
    begin_run(&mut store).map_err(|error| without_space(&store, error))?;
    begin_journal(&store)?;
    Ok(store)
}

/// Goes on in a new journal, if there is space for one. Otherwise what frees space is all that is taken.
fn begin_journal(store: &Store) -> Result<(), BackendError> {
    let mut log = store.log.lock();
    if !log.has_room()
        && let Some(next) = store.spares.take(store, 0)?
    {
        log.rotate(store, next)?;
    }
    drop(log);
    store.spares.keep_back(store)
}

/// Says what to do about a start that has failed for want of space.
fn without_space(store: &Store, error: BackendError) -> BackendError {
    match error {
        BackendError::Io { ref what, ref source } if error.is_full() => {
            let free = store.disk.free_bytes(&store.layout.root).unwrap_or(0);
            BackendError::Io {
                what: format!(
                    "{what}, of whose file system {free} bytes are free: make room on the disk and start again; nothing \
                     is lost"
                ),
                source: Arc::clone(source),
            }
        }
        error => error,
    }
}

/// Notes in the catalog that the store is in use. If the machine has crashed and may have lost what was
/// acknowledged, a new era begins first.
fn begin_run(store: &mut Store) -> Result<(), BackendError> {
    let boot_id = store.disk.boot_id();
    let meta = store.generations.read().meta.clone();
    let same_boot = boot_id.as_ref() == Some(&meta.boot_id);
    let is_fast = matches!(store.options.durability, Durability::Fast { .. });
    let may_have_lost = is_fast && !same_boot || meta.boot_id == COPY_BOOT_ID;
    if may_have_lost && !meta.clean {
        // What was replayed belongs to the old era, and has to be in the catalog before the new one.
        store.fold()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let last_id = store.last_id.get_mut();
        *last_id = (*last_id + 1).max(now.as_micros() as u64);
        store.era = *last_id;
        tracing::warn!(
            "this is a copy, or the machine has crashed since the store was last used: what was written last may \
             be missing, and offsets behind what is there are refused"
        );
    }
    let known = store.generations.read().meta.clone();
    let meta = Meta {
        boot_id: boot_id.unwrap_or_default(),
        clean: false,
        era: store.era,
        ..known.clone()
    };
    // After a crash of the process alone there is nothing to note, and a full disk does not keep the store from that.
    if meta != known {
        let last_id = *store.last_id.get_mut();
        store.put_meta(Meta { last_id, ..meta })?;
    }
    Ok(())
}

impl Store {
    /// Changes only what the catalog says of the store as a whole.
    pub(super) fn put_meta(&self, meta: Meta) -> Result<(), BackendError> {
        let mut change = self.catalog.change()?;
        change.write(|tables| tables.put_meta(&meta))?;
        change.commit()?;
        self.generations.write().meta = meta;
        Ok(())
    }
}

fn replay(
    disk: &dyn Disk,
    layout: &Layout,
    id: StoreId,
    meta: &Meta,
    numbers: &[u64],
) -> Result<Replayed, BackendError> {
    let mut replayed = Replayed {
        overlay: Overlay::default(),
        journals: BTreeMap::new(),
        next_batch: meta.next_batch,
        last_id: 0,
        bytes: 0,
        newest: numbers.last().copied().unwrap_or(0),
        last: None,
    };
    check_row(meta, numbers)?;
    let mut journals = Vec::new();
    for number in numbers {
        let path = layout.journal(*number);
        let file = disk.open_sealed(&path).map_err(io_error("opening", &path))?;
        let len = file.len().map_err(io_error("asking for the length of", &path))?;
        let map = file.map(len).map_err(io_error("mapping", &path))?;
        journals.push(Found {
            number: *number,
            file,
            map,
        });
    }
    // A journal is synced before the next one gets its first batch.
    let last_used = journals
        .iter()
        .rposition(|found| journal::has_batches(&found.map, found.number, id));
    for (index, found) in journals.iter().enumerate() {
        let from = if found.number == meta.folded.journal {
            meta.folded.offset
        } else {
            FIRST_BATCH_AT
        };
        let is_sealed = last_used.is_some_and(|last| index < last);
        let proven = if is_sealed {
            LogPlace {
                journal: found.number,
                offset: u64::MAX,
            }
        } else {
            meta.folded
        };
        let end = replay_one(layout, id, found, from, proven, &mut replayed)?;
        let map = match end {
            None => Arc::clone(&found.map),
            Some((end, synced)) => {
                let path = layout.journal(found.number);
                seal(disk, &path, end, synced, found)?;
                // The bytes behind the cut are gone, and must not be looked at.
                found.file.map(end.offset).map_err(io_error("mapping", &path))?
            }
        };
        replayed.last = Some(Journal {
            number: found.number,
            file: Arc::clone(&found.file),
            capacity: map.len(),
            map: Arc::clone(&map),
            frees_only: true,
        });
        replayed.journals.insert(found.number, map);
    }
    Ok(replayed)
}

/// No journal may be missing between the first and the last one.
pub(super) fn check_row(meta: &Meta, numbers: &[u64]) -> Result<(), BackendError> {
    let first_is_begun = meta.folded.offset > FIRST_BATCH_AT;
    let missing = match numbers.first() {
        Some(first) if *first != meta.folded.journal => Some(meta.folded.journal),
        None if first_is_begun => Some(meta.folded.journal),
        _ => numbers
            .windows(2)
            .find(|pair| pair[1] != pair[0] + 1)
            .map(|pair| pair[0] + 1),
    };
    match missing {
        None => Ok(()),
        Some(number) => Err(BackendError::Damaged {
            what: format!("journal {number} is missing; restore the directory from a backup"),
        }),
    }
}

/// Answers where it ends, and up to where that is known to be durable, unless all of it is.
fn replay_one(
    layout: &Layout,
    id: StoreId,
    found: &Found,
    from: u64,
    proven: LogPlace,
    replayed: &mut Replayed,
) -> Result<Option<(LogPlace, LogPlace)>, BackendError> {
    let path = layout.journal(found.number);
    let (overlay, last_id) = (&replayed.overlay, &mut replayed.last_id);
    let outcome = journal::replay(
        &found.map,
        found.number,
        id,
        from,
        replayed.next_batch,
        proven,
        &mut |part, place| {
            if let tailwater_stream::Part::Stream {
                transition:
                    tailwater_stream::Transition::Create(created) | tailwater_stream::Transition::Stage(created),
                ..
            } = &part
            {
                *last_id = (*last_id).max(created.id.get());
            }
            overlay.apply(&part, found.number, place);
            Ok(())
        },
    )?;
    replayed.next_batch = outcome.next_batch;
    let end = match outcome.end {
        End::Clean { end } => end,
        End::Torn { cut, reason } => {
            tracing::warn!(
                journal = %path.display(), offset = cut.offset, reason,
                "what was written last is not whole, and was never proven durable: it is cut off"
            );
            cut
        }
    };
    replayed.bytes += end.offset - from;
    let is_sealed = proven.offset == u64::MAX;
    Ok((!is_sealed).then_some((end, outcome.synced)))
}

/// Ends a journal for good and proves it durable. What is not known to be synced is written once more first: the
/// kernel forgets what it could not write, and shows it until it is evicted all the same.
fn seal(
    disk: &dyn Disk,
    path: &Path,
    end: LogPlace,
    synced: LogPlace,
    found: &Found,
) -> Result<(), BackendError> {
    let file = disk.open(path).map_err(io_error("opening", path))?;
    let synced_to = if synced.journal == found.number {
        synced.offset
    } else {
        FIRST_BATCH_AT
    };
    let mut buffer = vec![0; REWRITE_BYTES];
    for at in (synced_to..end.offset).step_by(REWRITE_BYTES) {
        let count = (end.offset - at).min(REWRITE_BYTES as u64);
        let bytes = &mut buffer[..count as usize];
        file.read_at(at, bytes).map_err(io_error("reading", path))?;
        file.write_at(at, bytes).map_err(io_error("writing", path))?;
    }
    if end.offset < found.map.len() {
        file.set_len(end.offset).map_err(io_error("cutting off", path))?;
    }
    file.sync().map_err(io_error("syncing", path))
}
