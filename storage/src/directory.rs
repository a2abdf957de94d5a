//! What makes a directory a store: its identity, in the file STORE, and the lock of the process that uses it.
//! Knows nothing of what the store holds.

mod checked;
mod error;
mod shared;
#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::disk::Disk;

pub(crate) use checked::{checked_identity, checked_names};
pub use error::OpenError;
pub(crate) use shared::while_unused;

/// The format of the directory that this version writes, and the newest that it reads, of all modes but those below.
const FORMAT: u32 = 1;
/// Modes whose format is another one.
const FORMATS: [(&str, u32); 1] = [("acid", 2)];
/// The first line of STORE, in every format.
const TITLE: &str = "tailwater store";
/// STORE is a few lines; anything longer is not one.
const IDENTITY_BYTES_MAX: u64 = 4096;
/// What a directory may hold before there is a store in it: what an interrupted creation left behind, what belongs
/// to other storage modes, what file systems put into the root of a volume, and keys of webhooks that whoever moves
/// streams has brought along.
const KNOWN_NAMES: [&str; 8] = [
    "LOCK",
    "STORE.tmp",
    "journal",
    "segments",
    "control.sock",
    "acid",
    "lost+found",
    "webhook-keys",
];

/// The directories of all modes that hold data.
const DATA_PARTS: [&str; 3] = ["journal", "segments", "acid"];

/// Which store a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    /// Whether the store was made just now. An earlier run may have been interrupted right behind that, so an older
    /// store may be as empty.
    pub(crate) is_new: bool,
    /// The format of its directory: one that is read.
    pub(crate) format: u32,
}

/// The store's own random identity: files of another store are told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreId(pub(crate) [u8; 16]);

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Says what store this is: format, mode, identity.
fn store_file(root: &Path) -> PathBuf {
    root.join("STORE")
}

/// Locked by the process that uses the store.
fn lock_file(root: &Path) -> PathBuf {
    root.join("LOCK")
}

/// What STORE says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) format: u32,
    pub(crate) mode: String,
    pub(crate) store: StoreId,
}

impl Description {
    /// The last line is the CRC-32 of those before it. That and the first two lines are the same in every format.
    fn text(&self) -> String {
        let Self { format, mode, store } = self;
        let body = format!("{TITLE}\nformat: {format}\nmode: {mode}\nid: {store}\n");
        let crc = crc32fast::hash(body.as_bytes());
        format!("{body}crc: {crc:08x}\n")
    }

    fn parse(text: &str) -> Result<Self, Flaw> {
        let (body, crc) = text
            .rsplit_once("crc: ")
            .ok_or(Flaw::Damaged("it has no checksum"))?;
        if crc != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
            return Err(Flaw::Damaged("its checksum is not that of its text"));
        }
        let mut lines = body.lines();
        if lines.next() != Some(TITLE) {
            return Err(Flaw::Damaged("its first line is not that of a store"));
        }
        let mut value_of = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(": ");
        let format = value_of("format")
            .and_then(|format| format.parse().ok())
            .ok_or(Flaw::Damaged("it has no format"))?;
        let description = value_of("mode").zip(value_of("id")).and_then(|(mode, id)| {
            let is_word = |mode: &str| mode.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            Some(Self {
                format,
                mode: Some(mode).filter(|mode| is_word(mode))?.to_owned(),
                store: StoreId(u128::from_str_radix(id, 16).ok()?.to_be_bytes()),
            })
        });
        // Comparing texts refuses every other spelling, further lines, and formats that there never were.
        let description = description.filter(|description| {
            (1..=newest_format(&description.mode)).contains(&format) && description.text() == text
        });
        // What else a later format says is not known.
        let flaw = if format > FORMAT {
            Flaw::Newer(format)
        } else {
            Flaw::Damaged("it does not say mode and id of a store")
        };
        description.ok_or(flaw)
    }
}

/// The format of the directory of a mode that this version writes, and the newest that it reads.
pub(crate) fn newest_format(mode: &str) -> u32 {
    let other = FORMATS.iter().find(|(other, _)| *other == mode);
    other.map_or(FORMAT, |(_, format)| *format)
}

