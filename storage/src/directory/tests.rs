use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::{
    Description, DirectoryLock, Flaw, Identity, OpenError, StoreId, check_owner, identify, lock, lock_file,
    not_made, read_identity, store_file,
};
use crate::disk::{Disk, DiskFile, Map, RealDisk};

/// A directory that does not exist yet, below one that goes with the test.
fn new_root() -> (TempDir, PathBuf) {
    let above = tempfile::tempdir().expect("a directory");
    let root = above.path().join("not/there");
    (above, root)
}

const PARTS: [&str; 2] = ["journal", "segments"];

fn durable(root: &Path) -> Result<Identity, OpenError> {
    identify(&RealDisk, root, "file-durable", &PARTS)
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, OpenError>, root: &Path) -> String {
    let message = result.expect_err("this must be refused").to_string();
    assert!(
        message.contains(&root.display().to_string()),
        "it does not name the directory: {message}"
    );
    message
}

fn names(dir: &Path) -> Vec<String> {
    let mut names = RealDisk.list(dir).expect("a directory");
    names.sort();
    names
}

#[test]
fn a_new_store_is_the_same_one_when_it_is_opened_again() {
    let (_above, root) = new_root();
    let made = durable(&root).expect("a new store");
    assert!(made.is_new);
    assert_eq!(names(&root), ["STORE", "journal", "segments"]);
    let again = durable(&root).expect("the same store");
    assert_eq!((again.store, again.is_new), (made.store, false));
    let description = read_identity(&RealDisk, &root).expect("the same store");
    assert_eq!(
        description,
        Description {
            format: 1,
            mode: "file-durable".to_owned(),
            store: made.store
        }
    );
    let (_elsewhere, other) = new_root();
    assert_ne!(durable(&other).expect("another store").store, made.store);
}

#[test]
fn the_text_of_an_identity_is_what_it_always_was() {
    let text = "tailwater store\nformat: 1\nmode: file-fast\nid: 000102030405060708090a0b0c0d0e0f\n\
                crc: 7c7aa55d\n";
    let description = Description {
        format: 1,
        mode: "file-fast".to_owned(),
        store: StoreId(std::array::from_fn(|at| at as u8)),
    };
    assert_eq!(description.text(), text);
    assert_eq!(Description::parse(text), Ok(description));
}

