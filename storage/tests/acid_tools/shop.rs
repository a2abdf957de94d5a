//! A store of shards with a model of what it holds, that lives by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::OpenError;
use tailwater_storage::acid::{AcidOptions, AcidStore, AcidVerifyReport, verify};
use tailwater_storage::disk::Disk;
use tailwater_storage::engine::CreateError;

use crate::support::ask::{Rig, run};
use crate::support::faulty_disk::FaultyDisk;

/// The store's directory.
pub(super) const DIR: &str = "/data";
pub(super) const SHARDS: u32 = 4;
/// Streams may have so many names.
const NAMES: u64 = 14;

pub(super) fn try_open(
    disk: &Arc<FaultyDisk>,
    shard_count: u32,
    quick_repair: bool,
) -> Result<AcidStore, OpenError> {
    let options = AcidOptions {
        shard_count,
        cache_bytes: 1 << 20,
        quick_repair,
        ..AcidOptions::new(DIR.into())
    };
    AcidStore::open_unlocked(&(Arc::clone(disk) as Arc<dyn Disk>), &options)
}

/// What a stream shows.
#[derive(Clone, Default)]
struct Shown {
    oldest: u64,
    /// Where its appends end.
    ends: BTreeSet<u64>,
    text: String,
}

impl Shown {
    fn tail(&self) -> u64 {
        self.oldest + self.text.len() as u64
    }
}

/// All that is known of a store which nobody has open.
#[derive(Clone, Default)]
pub(super) struct Model {
    streams: BTreeMap<String, Shown>,
}

impl Model {
    /// Opens a store and compares all that it shows. Answers which stream shows something else.
    pub(super) fn difference(&self, disk: &Arc<FaultyDisk>) -> Option<String> {
        let store = try_open(disk, SHARDS, false).unwrap_or_else(|error| panic!("it does not open: {error}"));
        let mut different = None;
        run(async {
            let rig = Rig::over(Arc::new(store));
            for (name, shown) in &self.streams {
                if rig.text(name).await != shown.text {
                    different = Some(name.clone());
                }
            }
            stop(rig);
        });
        different
    }

    #[track_caller]
    pub(super) fn assert_is_in(&self, disk: &Arc<FaultyDisk>) {
        assert_eq!(self.difference(disk), None);
    }
}

/// Ends an engine, and with it all who use its store.
pub(super) fn stop(rig: Rig) {
    let Rig { engine, .. } = rig;
    engine.stop();
}

pub(super) struct Shop {
    pub(super) rng: Rng,
    pub(super) disk: Arc<FaultyDisk>,
    rig: Rig,
    pub(super) model: Model,
}

