//! The directory of a store: who may use it, what else is refused, and that every refusal says what to do.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use tailwater_e2e::Server;
use tempfile::TempDir;

const MODES: [&str; 3] = ["file-fast", "file-durable", "acid"];
/// A user of no name that no test runs as.
const NOBODY: u32 = 4_000_000;

/// A place for a store that does not exist yet.
struct Place {
    _above: TempDir,
    dir: PathBuf,
}

impl Place {
    fn new() -> Self {
        let above = tempfile::tempdir().expect("a directory");
        let dir = above.path().join("streams");
        Self { _above: above, dir }
    }

    fn start(&self, mode: &str) -> Server {
        Server::start_with(&settings(mode, &self.dir))
    }

    /// What the server says of it when it refuses to start, which always names the directory.
    #[track_caller]
    fn refusal(&self, mode: &str) -> String {
        refusal(mode, &self.dir)
    }

    fn identity(&self) -> String {
        std::fs::read_to_string(self.dir.join("STORE")).expect("a store has an identity")
    }
}

fn settings<'a>(mode: &'a str, dir: &'a Path) -> [(&'a str, &'a str); 3] {
    [
        ("DS_STORAGE__MODE", mode),
        ("DS_STORAGE__DATA_DIR", dir.to_str().expect("a plain path")),
        ("DS_STORAGE__JOURNAL_BYTES", "1MiB"),
    ]
}

#[track_caller]
fn refusal(mode: &str, dir: &Path) -> String {
    let (code, said) = Server::refusal(&settings(mode, dir));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot open the storage"), "{said}");
    assert!(said.contains(&dir.display().to_string()), "{said}");
    said
}

#[test]
fn the_directory_is_made_for_its_owner_only_and_stands_in_the_banner() {
    for (mode, promise) in [
        (
            "file-fast",
            "survives a crash of the process; of the machine, but for the last 250 ms",
        ),
        (
            "file-durable",
            "survives a crash of the process, a crash of the kernel and a power loss",
        ),
        (
            "acid",
            "survives a crash of the process, a crash of the kernel and a power loss",
        ),
    ] {
        let place = Place::new();
        let mut settings = settings(mode, &place.dir).to_vec();
        settings.push(("DS_STORAGE__FAST_SYNC_MS", "250"));
        let said = Server::start_with(&settings).stop();
        assert!(
            said.contains(&format!(
                "  storage      {mode}: what is acknowledged {promise}\n"
            )),
            "{said}"
        );
        assert!(
            said.contains(&format!("  data         {}\n", place.dir.display())),
            "{said}"
        );
        let made = place.dir.metadata().expect("it was made").permissions().mode();
        assert_eq!(made & 0o777, 0o700, "{mode}");
    }
}

#[test]
fn memory_mode_touches_no_directory() {
    let place = Place::new();
    let said = place.start("memory").stop();
    assert!(!said.contains("  data "), "{said}");
    assert!(!place.dir.exists());
}

#[test]
fn a_directory_in_use_is_refused_until_its_user_ends_however_it_ends() {
    for mode in MODES {
        let place = Place::new();
        let server = place.start(mode);
        let said = place.refusal(mode);
        let holder = format!("is in use by the process {};", server.pid());
        assert!(said.contains(&holder), "{said}");
        server.assert_well("somebody else wanted its directory");
        // Dropping kills the process.
        drop(server);
        place.start(mode).stop();
        place.start(mode).stop();
    }
}

#[test]
fn a_store_of_another_mode_is_refused_with_the_mode_that_it_has() {
    for (made, wanted) in MODES
        .iter()
        .flat_map(|made| MODES.map(|wanted| (*made, wanted)))
        .filter(|(made, wanted)| made != wanted)
    {
        let place = Place::new();
        place.start(made).stop();
        let said = place.refusal(wanted);
        assert!(said.contains(&format!("set storage.mode to `{made}`")), "{said}");
        place.start(made).stop();
    }
}

