//! Without faults: the same operations give the same answers on a real disk.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::disk::{Disk, DiskFile, Map, RealDisk};

use crate::support::faulty_disk::FaultyDisk;

const NAMES: [&str; 4] = ["a", "b", "deep/c", "absent/d"];
const STEPS: usize = 400;

/// What one side of the comparison has open.
#[derive(Default)]
struct Opened {
    files: Vec<Arc<dyn DiskFile>>,
    maps: Vec<Arc<dyn Map>>,
}

/// An answer as far as both sides must agree on it.
fn answer<T: Debug>(result: io::Result<T>) -> String {
    format!("{:?}", result.map_err(|error| error.kind()))
}

/// Does some operation, chosen by `rng` alone, so that both sides do the same.
fn step(disk: &dyn Disk, dir: &Path, opened: &mut Opened, rng: &mut Rng) -> String {
    let pick = |rng: &mut Rng| dir.join(rng.choice(NAMES).expect("there are some"));
    let (one, other) = (pick(rng), pick(rng));
    let (offset, len, byte) = (rng.u64(0..3000), rng.usize(0..2000), rng.u8(..));
    let file = rng.choice(&opened.files).cloned();
    let map = rng.choice(&opened.maps).cloned();
    let kind = rng.u8(0..16);
    match (kind, file, map) {
        (0, ..) => answer(disk.create(&one).map(|file| opened.files.push(file))),
        (1, ..) => answer(disk.open(&one).map(|file| opened.files.push(file))),
        (2, ..) => answer(disk.rename(&one, &other)),
        (3, ..) => answer(disk.remove(&one)),
        (4, ..) => answer(disk.link(&one, &other)),
        (5, ..) => {
            let above = one.parent().expect("it is in a directory");
            answer(disk.list(above).map(|mut names| {
                names.sort();
                names
            }))
        }
        (6, ..) => answer(disk.open_sealed(&one).and_then(|file| {
            let mut byte = [0];
            let read = answer(file.read_at(offset, &mut byte));
            let written = answer(file.write_at(offset, b"no"));
            Ok((
                file.len()?,
                file.links()?,
                read,
                byte,
                written,
                answer(file.sync()),
            ))
        })),
        (7, Some(file), _) => answer(file.len()),
        (8, Some(file), _) => answer(file.links()),
        (9, Some(file), _) => answer(file.write_at(offset, &vec![byte; len])),
        (10, Some(file), _) => {
            // Never shorter: it may be mapped.
            let grown = file.len().expect("told") + offset;
            answer(file.set_len(grown))
        }
        (11, Some(file), _) => {
            let mut buffer = vec![0; len];
            answer(file.read_at(offset, &mut buffer).map(|()| buffer))
        }
        (12, Some(file), _) => answer(file.sync()),
        (13, Some(file), _) => answer(file.map(offset).map(|map| {
            let len = map.len();
            opened.maps.push(map);
            len
        })),
        (14, _, Some(map)) => {
            let range = map.len() / 3..map.len();
            let mut looked = Vec::new();
            map.populate(range.clone()).expect("populated");
            map.look(range.clone(), &mut |bytes| looked.extend_from_slice(bytes));
            assert_eq!(Arc::clone(&map).bytes(range.clone()), looked);
            assert!(map.is_resident(range));
            format!("{looked:?}")
        }
        (15, Some(file), Some(_)) => {
            opened.files.retain(|kept| !Arc::ptr_eq(kept, &file));
            opened.maps.pop();
            "closed".to_owned()
        }
        _ => "nothing to ask".to_owned(),
    }
}

#[test]
fn without_faults_it_answers_as_a_real_disk_does() {
    for seed in 0..30 {
        let real_dir = tempfile::tempdir().expect("a directory can be made");
        let dir = real_dir.path();
        let faulty = FaultyDisk::new(seed);
        let disks: [&dyn Disk; 2] = [&RealDisk, &*faulty];
        for disk in disks {
            disk.make_dir(&dir.join("deep")).expect("made");
        }
        let mut opened = [Opened::default(), Opened::default()];
        let mut rngs = [Rng::with_seed(seed), Rng::with_seed(seed)];
        for number in 0..STEPS {
            let [real, ours] =
                std::array::from_fn(|side| step(disks[side], dir, &mut opened[side], &mut rngs[side]));
            assert_eq!(ours, real, "seed {seed}, step {number}");
        }
    }
}

#[test]
fn the_directory_of_the_process_is_a_dot() {
    let disk = FaultyDisk::new(1);
    let (dot, nothing) = (Path::new("."), Path::new(""));
    for asked in [&RealDisk as &dyn Disk, &*disk] {
        asked.sync_dir(dot).expect("it is always there");
        asked.free_bytes(dot).expect("it is always there");
        asked.list(dot).expect("it is always there");
        let absent = [
            asked.sync_dir(nothing).err(),
            asked.free_bytes(nothing).err(),
            asked.list(nothing).err(),
        ];
        for error in absent {
            let error = error.expect("an empty path names nothing");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }
    disk.create(Path::new("relative")).expect("made");
    assert_eq!(disk.list(dot).expect("listed"), ["relative"]);
    disk.sync_dir(dot).expect("synced");
    assert_eq!(disk.crash_machine().files(), [Path::new("relative")]);
}

#[test]
fn what_is_absurdly_long_is_refused_without_taking_memory() {
    let disk = crate::disk(1);
    let file = disk.create(&crate::path("file")).expect("made");
    file.write_at(u64::MAX, b"beyond")
        .expect_err("no file is so long");
    file.write_at(u64::MAX - 6, b"beyond")
        .expect_err("no file is so long");
    file.set_len(u64::MAX).expect_err("no file is so long");
    file.read_at(u64::MAX, &mut [0]).expect_err("there is nothing");
    assert!(file.map(u64::MAX).is_err(), "the file is shorter");
    assert_eq!(file.len().expect("told"), 0);
}

#[test]
fn a_directory_goes_only_when_nothing_is_in_it() {
    let real = tempfile::tempdir().expect("a directory");
    let (real_dir, faulty_dir) = (real.path().join("dir"), Path::new("/dir").to_owned());
    let faulty = FaultyDisk::new(1);
    let answers = [(&RealDisk as &dyn Disk, real_dir), (faulty.as_ref(), faulty_dir)].map(|(disk, dir)| {
        let (file, inner) = (dir.join("file"), dir.join("inner"));
        let absent = answer(disk.remove_dir(&dir));
        disk.make_dir(&inner).expect("made");
        drop(disk.create(&file).expect("made"));
        let used = answer(disk.remove_dir(&dir));
        let no_directory = answer(disk.remove_dir(&file));
        let of_a_file = answer(disk.remove(&inner));
        disk.remove(&file).expect("removed");
        let holds_another = answer(disk.remove_dir(&dir));
        let gone = [answer(disk.remove_dir(&inner)), answer(disk.remove_dir(&dir))];
        let left = answer(disk.list(&dir));
        (
            absent,
            used,
            no_directory,
            holds_another,
            gone,
            left,
            of_a_file.contains("Ok"),
        )
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].4, ["Ok(())", "Ok(())"]);
}