/// What is wrong with the text of STORE.
#[derive(Debug, PartialEq, Eq)]
enum Flaw {
    Newer(u32),
    Damaged(&'static str),
}

/// Says which store the directory holds. Makes one if the directory is missing or empty. `parts` are the directories
/// in it that every store of this mode has.
///
/// # Errors
/// If the directory holds anything else than a store of this mode.
pub(crate) fn identify(
    disk: &dyn Disk,
    root: &Path,
    mode: &'static str,
    parts: &[&str],
) -> Result<Identity, OpenError> {
    let Some(description) = describe(disk, root)? else {
        let store = make_store(disk, root, mode, parts)?;
        return Ok(Identity {
            store,
            is_new: true,
            format: newest_format(mode),
        });
    };
    if description.mode != mode {
        return Err(OpenError::OtherMode {
            dir: root.to_owned(),
            found: description.mode,
            wanted: mode,
        });
    }
    for part in parts {
        let dir = root.join(part);
        if names_in(disk, &dir)?.is_none() {
            return Err(OpenError::Damaged {
                dir: root.to_owned(),
                what: format!("{} is missing", dir.display()),
            });
        }
    }
    // The run that made the store may have ended between giving STORE its name and making that durable.
    disk.sync_dir(root).map_err(OpenError::io("sync", root))?;
    Ok(Identity {
        store: description.store,
        is_new: false,
        format: description.format,
    })
}

/// Says what store the directory holds, whatever its mode, and changes nothing.
///
/// # Errors
/// If it holds none, or one whose identity cannot be read.
pub(crate) fn read_identity(disk: &dyn Disk, root: &Path) -> Result<Description, OpenError> {
    describe(disk, root)?.ok_or_else(|| OpenError::NoStore { dir: root.to_owned() })
}

/// None if there is no STORE.
fn describe(disk: &dyn Disk, root: &Path) -> Result<Option<Description>, OpenError> {
    let path = store_file(root);
    let damaged = |what: &str| OpenError::Damaged {
        dir: root.to_owned(),
        what: format!("its file STORE cannot be used, for {what}"),
    };
    let file = match disk.open_sealed(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(OpenError::io("open", &path))?,
    };
    let len = file.len().map_err(OpenError::io("read", &path))?;
    let len = usize::try_from(len.min(IDENTITY_BYTES_MAX + 1)).expect("a few thousand bytes");
    if len as u64 > IDENTITY_BYTES_MAX {
        return Err(damaged("it is too long"));
    }
    let mut bytes = vec![0; len];
    file.read_at(0, &mut bytes)
        .map_err(OpenError::io("read", &path))?;
    let text = String::from_utf8(bytes).map_err(|_not_text| damaged("it is no text"))?;
    match Description::parse(&text) {
        Ok(description) => Ok(Some(description)),
        Err(Flaw::Damaged(what)) => Err(damaged(what)),
        Err(Flaw::Newer(found)) => Err(OpenError::NewerFormat {
            dir: root.to_owned(),
            found,
            known: FORMATS
                .iter()
                .fold(FORMAT, |known, (_, format)| known.max(*format)),
        }),
    }
}

/// The names in a directory; none if there is no such directory.
fn names_in(disk: &dyn Disk, dir: &Path) -> Result<Option<Vec<String>>, OpenError> {
    match disk.list(dir) {
        Ok(names) => Ok(Some(names)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io("list", dir)(error)),
    }
}

/// STORE is made last, so that a directory that has it has everything else.
fn make_store(
    disk: &dyn Disk,
    root: &Path,
    mode: &'static str,
    parts: &[&str],
) -> Result<StoreId, OpenError> {
    refuse_foreign(root, names_in(disk, root)?.unwrap_or_default())?;
    for dir in DATA_PARTS.map(|part| root.join(part)) {
        // Data without STORE was a store once, of whatever mode, and must not stand beside another one.
        if let Some(file) = names_in(disk, &dir)?.unwrap_or_default().into_iter().next() {
            return Err(OpenError::NotAStore {
                dir: root.to_owned(),
                found: dir.join(file).display().to_string(),
            });
        }
    }
    let subdirectories: Vec<_> = parts.iter().map(|part| root.join(part)).collect();
    for dir in [root]
        .into_iter()
        .chain(subdirectories.iter().map(PathBuf::as_path))
    {
        disk.make_dir(dir)
            .map_err(OpenError::io("make the directory", dir))?;
    }
    sync_dir(disk, root)?;
    sync_above(disk, root)?;
    let mut store = StoreId([0; 16]);
    fastrand::fill(&mut store.0);
    put_identity(disk, root, mode, store)?;
    Ok(store)
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    disk.sync_dir(dir).map_err(OpenError::io("sync", dir))
}

/// Makes durable the names of a directory and of those above it, each of which may be new.
pub(crate) fn sync_above(disk: &dyn Disk, root: &Path) -> Result<(), OpenError> {
    for above in root.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        match sync_dir(disk, above) {
            // Whoever may not look into a directory has not made anything in it either.
            Err(OpenError::Io { source, .. }) if is_out_of_reach(&source) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Says which store a directory holds, durably: it is one from then on.
pub(crate) fn put_identity(
    disk: &dyn Disk,
    root: &Path,
    mode: &str,
    store: StoreId,
) -> Result<(), OpenError> {
    let description = Description {
        format: newest_format(mode),
        mode: mode.to_owned(),
        store,
    };
    let (path, draft) = (store_file(root), root.join("STORE.tmp"));
    match disk.remove(&draft) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed.map_err(OpenError::io("remove", &draft))?,
    }
    let written = disk.create(&draft).and_then(|file| {
        file.write_at(0, description.text().as_bytes())?;
        file.sync()
    });
    written.map_err(OpenError::io("write", &draft))?;
    disk.rename(&draft, &path).map_err(OpenError::io("make", &path))?;
    sync_dir(disk, root)
}

fn is_out_of_reach(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
    )
}

/// Refuses a directory without STORE that holds what no new store has.
fn refuse_foreign(root: &Path, names: Vec<String>) -> Result<(), OpenError> {
    let foreign = names
        .into_iter()
        .find(|name| !KNOWN_NAMES.contains(&name.as_str()));
    foreign.map_or(Ok(()), |found| {
        Err(OpenError::NotAStore {
            dir: root.to_owned(),
            found,
        })
    })
}

/// Held as long as the store is used; the kernel lets go of it when the process ends, however it ends. The file
/// LOCK stays: removing it would let two processes lock two files of that name.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes the directory if it is missing, and locks it for this process. Leaves a directory that is no store as
    /// it is.
    ///
    /// # Errors
    /// If another process holds it, or it is not this process's own to use.
    pub(crate) fn acquire(root: &Path) -> Result<Self, OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(|error| not_made(root, rustix::process::geteuid().as_raw(), error))?;
        let metadata = root.metadata().map_err(OpenError::io("look at", root))?;
        check_owner(root, metadata.uid(), rustix::process::geteuid().as_raw())?;
        check_permissions(root, metadata.mode())?;
        let names = std::fs::read_dir(root)
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                    .collect::<io::Result<Vec<_>>>()
            })
            .map_err(OpenError::io("list", root))?;
        if !names.iter().any(|name| name == "STORE") {
            refuse_foreign(root, names)?;
        }
        lock(&lock_file(root), root)
    }
}

