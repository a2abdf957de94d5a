//! Where the shards of a store are, and how many.
//!
//! The directory `acid` has a file `SHARDS`, which says how many there are, and a directory of that many shards. Before they
//! are made that file is there under the name `SHARDS.tmp`, and gets its name once they are durable: with that one and
//! without `SHARDS`, what is there was not finished, and is made again. Without either, shards are damage: they may be
//! all that somebody has. A file `SPARE` holds nothing. In a directory of format 1 the shards have no logs.
//!
//! Beside `SHARDS`, a directory of another number of shards is what `reshard.rs` has left when it was
//! interrupted: before `SHARDS` was replaced what it was making, and afterwards what it had copied.

use std::io;
use std::path::{Path, PathBuf};

use super::placement::SHARDS_MAX;
use super::shard::Shard;
use super::tables::ShardMeta;
use super::{AcidOptions, MODE, era};
use crate::database::{DatabaseOptions, LOG_BYTES_MAX, log_path};
use crate::directory::{self, Description, Identity, OpenError, StoreId};
use crate::disk::Disk;

/// The directory in a store's that every store of this mode has.
pub(super) const PART: &str = "acid";

/// The file in that directory that keeps space back.
pub(super) const SPARE: &str = "SPARE";
pub(super) const SHARDS: &str = "SHARDS";
pub(super) const SHARDS_DRAFT: &str = "SHARDS.tmp";
/// What a shard is called in messages.
const CALLED: &str = "shard";
/// Memory for the pages of a shard that is only looked at.
const LOOK_CACHE_BYTES: u64 = 4 << 20;
/// `SHARDS` has two lines.
const SHARDS_BYTES_MAX: u64 = 64;

/// The places of a store's shards.
pub(super) struct Layout<'d> {
    disk: &'d dyn Disk,
    pub(super) dir: PathBuf,
}

/// Opens the shards of a store, or makes them if it has none.
pub(super) fn open(
    disk: &dyn Disk,
    options: &AcidOptions,
    identity: &Identity,
) -> Result<Vec<Shard>, OpenError> {
    let store = identity.store;
    let layout = Layout::new(disk, &options.data_dir);
    let wanted = options.shard_count;
    let database = DatabaseOptions {
        opens_quickly: options.quick_repair,
        log_bytes_max: Some(options.log_bytes_max),
        ..cached(options.cache_bytes, wanted)
    };
    let count = layout.count()?;
    if let Some(found) = count.filter(|count| *count != wanted) {
        let dir = options.data_dir.clone();
        return Err(OpenError::OtherShardCount { dir, found, wanted });
    }
    upgrade(disk, &options.data_dir, identity.format, store)?;
    let Some(count) = count else {
        layout.begin(wanted)?;
        let shards = layout.make_shards(database, wanted, |number| ShardMeta::new(store, number, wanted))?;
        layout.sync(wanted)?;
        layout.put_count()?;
        return Ok(shards);
    };
    // The run that made the shards may have ended between giving SHARDS its name and making that durable.
    layout.sync_dir(&layout.dir)?;
    let shards = (0..count).map(|number| {
        let meta = ShardMeta::new(store, number, count);
        Ok(Shard::open(disk, &layout.shard(number, count), database, &meta)?)
    });
    let shards = shards.collect::<Result<Vec<_>, OpenError>>()?;
    era::begin(&shards)?;
    // All shards that `SHARDS` tells of are there and whole, so that nobody needs any others.
    if let Err(error) = layout.remove_leftovers(count) {
        tracing::warn!(%error, "what a change of the number of shards has left could not be removed");
    }
    Ok(shards)
}

/// Makes a directory of an older format one of this one: its shards get logs. Nobody may have it open.
pub(super) fn upgrade(
    disk: &dyn Disk,
    data_dir: &Path,
    format: u32,
    store: StoreId,
) -> Result<(), OpenError> {
    if has_logs(format) {
        return Ok(());
    }
    let layout = Layout::new(disk, data_dir);
    let count = layout.known_count()?;
    for number in 0..count {
        let log = log_path(&layout.shard(number, count));
        match disk.create(&log) {
            // An earlier run was interrupted at this.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => drop(made.map_err(OpenError::io("make", &log))?),
        }
    }
    if count > 0 {
        layout.sync_dir(&layout.shards_dir(count))?;
    }
    // A build that knows no logs must refuse the directory before there is anything in one.
    directory::put_identity(disk, data_dir, MODE, store)
}

