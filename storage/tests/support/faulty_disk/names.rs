//! The directories of the faulty disk: which names there are, and which of them the medium has.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// Tells files apart, whatever their names.
pub(super) type FileId = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Dir,
    File(FileId),
}

/// All names, each by its whole path. The root and the process's own directory are always there.
#[derive(Clone, Default)]
pub(super) struct Names {
    current: BTreeMap<PathBuf, Entry>,
    durable: BTreeMap<PathBuf, Entry>,
    /// What was changed since and may still be lost, in order.
    unsynced: Vec<Change>,
    last_change: u64,
}

#[derive(Clone)]
struct Change {
    number: u64,
    path: PathBuf,
    /// What the name stands for from now on.
    entry: Option<Entry>,
    /// The change without which the medium never has this one: a renamed file has one of its names at least.
    needs: Option<u64>,
}

impl Names {
    /// The file of this name.
    pub(super) fn file(&self, path: &Path) -> io::Result<FileId> {
        match self.current.get(path) {
            Some(Entry::File(id)) => Ok(*id),
            Some(Entry::Dir) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// The files and their names, in order of the names.
    pub(super) fn files(&self) -> impl Iterator<Item = (&PathBuf, FileId)> {
        self.current.iter().filter_map(|(path, entry)| match entry {
            Entry::File(id) => Some((path, *id)),
            Entry::Dir => None,
        })
    }

    /// The files that have a name, or may have one again.
    pub(super) fn named_or_not_forgotten(&self) -> BTreeSet<FileId> {
        let unsynced = self.unsynced.iter().filter_map(|change| change.entry.as_ref());
        let entries = self.current.values().chain(self.durable.values()).chain(unsynced);
        entries
            .filter_map(|entry| match entry {
                Entry::File(id) => Some(*id),
                Entry::Dir => None,
            })
            .collect()
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let dir = self.existing(dir)?;
        let names = self.current.keys().filter(|path| path.parent() == Some(dir));
        Ok(names
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    /// A directory that is there, as it stands before the names in it: the process's own is asked for as `.`.
    pub(super) fn existing<'a>(&self, dir: &'a Path) -> io::Result<&'a Path> {
        if dir.as_os_str().is_empty() {
            return Err(ErrorKind::NotFound.into());
        }
        let dir = dir.strip_prefix(".").unwrap_or(dir);
        self.existing_dir(dir)?;
        Ok(dir)
    }

    fn existing_dir(&self, dir: &Path) -> io::Result<()> {
        match self.current.get(dir) {
            Some(Entry::Dir) => Ok(()),
            Some(Entry::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None if is_root(dir) => Ok(()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Gives a file a name that is free.
    pub(super) fn add(&mut self, path: &Path, id: FileId) -> io::Result<()> {
        self.existing_dir(parent(path))?;
        if self.current.contains_key(path) || is_root(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.change(path, Some(Entry::File(id)), None);
        Ok(())
    }

    pub(super) fn make_dir(&mut self, dir: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        for dir in dir.ancestors() {
            match self.existing_dir(dir) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::NotFound => missing.push(dir),
                Err(error) => return Err(error),
            }
        }
        for dir in missing.into_iter().rev() {
            self.change(dir, Some(Entry::Dir), None);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.change(path, None, None);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, dir: &Path) -> io::Result<()> {
        match self.current.get(dir) {
            Some(Entry::Dir) => {}
            Some(Entry::File(_)) => return Err(ErrorKind::NotADirectory.into()),
            None => return Err(ErrorKind::NotFound.into()),
        }
        if self.current.keys().any(|path| path.parent() == Some(dir)) {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(dir, None, None);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.file(from)?;
        self.existing_dir(parent(to))?;
        match self.current.get(to) {
            Some(Entry::Dir) => return Err(ErrorKind::IsADirectory.into()),
            // Two names of one file both stay: POSIX has it so.
            Some(Entry::File(other)) if *other == id => return Ok(()),
            Some(Entry::File(_)) | None => {}
        }
        let added = self.change(to, Some(Entry::File(id)), None);
        self.change(from, None, Some(added));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        let dir = self.existing(dir)?;
        let synced = self.unsynced.extract_if(.., |change| parent(&change.path) == dir);
        for change in synced {
            set(&mut self.durable, change.path, change.entry);
        }
        Ok(())
    }

    /// What the medium has after the power is gone: each name in one of the states that it went through since its
    /// directory was synced. A directory that is lost takes along what is in it.
    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        let kept = self.choose_kept(rng);
        for (change, kept) in self.unsynced.drain(..).zip(kept) {
            if kept {
                set(&mut self.durable, change.path, change.entry);
            }
        }
        let mut found = BTreeMap::new();
        // Directories stand before what is in them in this order.
        for (path, entry) in std::mem::take(&mut self.durable) {
            let above = parent(&path);
            if is_root(above) || found.get(above) == Some(&Entry::Dir) {
                found.insert(path, entry);
            }
        }
        self.durable.clone_from(&found);
        self.current = found;
    }

    /// Which of the un-synced changes have reached the medium: of each name any number, the earlier ones first.
    fn choose_kept(&self, rng: &mut Rng) -> Vec<bool> {
        let mut counts = BTreeMap::<&Path, usize>::new();
        for change in &self.unsynced {
            *counts.entry(&change.path).or_default() += 1;
        }
        for count in counts.values_mut() {
            *count = rng.usize(0..=*count);
        }
        let mut kept: Vec<bool> = self
            .unsynced
            .iter()
            .map(|change| {
                let left = counts.get_mut(&*change.path).expect("each name was counted");
                let kept = *left > 0;
                *left -= usize::from(kept);
                kept
            })
            .collect();
        while let Some(needed) = self.first_missing(&kept) {
            let path = &self.unsynced[needed].path;
            for (change, kept) in self.unsynced[..=needed].iter().zip(&mut kept) {
                *kept |= change.path == *path;
            }
        }
        kept
    }

    /// A change that is not kept although one that is kept needs it.
    fn first_missing(&self, kept: &[bool]) -> Option<usize> {
        let needed = self.unsynced.iter().zip(kept).filter(|(_, kept)| **kept);
        needed.filter_map(|(change, _)| change.needs).find_map(|number| {
            let index = self.unsynced.iter().position(|change| change.number == number)?;
            (!kept[index]).then_some(index)
        })
    }

    fn change(&mut self, path: &Path, entry: Option<Entry>, needs: Option<u64>) -> u64 {
        self.last_change += 1;
        set(&mut self.current, path.to_owned(), entry);
        self.unsynced.push(Change {
            number: self.last_change,
            path: path.to_owned(),
            entry,
            needs,
        });
        self.last_change
    }
}

fn set(names: &mut BTreeMap<PathBuf, Entry>, path: PathBuf, entry: Option<Entry>) {
    match entry {
        Some(entry) => names.insert(path, entry),
        None => names.remove(&path),
    };
}

fn is_root(dir: &Path) -> bool {
    dir.parent().is_none()
}

/// The directory of a name. The root is its own.
fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