/// Why a directory cannot be made. Whoever mounts a volume of root's for another user is told so.
fn not_made(dir: &Path, user: u32, error: io::Error) -> OpenError {
    let existing = |above: &Path| Some((above.to_owned(), above.metadata().ok()?.uid()));
    let above = dir.ancestors().skip(1).find_map(existing);
    match above {
        Some((above, owner)) if error.kind() == io::ErrorKind::PermissionDenied && owner != user => {
            OpenError::AboveIsNotOurs {
                dir: dir.to_owned(),
                above,
                owner,
                user,
            }
        }
        _ => OpenError::io("make the directory", dir)(error),
    }
}

/// Also root is refused: what it wrote, the owner could not use any more.
fn check_owner(dir: &Path, owner: u32, user: u32) -> Result<(), OpenError> {
    if owner == user {
        return Ok(());
    }
    Err(OpenError::WrongOwner {
        dir: dir.to_owned(),
        owner,
        user,
    })
}

fn check_permissions(dir: &Path, mode: u32) -> Result<(), OpenError> {
    if mode & 0o700 == 0o700 {
        return Ok(());
    }
    let found = format!("its permissions are {:03o}", mode & 0o777);
    let source = io::Error::new(io::ErrorKind::PermissionDenied, found);
    Err(OpenError::io("use", dir)(source))
}

/// Says who holds a lock.
fn held(lock: File, dir: &Path) -> OpenError {
    let mut text = String::new();
    let read = lock.take(IDENTITY_BYTES_MAX).read_to_string(&mut text);
    OpenError::Locked {
        dir: dir.to_owned(),
        pid: read.ok().and_then(|_len| text.trim().parse().ok()),
    }
}

fn lock(path: &Path, dir: &Path) -> Result<DirectoryLock, OpenError> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(OpenError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(held(file, dir));
        }
        Err(TryLockError::Error(source)) => return Err(OpenError::io("lock", path)(source)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(OpenError::io("write", path))?;
    Ok(DirectoryLock { _file: file })
}