impl Shop {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let disk = FaultyDisk::new(rng.u64(..));
        Self::on(disk, rng, Model::default())
    }

    /// A life that begins with what an earlier one has left.
    pub(super) fn on(disk: Arc<FaultyDisk>, mut rng: Rng, model: Model) -> Self {
        let store = try_open(&disk, SHARDS, rng.bool()).expect("the store opens");
        Self {
            rig: Rig::over(Arc::new(store)),
            rng,
            disk,
            model,
        }
    }

    fn some(&mut self) -> Option<String> {
        let names: Vec<_> = self.model.streams.keys().cloned().collect();
        self.rng.choice(names)
    }

    /// Something by chance. False once the disk has stopped: it is not known then what came of it.
    pub(super) async fn step(&mut self) -> bool {
        let new = format!("stream/{}", self.rng.u64(..NAMES));
        let is_free = !self.model.streams.contains_key(&new);
        match (self.rng.u8(..20), self.some()) {
            (0..=3, _) if is_free => self.create(&new, None).await,
            (4..=6, Some(source)) if is_free => self.create(&new, Some(&source)).await,
            (7, Some(name)) => {
                let is_done = self.rig.engine.delete(&crate::author::name(&name)).await.is_ok();
                self.model.streams.remove(&name);
                is_done
            }
            (8..=9, Some(name)) => self.trim(&name).await,
            (_, Some(name)) => {
                let bytes = match self.rng.u8(..10) {
                    0 => self.rng.usize(70_000..200_000),
                    1..=3 => self.rng.usize(500..20_000),
                    _ => self.rng.usize(1..100),
                };
                let more = self.words(bytes);
                self.append(&name, &more).await
            }
            _ => true,
        }
    }

    fn words(&mut self, bytes: usize) -> String {
        std::iter::repeat_with(|| self.rng.alphanumeric())
            .take(bytes)
            .collect()
    }

    pub(super) async fn create(&mut self, name: &str, source: Option<&str>) -> bool {
        let created = match source {
            Some(source) => self.rig.fork(name, source).await,
            None => self.rig.create(name).await,
        };
        match created {
            Ok(_) => {
                let shown = source.and_then(|source| self.model.streams.get(source));
                let shown = shown.cloned().unwrap_or_default();
                self.model.streams.insert(name.to_owned(), shown);
                true
            }
            Err(CreateError::HeldByForks) => true,
            Err(error) => {
                assert!(self.disk.has_stopped(), "{error}");
                false
            }
        }
    }

    pub(super) async fn append(&mut self, name: &str, more: &str) -> bool {
        if let Err(error) = self.rig.append(name, more).await {
            assert!(self.disk.has_stopped(), "{error}");
            self.model.streams.remove(name);
            return false;
        }
        let shown = self.model.streams.get_mut(name).expect("it is there");
        shown.text.push_str(more);
        shown.ends.insert(shown.tail());
        true
    }

    async fn trim(&mut self, name: &str) -> bool {
        let shown = &self.model.streams[name];
        let ends: Vec<_> = shown.ends.range(shown.oldest..).copied().collect();
        let Some(before) = self.rng.choice(ends) else {
            return true;
        };
        let name_parsed = crate::author::name(name);
        let Ok(reader) = self.rig.engine.look(&name_parsed).await else {
            return false;
        };
        let token = reader.incarnation().token(crate::author::at(before));
        drop(reader);
        if let Err(error) = self.rig.engine.trim(&name_parsed, token).await {
            assert!(self.disk.has_stopped(), "{error:?}");
            self.model.streams.remove(name);
            return false;
        }
        let shown = self.model.streams.get_mut(name).expect("it is there");
        shown.text.drain(..(before - shown.oldest) as usize);
        shown.oldest = before;
        true
    }

    pub(super) async fn delete(&mut self, name: &str) {
        self.rig.delete(name).await;
        self.model.streams.remove(name);
    }

    /// The store is left as a server leaves it that ends.
    pub(super) fn stop(self) -> (Arc<FaultyDisk>, Model) {
        stop(self.rig);
        (self.disk, self.model)
    }
}

/// All files with all their bytes.
fn contents(disk: &FaultyDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| {
        let bytes = disk.read_file(&path);
        (path, bytes)
    };
    disk.files().into_iter().map(read).collect()
}

pub(super) fn check(disk: &FaultyDisk) -> AcidVerifyReport {
    verify(disk, Path::new(DIR)).expect("it is a store, however damaged")
}

/// Checks a store that must be whole, and that this changes nothing.
#[track_caller]
pub(super) fn checked(disk: &FaultyDisk) -> AcidVerifyReport {
    let (before, operations) = (contents(disk), disk.operations());
    let report = check(disk);
    assert_eq!(report.damage, [""; 0]);
    assert!(report.is_clean());
    assert!(contents(disk) == before, "the directory was changed");
    assert_eq!(disk.operations(), operations, "something was written");
    report
}

/// The files of the shards.
pub(super) fn shard_files(disk: &FaultyDisk) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.extension().is_some_and(|found| found == "redb"));
    files
}

pub(super) fn shard_bytes(disk: &FaultyDisk) -> u64 {
    let lens = shard_files(disk)
        .into_iter()
        .map(|path| disk.read_file(&path).len());
    lens.sum::<usize>() as u64
}