#[test]
fn every_changed_bit_and_every_cut_of_an_identity_is_damage() {
    let (_above, root) = new_root();
    durable(&root).expect("a new store");
    let whole = std::fs::read(store_file(&root)).expect("it is there");
    let flips = (0..whole.len() * 8).map(|bit| {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let cuts = (0..whole.len()).map(|len| whole[..len].to_vec());
    let longer = [b" ".to_vec(), b"\n".to_vec(), vec![0; 5000]].map(|tail| [&whole[..], &tail[..]].concat());
    for bytes in flips.chain(cuts).chain(longer) {
        std::fs::write(store_file(&root), &bytes).expect("writable");
        let result = durable(&root);
        assert!(
            matches!(result, Err(OpenError::Damaged { .. })),
            "{result:?}: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

/// An identity with a right checksum, whatever it says.
fn sealed(body: &str) -> String {
    format!("{body}crc: {:08x}\n", crc32fast::hash(body.as_bytes()))
}

#[test]
fn a_right_checksum_alone_does_not_make_an_identity() {
    let id = "000102030405060708090a0b0c0d0e0f";
    for body in [
        String::new(),
        "tailwater store\n".to_owned(),
        format!("another store\nformat: 1\nmode: acid\nid: {id}\n"),
        format!("tailwater store\nformat: 0\nmode: acid\nid: {id}\n"),
        format!("tailwater store\nformat: 01\nmode: acid\nid: {id}\n"),
        format!("tailwater store\nformat: 1\nmode: a\u{1b}cid\nid: {id}\n"),
        format!(
            "tailwater store\nformat: 1\nmode: acid\nid: {}\n",
            id.to_uppercase()
        ),
        format!("tailwater store\nformat: 1\nmode: acid\nid: {id}0\n"),
        format!("tailwater store\nformat: 1\nmode: acid\nid: {id}\nmore: 1\n"),
        format!("tailwater store\nformat: 1\nid: {id}\nmode: acid\n"),
    ] {
        let parsed = Description::parse(&sealed(&body));
        assert!(matches!(parsed, Err(Flaw::Damaged(_))), "{parsed:?}: {body}");
    }
    let later = sealed("tailwater store\nformat: 3\nwhatever: comes\n");
    assert_eq!(Description::parse(&later), Err(Flaw::Newer(3)));
    let later = sealed(&format!(
        "tailwater store\nformat: 2\nmode: file-fast\nid: {id}\n"
    ));
    assert_eq!(Description::parse(&later), Err(Flaw::Newer(2)));
}

#[test]
fn a_store_of_a_later_format_is_left_to_later_versions() {
    let (_above, root) = new_root();
    durable(&root).expect("a new store");
    let later = sealed("tailwater store\nformat: 7\nmode: file-durable\n");
    std::fs::write(store_file(&root), &later).expect("writable");
    let message = refusal(durable(&root), &root);
    assert!(message.contains("format 7"), "{message}");
    refusal(read_identity(&RealDisk, &root), &root);
    assert_eq!(
        std::fs::read_to_string(store_file(&root)).expect("it is there"),
        later
    );
}

#[test]
fn a_store_of_another_mode_is_refused_with_both_modes() {
    let (_above, root) = new_root();
    durable(&root).expect("a new store");
    let message = refusal(identify(&RealDisk, &root, "file-fast", &PARTS), &root);
    assert!(
        message.contains("the mode `file-durable`, and `file-fast` is asked for"),
        "{message}"
    );
    let description = read_identity(&RealDisk, &root).expect("tools read any mode");
    assert_eq!(description.mode, "file-durable");
}

#[test]
fn a_directory_of_somebody_else_is_refused_and_left_as_it_is() {
    for foreign in ["notes.txt", "catalog.redb", "journal/0000000000000001.journal"] {
        let (_above, root) = new_root();
        std::fs::create_dir_all(root.join("journal")).expect("writable");
        std::fs::write(root.join(foreign), "mine").expect("writable");
        let before = names(&root);
        let message = refusal(durable(&root), &root);
        assert!(
            message.contains(foreign) && message.contains("STORE"),
            "{message}"
        );
        assert_eq!(names(&root), before, "{foreign}");
        refusal(read_identity(&RealDisk, &root), &root);
    }
    let (_above, root) = new_root();
    std::fs::create_dir_all(root.join("photos")).expect("writable");
    let message = refusal(DirectoryLock::acquire(&root), &root);
    assert!(message.contains("\"photos\""), "{message}");
    assert_eq!(names(&root), ["photos"]);
}

#[test]
fn what_belongs_to_a_volume_or_to_another_mode_or_is_brought_along_does_not_hinder_a_new_store() {
    let (_above, root) = new_root();
    for known in ["acid", "lost+found"] {
        std::fs::create_dir_all(root.join(known)).expect("writable");
    }
    std::fs::write(root.join("STORE.tmp"), "cut of").expect("writable");
    std::fs::write(root.join("webhook-keys"), "brought along").expect("writable");
    let _lock = DirectoryLock::acquire(&root).expect("nobody else has it");
    assert!(durable(&root).expect("a new store").is_new);
}

#[test]
fn a_store_that_lost_a_directory_is_damaged() {
    for lost in ["journal", "segments"] {
        let (_above, root) = new_root();
        durable(&root).expect("a new store");
        std::fs::remove_dir(root.join(lost)).expect("it is empty");
        let message = refusal(durable(&root), &root);
        assert!(message.contains(&format!("{lost} is missing")), "{message}");
    }
}

#[test]
fn a_directory_is_locked_by_one_at_a_time_and_made_for_its_owner_only() {
    let (_above, root) = new_root();
    let held = DirectoryLock::acquire(&root).expect("nobody has it");
    let mode = root.metadata().expect("it was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let message = refusal(DirectoryLock::acquire(&root), &root);
    let holder = format!("in use by the process {};", std::process::id());
    assert!(message.contains(&holder), "{message}");
    drop(held);
    DirectoryLock::acquire(&root).expect("nobody has it any more");
}

#[test]
fn a_lock_whose_holder_has_not_written_its_number_is_still_a_lock() {
    let (_above, root) = new_root();
    let _held = DirectoryLock::acquire(&root).expect("nobody has it");
    std::fs::write(lock_file(&root), "").expect("writable");
    let message = refusal(lock(&lock_file(&root), &root), &root);
    assert!(message.contains("in use by another process;"), "{message}");
}

#[test]
fn a_pid_of_an_earlier_run_does_not_lock_anything() {
    let (_above, root) = new_root();
    drop(DirectoryLock::acquire(&root).expect("nobody has it"));
    std::fs::write(lock_file(&root), "4194304123\n").expect("writable");
    let _held = DirectoryLock::acquire(&root).expect("nobody has it");
    let written = std::fs::read_to_string(lock_file(&root)).expect("it is there");
    assert_eq!(written, format!("{}\n", std::process::id()));
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let dir = Path::new("/srv/streams");
    check_owner(dir, 1000, 1000).expect("its own");
    check_owner(dir, 0, 0).expect("its own");
    for (owner, user) in [(1000, 0), (0, 1000), (1000, 1001)] {
        let message = check_owner(dir, owner, user)
            .expect_err("somebody else's")
            .to_string();
        assert_eq!(
            message,
            format!(
                "/srv/streams belongs to the user {owner}, and this process runs as the user {user}; run it as \
                 {owner}, or give the directory away with `chown -R {user} /srv/streams`"
            )
        );
    }
}

/// A container whose volume was root's said only that permission was denied, and neither where nor to whom.
#[test]
fn a_directory_that_cannot_be_made_in_one_of_another_user_says_whose_that_is() {
    let (above, root) = new_root();
    // Who has made it.
    let owner = rustix::process::geteuid().as_raw();
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let (dir, above) = (
        root.join("not/there").display().to_string(),
        above.path().display(),
    );
    let said = not_made(Path::new(&dir), owner + 1, denied()).to_string();
    let wanted = [
        format!(
            "cannot make the directory {dir}: {above} belongs to the user {owner}, and this process runs as"
        ),
        format!("`install -d -o {} {dir}`", owner + 1),
    ];
    assert!(wanted.iter().all(|part| said.contains(part)), "{said}");
    // One of our own does not let us in for another reason, and another error has nothing to do with owners.
    let said = not_made(Path::new(&dir), owner, denied()).to_string();
    assert!(said.contains("read, write and enter the directory"), "{said}");
    let said = not_made(Path::new(&dir), owner + 1, io::ErrorKind::StorageFull.into()).to_string();
    assert!(said.contains("make room"), "{said}");
}

#[test]
fn what_is_not_a_directory_or_cannot_be_written_is_refused() {
    let (above, root) = new_root();
    std::fs::write(above.path().join("not"), "a file").expect("writable");
    refusal(DirectoryLock::acquire(&root), &root);
    let (_above, root) = new_root();
    std::fs::create_dir_all(&root).expect("writable");
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o500)).expect("its own");
    let message = refusal(DirectoryLock::acquire(&root), &root);
    assert!(message.contains("its permissions are 500"), "{message}");
}

/// The real disk, which keeps a list of what changes it, and fails at one of these steps.
struct Watched {
    steps: Arc<Mutex<Vec<String>>>,
    fails_at: Option<usize>,
}

struct WatchedFile {
    file: Arc<dyn DiskFile>,
    name: String,
    disk: Watched,
}

impl Watched {
    fn failing_at(fails_at: Option<usize>) -> Self {
        Self {
            steps: Arc::default(),
            fails_at,
        }
    }

    fn step(&self, what: &str, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or(path.as_os_str());
        let mut steps = self.steps.lock();
        steps.push(format!("{what} {}", name.display()));
        if self.fails_at == Some(steps.len() - 1) {
            return Err(io::Error::other("planted"));
        }
        Ok(())
    }

    fn watch(&self, file: Arc<dyn DiskFile>, path: &Path) -> Arc<dyn DiskFile> {
        Arc::new(WatchedFile {
            file,
            name: path.display().to_string(),
            disk: Self {
                steps: Arc::clone(&self.steps),
                fails_at: self.fails_at,
            },
        })
    }
}

impl Disk for Watched {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.step("create", path)?;
        Ok(self.watch(RealDisk.create(path)?, path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.watch(RealDisk.open(path)?, path))
    }

    fn open_sealed(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open_sealed(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.step("make", dir)?;
        RealDisk.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename", from)?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step("sync", dir)?;
        RealDisk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }

    fn boot_id(&self) -> Option<String> {
        RealDisk.boot_id()
    }
}

impl DiskFile for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.step("write", Path::new(&self.name))?;
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.step("sync", Path::new(&self.name))?;
        self.file.sync()
    }

    fn links(&self) -> io::Result<u64> {
        self.file.links()
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        self.file.map(len)
    }
}

#[test]
fn everything_is_durable_before_the_identity_has_its_name() {
    let (above, root) = new_root();
    let disk = Watched::failing_at(None);
    identify(&disk, &root, "file-durable", &PARTS).expect("a new store");
    let steps = disk.steps.lock().clone();
    let above_all: Vec<PathBuf> = above.path().ancestors().map(Path::to_path_buf).collect();
    let mut expected: Vec<String> = [
        "make there",
        "make journal",
        "make segments",
        "sync there",
        "sync not",
    ]
    .map(str::to_owned)
    .to_vec();
    expected.extend(above_all.iter().map(|dir| {
        let name = dir.file_name().unwrap_or(dir.as_os_str());
        format!("sync {}", name.display())
    }));
    expected.extend(
        [
            "create STORE.tmp",
            "write STORE.tmp",
            "sync STORE.tmp",
            "rename STORE.tmp",
            "sync there",
        ]
        .map(str::to_owned),
    );
    assert_eq!(steps, expected);

    let again = Watched::failing_at(None);
    identify(&again, &root, "file-durable", &PARTS).expect("the same store");
    assert_eq!(
        *again.steps.lock(),
        ["sync there"],
        "the name of an interrupted run's STORE becomes durable before anything relies on it"
    );
}

#[test]
fn a_creation_that_fails_anywhere_can_be_done_again() {
    let (_above, root) = new_root();
    let whole = Watched::failing_at(None);
    identify(&whole, &root, "file-durable", &PARTS).expect("a new store");
    let steps = whole.steps.lock().len();
    for fails_at in 0..steps {
        let (_above, root) = new_root();
        let disk = Watched::failing_at(Some(fails_at));
        let failure = identify(&disk, &root, "file-durable", &PARTS);
        let message = refusal_of_a_step(failure);
        assert_eq!(
            disk.steps.lock().len(),
            fails_at + 1,
            "it goes on after {message}"
        );
        let has_identity = store_file(&root).exists();
        let made = durable(&root).unwrap_or_else(|error| panic!("after {message}: {error}"));
        assert_eq!(made.is_new, !has_identity, "after {message}");
        assert_eq!(durable(&root).expect("the same store").store, made.store);
    }
}

#[track_caller]
fn refusal_of_a_step(result: Result<Identity, OpenError>) -> String {
    match result {
        Err(error @ OpenError::Io { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}