#[test]
fn a_store_with_another_number_of_shards_is_refused_with_the_number_that_it_has() {
    let place = Place::new();
    let settings = |count| {
        let mut settings = settings("acid", &place.dir).to_vec();
        settings.push(("DS_STORAGE__ACID_SHARD_COUNT", count));
        settings
    };
    Server::start_with(&settings("4")).stop();
    let (code, said) = Server::refusal(&settings("8"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("of 4 shards, and 8 are asked for"), "{said}");
    assert!(said.contains("tailwater reshard"), "{said}");
    let server = Server::start_with(&settings("4"));
    server.assert_well("another number of shards was refused");
}

#[test]
fn redb_is_another_name_of_acid() {
    let place = Place::new();
    let said = place.start("redb").stop();
    assert!(said.contains("  storage      acid: "), "{said}");
    place.start("acid").stop();
}

/// A database that was not closed is read whole by the next start.
#[test]
fn a_store_of_shards_that_was_stopped_is_not_repaired() {
    let place = Place::new();
    let start = || {
        let mut settings = settings("acid", &place.dir).to_vec();
        settings.push(("RUST_LOG", "info,tailwater_storage=debug"));
        Server::start_with(&settings)
    };
    let repairs = |server: Server| server.stop().matches("to repair it").count();
    let server = start();
    for number in 0..50 {
        let _ = server
            .stream(&format!("s/{number}"))
            .of_type("text/plain")
            .create();
    }
    server.stop();
    assert_eq!(repairs(start()), 0);
    let server = start();
    let _ = server.stream("one-more").of_type("text/plain").create();
    server.kill();
    assert!(repairs(start()) > 0, "the log would say so");
}

#[test]
fn a_store_of_a_later_format_is_refused_and_left_as_it_is() {
    let place = Place::new();
    place.start("file-durable").stop();
    let mut checksum = flate2::Crc::new();
    let body = "tailwater store\nformat: 2\nsomething: else\n";
    checksum.update(body.as_bytes());
    let later = format!("{body}crc: {:08x}\n", checksum.sum());
    std::fs::write(place.dir.join("STORE"), &later).expect("writable");
    let said = place.refusal("file-durable");
    assert!(said.contains("format 2"), "{said}");
    assert!(said.contains("use the version that wrote it"), "{said}");
    assert_eq!(place.identity(), later);
}

#[test]
fn an_identity_that_somebody_edited_is_refused_as_damage() {
    let place = Place::new();
    place.start("file-durable").stop();
    let edited = place.identity().replace("file-durable", "file-fast");
    std::fs::write(place.dir.join("STORE"), edited).expect("writable");
    for mode in MODES {
        let said = place.refusal(mode);
        assert!(said.contains("its checksum is not that of its text"), "{said}");
    }
}

#[test]
fn a_store_that_lost_its_identity_is_not_made_anew() {
    for made in MODES {
        let place = Place::new();
        place.start(made).stop();
        std::fs::remove_file(place.dir.join("STORE")).expect("it was there");
        // Nor is another one made beside what is left of it.
        for wanted in MODES {
            let said = place.refusal(wanted);
            assert!(said.contains("put STORE back"), "{said}");
            assert!(!place.dir.join("STORE").exists(), "{made}, {wanted}");
        }
    }
}

#[test]
fn a_directory_with_other_files_is_refused_and_left_as_it_is() {
    let place = Place::new();
    std::fs::create_dir(&place.dir).expect("writable");
    std::fs::write(place.dir.join("notes.txt"), "mine").expect("writable");
    let said = place.refusal("file-durable");
    assert!(said.contains("\"notes.txt\""), "{said}");
    assert!(said.contains("choose a new or an empty directory"), "{said}");
    let entries = std::fs::read_dir(&place.dir).expect("it is there");
    assert_eq!(entries.count(), 1, "something was put into a foreign directory");
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let place = Place::new();
    std::fs::create_dir(&place.dir).expect("writable");
    // Only root can give a directory away; everybody else finds one that is root's.
    let (dir, owner) = match chown(&place.dir, Some(NOBODY), None) {
        Ok(()) => (place.dir.as_path(), NOBODY),
        Err(_not_root) => (Path::new("/usr"), 0),
    };
    let said = refusal("file-durable", dir);
    assert!(
        said.contains(&format!("belongs to the user {owner}, and this process runs as")),
        "{said}"
    );
}

#[test]
fn a_file_in_the_way_is_refused() {
    let place = Place::new();
    std::fs::write(&place.dir, "a file").expect("writable");
    let said = place.refusal("file-fast");
    assert!(said.contains("choose another directory"), "{said}");
}

/// Whoever waits for the start of a large shard behind a crash sees that something goes on, and how far it is.
#[test]
fn a_long_repair_tells_how_far_it_is() {
    let place = Place::new();
    let mut settings = settings("acid", &place.dir).to_vec();
    settings.push(("DS_STORAGE__ACID_SHARD_COUNT", "1"));
    let server = Server::start_with(&settings);
    let large = server.stream("large").of_type("text/plain").create();
    for _ in 0..9 {
        large.append(vec![b'x'; 8 << 20]);
    }
    let tail = large.tail();
    server.kill();
    let server = Server::start_with(&settings);
    let said = server.stderr();
    let told = said
        .lines()
        .filter(|line| line.contains("the whole shard is read to repair it"));
    let percents: Vec<u64> = told
        .map(|line| {
            assert!(line.contains("shards-001/000.redb"), "{line}");
            let percent = line.rsplit_once("percent=").expect("it says how far").1;
            percent.parse().expect("a number")
        })
        .collect();
    assert_eq!(percents.first(), Some(&0), "{said}");
    assert!(percents.len() > 1 && percents.is_sorted(), "{said}");
    assert_eq!(server.stream("large").tail(), tail);
    server.stop();
    // A store that was stopped is not read again.
    let server = Server::start_with(&settings);
    assert!(!server.stderr().contains("to repair it"), "{}", server.stderr());
}