/// Opens the shards of a store that nobody has open, and changes nothing of them. There are none if it
/// was never made to the end.
pub(super) fn look_at(
    disk: &dyn Disk,
    data_dir: &Path,
    found: &Description,
) -> Result<Vec<Shard>, OpenError> {
    let layout = Layout::new(disk, data_dir);
    let count = layout.known_count()?;
    let database = DatabaseOptions {
        log_bytes_max: has_logs(found.format).then_some(LOG_BYTES_MAX),
        ..cached(LOOK_CACHE_BYTES, 1)
    };
    let shards = (0..count).map(|number| {
        let path = layout.shard(number, count);
        let meta = ShardMeta::new(found.store, number, count);
        Ok(Shard::look_at(disk, &path, database, &meta)?)
    });
    shards.collect()
}

/// How so many shards are used that have so much memory together.
pub(super) fn cached(cache_bytes: u64, count: u32) -> DatabaseOptions {
    DatabaseOptions {
        called: CALLED,
        cache_bytes: cache_bytes / u64::from(count),
        opens_quickly: false,
        log_bytes_max: Some(LOG_BYTES_MAX),
    }
}

/// Whether the shards of a directory of this format have logs.
pub(super) fn has_logs(format: u32) -> bool {
    format >= 2
}

impl<'d> Layout<'d> {
    pub(super) fn new(disk: &'d dyn Disk, data_dir: &Path) -> Self {
        Self {
            disk,
            dir: data_dir.join(PART),
        }
    }

    fn shards_file(&self) -> PathBuf {
        self.dir.join(SHARDS)
    }

    fn draft(&self) -> PathBuf {
        self.dir.join(SHARDS_DRAFT)
    }

    /// The directory of so many shards.
    pub(super) fn shards_dir(&self, count: u32) -> PathBuf {
        self.dir.join(shards_name(count))
    }

    pub(super) fn shard(&self, number: u32, count: u32) -> PathBuf {
        self.shards_dir(count).join(shard_name(number))
    }

    /// How many shards there are; none if there is no `SHARDS`.
    pub(super) fn count(&self) -> Result<Option<u32>, OpenError> {
        let path = self.shards_file();
        let file = match self.disk.open_sealed(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(OpenError::io("open", &path))?,
        };
        let len = file
            .len()
            .map_err(OpenError::io("read", &path))?
            .min(SHARDS_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(len).expect("a few bytes")];
        file.read_at(0, &mut bytes)
            .map_err(OpenError::io("read", &path))?;
        let text = String::from_utf8_lossy(&bytes);
        let said = text.lines().next().and_then(|line| line.strip_prefix("shards: "));
        let count = said.and_then(|count| count.parse().ok());
        // Comparing texts refuses every other spelling, and a checksum that is not right.
        let count = count.filter(|count| is_count(*count) && text_of(*count) == text);
        count.map(Some).ok_or_else(|| OpenError::Damaged {
            dir: self.dir.clone(),
            what: "its file SHARDS does not say how many shards there are".to_owned(),
        })
    }

    /// How many shards there are: none if the store was never made to its end.
    ///
    /// # Errors
    /// If that is not known though there are shards.
    pub(super) fn known_count(&self) -> Result<u32, OpenError> {
        match self.count()? {
            Some(count) => Ok(count),
            None => self.check_unfinished().map(|()| 0),
        }
    }

