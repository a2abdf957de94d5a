//! Where the shards of a store are, and how many.
//!
//! The directory `acid` has a file `SHARDS`, which says how many there are, and a directory of that many shards. Before they
//! are made that file is there under the name `SHARDS.tmp`, and gets its name once they are durable: with that one and
//! without `SHARDS`, what is there was not finished, and is made again. Without either, shards are damage: they may be
//! all that somebody has. A file `SPARE` holds nothing.

use std::io;
use std::path::{Path, PathBuf};

use super::AcidOptions;
use super::shard::Shard;
use super::tables::ShardMeta;
use crate::database::DatabaseOptions;
use crate::directory::{OpenError, StoreId};
use crate::disk::Disk;

/// The directory in a store's that every store of this mode has.
pub(super) const PART: &str = "acid";

/// The file in that directory that keeps space back.
pub(super) const SPARE: &str = "SPARE";
const SHARDS: &str = "SHARDS";
const SHARDS_DRAFT: &str = "SHARDS.tmp";
/// What a shard is called in messages.
const CALLED: &str = "shard";
/// Memory for the pages of a shard that is only looked at.
const LOOK_CACHE_BYTES: u64 = 4 << 20;
/// `SHARDS` has two lines.
const SHARDS_BYTES_MAX: u64 = 64;

struct Layout {
    dir: PathBuf,
}

impl Layout {
    fn new(data_dir: &Path) -> Self {
        Self {
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
    fn shards_dir(&self, count: u32) -> PathBuf {
        self.dir.join(format!("shards-{count:03}"))
    }

    fn shard(&self, number: u32, count: u32) -> PathBuf {
        self.shards_dir(count).join(format!("{number:03}.redb"))
    }
}

/// Opens the shards of a store, or makes them if it has none.
pub(super) fn open(disk: &dyn Disk, options: &AcidOptions, store: StoreId) -> Result<Vec<Shard>, OpenError> {
    let layout = Layout::new(&options.data_dir);
    let found = read_count(disk, &layout)?;
    let is_new = found.is_none();
    let count = found.unwrap_or(options.shard_count);
    if count != options.shard_count {
        return Err(OpenError::OtherShardCount {
            dir: options.data_dir.clone(),
            found: count,
            wanted: options.shard_count,
        });
    }
    let dir = layout.shards_dir(count);
    if is_new {
        begin(disk, &layout, count)?;
        make_room(disk, &dir)?;
    }
    let database = DatabaseOptions {
        called: CALLED,
        cache_bytes: options.cache_bytes / u64::from(count),
        opens_quickly: options.quick_repair,
    };
    let shards = (0..count).map(|number| {
        let path = layout.shard(number, count);
        let meta = ShardMeta::new(store, number, count);
        if is_new {
            Shard::create(disk, &path, database, meta)
        } else {
            Shard::open(disk, &path, database, &meta)
        }
    });
    let shards = shards.collect::<Result<Vec<_>, _>>()?;
    if is_new {
        for dir in [&dir, &layout.dir] {
            disk.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
        }
        let (draft, path) = (layout.draft(), layout.shards_file());
        disk.rename(&draft, &path).map_err(OpenError::io("make", &path))?;
        disk.sync_dir(&layout.dir)
            .map_err(OpenError::io("sync", &layout.dir))?;
    }
    Ok(shards)
}

/// Opens the shards of a store that nobody has open, and changes nothing of them. None if it was never made to the end.
pub(super) fn look_at(disk: &dyn Disk, data_dir: &Path, store: StoreId) -> Result<Vec<Shard>, OpenError> {
    let layout = Layout::new(data_dir);
    let count = read_count(disk, &layout)?.unwrap_or(0);
    let database = DatabaseOptions {
        called: CALLED,
        cache_bytes: LOOK_CACHE_BYTES,
        opens_quickly: false,
    };
    let shards = (0..count).map(|number| {
        let path = layout.shard(number, count);
        let meta = ShardMeta::new(store, number, count);
        Ok(Shard::look_at(disk, &path, database, &meta)?)
    });
    shards.collect()
}

/// An empty directory for shards. An earlier run may have been interrupted while it made some.
fn make_room(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    disk.make_dir(dir)
        .map_err(OpenError::io("make the directory", dir))?;
    for name in disk.list(dir).map_err(OpenError::io("list", dir))? {
        let path = dir.join(name);
        disk.remove(&path).map_err(OpenError::io("remove", &path))?;
    }
    Ok(())
}

fn text_of(count: u32) -> String {
    let body = format!("shards: {count}\n");
    let crc = crc32fast::hash(body.as_bytes());
    format!("{body}crc: {crc:08x}\n")
}

/// How many shards a store has; none if it was never made to the end.
pub(super) fn shard_count(disk: &dyn Disk, data_dir: &Path) -> Result<Option<u32>, OpenError> {
    read_count(disk, &Layout::new(data_dir))
}

/// None if there is no `SHARDS`.
fn read_count(disk: &dyn Disk, layout: &Layout) -> Result<Option<u32>, OpenError> {
    let path = layout.shards_file();
    let file = match disk.open_sealed(&path) {
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
    let count = count.filter(|count| text_of(*count) == text);
    count.map(Some).ok_or_else(|| OpenError::Damaged {
        dir: layout.dir.clone(),
        what: "its file SHARDS does not say how many shards there are".to_owned(),
    })
}

/// Notes durably that shards are being made.
fn begin(disk: &dyn Disk, layout: &Layout, count: u32) -> Result<(), OpenError> {
    let names = disk
        .list(&layout.dir)
        .map_err(OpenError::io("list", &layout.dir))?;
    let draft = layout.draft();
    if names.iter().any(|name| name == SHARDS_DRAFT) {
        disk.remove(&draft).map_err(OpenError::io("remove", &draft))?;
    } else if let Some(found) = names.first() {
        return Err(OpenError::Damaged {
            dir: layout.dir.clone(),
            what: format!("it has {found:?} and no file SHARDS, which says how many shards there are"),
        });
    }
    let written = disk.create(&draft).and_then(|file| {
        file.write_at(0, text_of(count).as_bytes())?;
        file.sync()
    });
    written.map_err(OpenError::io("write", &draft))?;
    disk.sync_dir(&layout.dir)
        .map_err(OpenError::io("sync", &layout.dir))
}
