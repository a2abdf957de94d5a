//! Which memory shows which sealed file, so that bytes can be sent from the file itself. Knows no sockets.
//!
//! # Why the file has the same bytes
//!
//! A map is told of here after it was made and forgotten before it is undone, both by the map itself. So whatever
//! memory is found here is that map's at the moment: no other memory has the same addresses. A slice that lies in it
//! shows the file at its distance from the map's beginning, and keeps the map from being undone while it is held.
//!
//! What was sent from a file stands in the socket as a reference to the file's pages, and may be read later than the
//! call returns, or again. So only files are told of that nobody ever writes again, not even when no map of
//! them is left. Unlinking is no writing: a page that somebody refers to keeps its bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLock;

/// Where bytes stand in a file that nobody writes any more.
#[derive(Debug, Clone)]
pub struct SealedPlace {
    /// Lives as long as this, whatever becomes of its maps.
    pub file: Arc<File>,
    /// Where the first of the bytes stands, from the file's beginning.
    pub offset: u64,
}

struct Shown {
    end: usize,
    file: Arc<File>,
}

/// By the address of their first byte. They do not overlap. As many as there are segments open.
static MAPS: RwLock<BTreeMap<usize, Shown>> = RwLock::new(BTreeMap::new());

/// Where these bytes stand in a sealed file; none if they are not all from one map of such a file.
pub fn sealed_place_of(bytes: &[u8]) -> Option<SealedPlace> {
    place_of(addresses(bytes.as_ptr(), bytes.len()))
}

fn place_of(Range { start, end }: Range<usize>) -> Option<SealedPlace> {
    let maps = MAPS.read();
    let (map_start, shown) = maps.range(..=start).next_back()?;
    let is_within = start < end && end <= shown.end;
    is_within.then(|| SealedPlace {
        file: Arc::clone(&shown.file),
        offset: (start - map_start) as u64,
    })
}

/// Tells of a map until it is dropped. Whoever holds it undoes the map afterwards.
pub(super) struct Told {
    start: usize,
}

impl Told {
    pub(super) fn of(start: *const u8, len: usize, file: &Arc<File>) -> Option<Self> {
        if len == 0 {
            return None;
        }
        let Range { start, end } = addresses(start, len);
        let file = Arc::clone(file);
        let before = MAPS.write().insert(start, Shown { end, file });
        assert!(before.is_none(), "two maps at the same place");
        Some(Self { start })
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        MAPS.write().remove(&self.start);
    }
}

fn addresses(start: *const u8, len: usize) -> Range<usize> {
    let start = start.addr();
    start..start + len
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::path::{Path, PathBuf};

    use bytes::Bytes;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::{Disk as _, Map, RealDisk};
    use super::*;

    const BYTES: u64 = 20_000;

    /// A new file that is like no other.
    fn file(dir: &TempDir, number: u8) -> PathBuf {
        let path = dir.path().join(number.to_string());
        let bytes: Vec<u8> = (0..BYTES)
            .flat_map(|at| [number, (at >> 8) as u8, at as u8])
            .take(BYTES as usize)
            .collect();
        let file = RealDisk.create(&path).expect("made");
        file.write_at(0, &bytes).expect("written");
        path
    }

    fn sealed(path: &Path) -> Arc<dyn Map> {
        let file = RealDisk.open_sealed(path).expect("opened");
        file.map_sealed(BYTES).expect("mapped")
    }

    /// What stands in the file where bytes are said to stand.
    fn read(place: &SealedPlace, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        place
            .file
            .read_exact_at(&mut bytes, place.offset)
            .expect("it is there");
        bytes
    }

    proptest! {
        #[test]
        fn bytes_of_any_map_stand_in_its_file(
            parts in proptest::collection::vec((0..4_usize, 0..BYTES, 1..BYTES, 0..4_usize), 1..20),
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let paths: Vec<_> = (0..4).map(|number| file(&dir, number)).collect();
            let mut maps: Vec<_> = paths.iter().map(|path| sealed(path)).collect();
            let mut held: Vec<Bytes> = Vec::new();
            for (number, from, len, again) in parts {
                let until = (from + len).min(BYTES);
                held.push(Arc::clone(&maps[number]).bytes(from..until));
                // The old map lives as long as something of it is held.
                maps[again] = sealed(&paths[again]);
                if held.len() > 3 {
                    held.remove(0);
                }
                for bytes in &held {
                    let place = sealed_place_of(bytes).expect("it is mapped");
                    prop_assert_eq!(&read(&place, bytes.len())[..], &bytes[..]);
                }
            }
        }
    }

    #[test]
    fn a_slice_is_found_from_the_first_byte_of_its_map_to_the_last() {
        let dir = tempfile::tempdir().expect("a directory");
        let map = sealed(&file(&dir, 1));
        let all = Arc::clone(&map).bytes(0..BYTES);
        for range in [0..BYTES, 0..1, BYTES - 1..BYTES, 4095..4097] {
            let part = all.slice(range.start as usize..range.end as usize);
            let place = sealed_place_of(&part).expect("it is mapped");
            assert_eq!(place.offset, range.start);
        }
    }

    #[test]
    fn nothing_is_found_of_other_memory_and_of_files_that_may_be_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = file(&dir, 1);
        let sealed = sealed(&path).bytes(0..BYTES);
        let written = RealDisk
            .open(&path)
            .and_then(|file| file.map(BYTES))
            .expect("mapped")
            .bytes(0..BYTES);
        assert!(sealed_place_of(&sealed).is_some());
        assert!(
            sealed_place_of(&written).is_none(),
            "a journal would be mapped so"
        );
        assert!(sealed_place_of(&Bytes::copy_from_slice(&sealed)).is_none());
        assert!(sealed_place_of(&[]).is_none());
    }

    /// The next map, or anything else, may get the same addresses.
    #[test]
    fn a_map_that_is_gone_is_not_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = file(&dir, 1);
        let kept = sealed(&path);
        let gone = sealed(&path);
        let addresses = |map: &Arc<dyn Map>| {
            let mut start = 0;
            map.look(0..BYTES, &mut |bytes| start = bytes.as_ptr().addr());
            start
        };
        let (kept_at, gone_at) = (addresses(&kept), addresses(&gone));
        let file = sealed_place_of(&Arc::clone(&gone).bytes(5..6))
            .expect("it is mapped")
            .file;
        assert!(Arc::strong_count(&file) > 1);
        drop(gone);
        assert_eq!(
            Arc::strong_count(&file),
            1,
            "nobody keeps a file open that no map shows"
        );
        let known = |start: usize, file: &Arc<File>| {
            MAPS.read()
                .get(&start)
                .is_some_and(|shown| Arc::ptr_eq(&shown.file, file))
        };
        assert!(!known(gone_at, &file));
        let file = sealed_place_of(&Arc::clone(&kept).bytes(5..6))
            .expect("it is mapped")
            .file;
        assert!(known(kept_at, &file));
    }

    #[test]
    fn bytes_that_reach_beyond_a_map_are_not_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let map = sealed(&file(&dir, 1)).bytes(0..BYTES);
        let start = map.as_ptr().addr();
        assert!(place_of(start..start + BYTES as usize).is_some());
        assert!(place_of(start..start + BYTES as usize + 1).is_none());
        assert!(place_of(start - 1..start + 1).is_none());
    }
}