    /// Without `SHARDS`, there is nothing but what was noted to be unfinished.
    fn check_unfinished(&self) -> Result<(), OpenError> {
        let names = self.list(&self.dir)?;
        let is_begun = names.iter().any(|name| name == SHARDS_DRAFT);
        match names.first() {
            Some(found) if !is_begun => Err(OpenError::Damaged {
                dir: self.dir.clone(),
                what: format!("it has {found:?} and no file SHARDS, which says how many shards there are"),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Notes durably that the first shards are being made.
    fn begin(&self, count: u32) -> Result<(), OpenError> {
        self.check_unfinished()?;
        self.draft_count(count)?;
        self.sync_dir(&self.dir)
    }

    /// Makes the shards of a number, whose directory has nothing else afterwards. Their names are durable once they are
    /// [synced](Self::sync).
    pub(super) fn make_shards(
        &self,
        database: DatabaseOptions,
        count: u32,
        meta: impl Fn(u32) -> ShardMeta,
    ) -> Result<Vec<Shard>, OpenError> {
        let dir = self.shards_dir(count);
        self.disk
            .make_dir(&dir)
            .map_err(OpenError::io("make the directory", &dir))?;
        // An earlier run may have been interrupted while it made some.
        for name in self.list(&dir)? {
            self.remove(&dir.join(name))?;
        }
        let shards = (0..count).map(|number| self.make_shard(database, number, count, meta(number)));
        shards.collect()
    }

    /// Makes one of so many shards, in a directory that is there.
    pub(super) fn make_shard(
        &self,
        database: DatabaseOptions,
        number: u32,
        count: u32,
        meta: ShardMeta,
    ) -> Result<Shard, OpenError> {
        let path = self.shard(number, count);
        Ok(Shard::create(self.disk, &path, database, meta)?)
    }

    /// Makes the names of shards durable.
    pub(super) fn sync(&self, count: u32) -> Result<(), OpenError> {
        self.sync_dir(&self.shards_dir(count))?;
        self.sync_dir(&self.dir)
    }

    /// Writes durably, beside `SHARDS`, what that is to say. A draft that is there keeps its name meanwhile: without it, and
    /// without `SHARDS`, nothing tells that the shards were never finished.
    pub(super) fn draft_count(&self, count: u32) -> Result<(), OpenError> {
        let draft = self.draft();
        let opened = match self.disk.create(&draft) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.disk.open(&draft),
            created => created,
        };
        let written = opened.and_then(|file| {
            file.set_len(0)?;
            file.write_at(0, text_of(count).as_bytes())?;
            file.sync()
        });
        written.map_err(OpenError::io("write", &draft))
    }

    /// Lets `SHARDS` say, durably, what was drafted. The shards that it tells of are the store's from then on, and must
    /// be durable before.
    pub(super) fn put_count(&self) -> Result<(), OpenError> {
        let (draft, path) = (self.draft(), self.shards_file());
        self.disk
            .rename(&draft, &path)
            .map_err(OpenError::io("make", &path))?;
        self.sync_dir(&self.dir)
    }

    /// Removes what is there beside the store's own shards, of which there are `count`: shards of other numbers, and a
    /// draft of `SHARDS`. What is none of these stays.
    ///
    /// # Errors
    /// If something cannot be removed. The store is none the worse for it.
    pub(super) fn remove_leftovers(&self, count: u32) -> Result<(), OpenError> {
        let names = self.list(&self.dir)?;
        let has_draft = names.iter().any(|name| name == SHARDS_DRAFT);
        let numbers = (0..=SHARDS_MAX.ilog2()).map(|bits| 1 << bits);
        let others: Vec<u32> = numbers
            .filter(|other| *other != count && names.contains(&shards_name(*other)))
            .collect();
        if others.is_empty() && !has_draft {
            return Ok(());
        }
        // What `SHARDS` says must not be lost while that is lost which it said before.
        self.sync_dir(&self.dir)?;
        if has_draft {
            self.remove(&self.draft())?;
        }
        for other in others {
            self.remove_shards(other)?;
        }
        self.sync_dir(&self.dir)
    }

    /// Removes the directory of so many shards. One that has anything else stays as it is.
    pub(super) fn remove_shards(&self, count: u32) -> Result<(), OpenError> {
        let dir = self.shards_dir(count);
        let names = self.list(&dir)?;
        let is_shard = |name: &String| {
            let shards = (0..count).map(|number| self.shard(number, count));
            let files = shards.flat_map(|shard| [log_path(&shard), shard]);
            files.into_iter().any(|file| file.ends_with(name))
        };
        if let Some(found) = names.iter().find(|name| !is_shard(name)) {
            tracing::warn!(dir = %dir.display(), found, "a directory of shards that are not used has something else");
            return Ok(());
        }
        for name in names {
            self.remove(&dir.join(name))?;
        }
        self.disk
            .remove_dir(&dir)
            .map_err(OpenError::io("remove the directory", &dir))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, OpenError> {
        self.disk.list(dir).map_err(OpenError::io("list", dir))
    }

    fn remove(&self, path: &Path) -> Result<(), OpenError> {
        self.disk.remove(path).map_err(OpenError::io("remove", path))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), OpenError> {
        self.disk.sync_dir(dir).map_err(OpenError::io("sync", dir))
    }
}

/// Whether there can be so many shards.
pub(super) fn is_count(count: u32) -> bool {
    count.is_power_of_two() && count <= SHARDS_MAX
}

fn shards_name(count: u32) -> String {
    format!("shards-{count:03}")
}

fn shard_name(number: u32) -> String {
    format!("{number:03}.redb")
}

fn text_of(count: u32) -> String {
    let body = format!("shards: {count}\n");
    let crc = crc32fast::hash(body.as_bytes());
    format!("{body}crc: {crc:08x}\n")
}

/// How many shards a store has; none if it was never made to the end.
pub(super) fn shard_count(disk: &dyn Disk, data_dir: &Path) -> Result<Option<u32>, OpenError> {
    Layout::new(disk, data_dir).count()
}
