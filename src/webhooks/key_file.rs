//! The file that keeps the keys: a few lines of text under a checksum, for its owner alone, replaced as a whole.
//! Knows nothing of what the keys are for.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::key_ring::{KEYS_MAX, KeyRing, SigningKey};

/// Its name in a data directory.
pub(crate) const FILE_NAME: &str = "webhook-keys";
/// The first line, in every format.
const TITLE: &str = "tailwater webhook keys";
const FORMAT: u32 = 1;
const FILE_BYTES_MAX: u64 = 16 << 10;

/// Why the file of keys cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The operating system refuses.
    #[error("cannot {what} the file of webhook keys, {}: {source}; {fix}", path.display())]
    Io {
        /// What was being done with the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What helps.
        fix: &'static str,
        /// What the operating system says.
        source: io::Error,
    },
    /// It is not as it was written.
    #[error(
        "the file of webhook keys, {}, is damaged: {what}; put it back from a backup, or remove it: receivers then find \
         new keys at __ds/jwks.json, and wakes that are under way are sent again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: &'static str,
    },
    /// It was written by a later version.
    #[error(
        "the file of webhook keys, {}, has the format {found}, and this version knows none later than {FORMAT}; use the \
         version that wrote it, or a later one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

const READ_FIX: &str = "let the user that the server runs as read it, or name another one \
                        (subscriptions.signing_keys_path)";
const WRITE_FIX: &str = "let the user that the server runs as write to its directory, or name another file \
                         (subscriptions.signing_keys_path)";

fn failed<'a>(
    what: &'static str,
    path: &'a Path,
    fix: &'static str,
) -> impl Fn(io::Error) -> KeyFileError + 'a {
    move |source| KeyFileError::Io {
        what,
        path: path.to_owned(),
        fix,
        source,
    }
}

/// Reads the file; none if there is none.
///
/// # Errors
/// [`KeyFileError`] if it is there and cannot be used. Nothing is changed then.
pub(super) fn read(path: &Path) -> Result<Option<KeyRing>, KeyFileError> {
    let failed = failed("read", path, READ_FIX);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(&failed)?,
    };
    let mode = file.metadata().map_err(&failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "others than its owner may use the file of webhook keys, which lets them sign for this server: chmod 600"
        );
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(&failed)?;
    parse(&bytes).map(Some).map_err(|flaw| match flaw {
        Flaw::Damaged(what) => KeyFileError::Damaged {
            path: path.to_owned(),
            what,
        },
        Flaw::Newer(found) => KeyFileError::Newer {
            path: path.to_owned(),
            found,
        },
    })
}

/// Replaces the file, durably and as a whole. Whoever is interrupted leaves the old one.
///
/// # Errors
/// [`KeyFileError::Io`].
pub(super) fn write(path: &Path, ring: &KeyRing) -> Result<(), KeyFileError> {
    put(path, text(ring).as_bytes())
}

/// Copies the file of a data directory, if it has one, into the copy of that directory.
///
/// # Errors
/// [`KeyFileError`] if it cannot be read, is damaged, or cannot be written there.
pub(crate) fn copy(data_dir: &Path, to: &Path) -> Result<(), KeyFileError> {
    match read(&data_dir.join(FILE_NAME))? {
        Some(ring) => write(&to.join(FILE_NAME), &ring),
        None => Ok(()),
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let failed = failed("write", path, WRITE_FIX);
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let draft = PathBuf::from(name);
    // One that an earlier run left behind may be readable for others, which its mode here would not change.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    written
        .and_then(|()| std::fs::rename(&draft, path))
        .and_then(|()| {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
        })
        .map_err(failed)
}

/// The last line is the CRC-32 of those before it. That and the first two lines are the same in every format.
fn text(ring: &KeyRing) -> String {
    let secret = URL_SAFE_NO_PAD.encode(ring.token_secret);
    let mut body = format!("{TITLE}\nformat: {FORMAT}\ntokens: {secret}\n");
    for key in &ring.keys {
        let seed = URL_SAFE_NO_PAD.encode(key.seed);
        body.push_str(&format!("key: {} {seed}\n", key.signs_from_secs));
    }
    let crc = crc32fast::hash(body.as_bytes());
    format!("{body}crc: {crc:08x}\n")
}

/// What is wrong with the file.
#[derive(Debug, PartialEq, Eq)]
enum Flaw {
    Newer(u32),
    Damaged(&'static str),
}

fn parse(bytes: &[u8]) -> Result<KeyRing, Flaw> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Flaw::Damaged("it is too long"));
    }
    let text = str::from_utf8(bytes).map_err(|_not_text| Flaw::Damaged("it is no text"))?;
    let (body, crc) = text
        .rsplit_once("crc: ")
        .ok_or(Flaw::Damaged("it has no checksum"))?;
    if crc != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
        return Err(Flaw::Damaged("its checksum is not that of its text"));
    }
    let mut lines = body.lines();
    if lines.next() != Some(TITLE) {
        return Err(Flaw::Damaged("its first line is not that of a file of keys"));
    }
    let format = lines
        .next()
        .and_then(|line| line.strip_prefix("format: ")?.parse().ok());
    match format {
        Some(FORMAT) => {}
        Some(found) if found > FORMAT => return Err(Flaw::Newer(found)),
        _ => return Err(Flaw::Damaged("it has no format")),
    }
    let secret = lines
        .next()
        .and_then(|line| bytes_of(line.strip_prefix("tokens: ")?));
    let token_secret = secret.ok_or(Flaw::Damaged("it has no secret for tokens"))?;
    let keys: Option<Vec<_>> = lines.map(key).collect();
    let keys = keys.ok_or(Flaw::Damaged("it has a key that is none"))?;
    if keys.is_empty() || keys.len() > KEYS_MAX {
        return Err(Flaw::Damaged("it has no key, or too many"));
    }
    if !keys.is_sorted_by_key(|key| key.signs_from_secs) {
        return Err(Flaw::Damaged("its keys are not in order"));
    }
    Ok(KeyRing { keys, token_secret })
}

fn key(line: &str) -> Option<SigningKey> {
    let (signs_from_secs, seed) = line.strip_prefix("key: ")?.split_once(' ')?;
    Some(SigningKey::new(bytes_of(seed)?, signs_from_secs.parse().ok()?))
}

fn bytes_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::key_ring::Rotation;

    fn ring() -> KeyRing {
        KeyRing {
            keys: vec![SigningKey::new([1; 32], 1000), SigningKey::new([2; 32], 2000)],
            token_secret: [3; 32],
        }
    }

    const GOLDEN: &str = "tailwater webhook keys\nformat: 1\n\
        tokens: AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM\n\
        key: 1000 AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\n\
        key: 2000 AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI\n\
        crc: ";

    fn with_crc(body: &str) -> String {
        format!("{body}crc: {:08x}\n", crc32fast::hash(body.as_bytes()))
    }

    #[test]
    fn the_file_is_as_it_always_was() {
        let text = text(&ring());
        assert!(text.starts_with(GOLDEN), "{text}");
        let read = parse(text.as_bytes()).expect("what was written");
        assert_eq!(read.keys[1].seed, [2; 32]);
        assert_eq!(read.keys[1].signs_from_secs, 2000);
        assert_eq!(read.token_secret, [3; 32]);
    }

    #[test]
    fn the_file_is_its_owners_alone_and_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        assert!(read(&path).expect("no file").is_none());
        let left = dir.path().join("webhook-keys.tmp");
        std::fs::write(&left, "half of it").expect("written");
        std::fs::set_permissions(&left, std::fs::Permissions::from_mode(0o666)).expect("set");
        write(&path, &ring()).expect("written");
        let mode = path.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let rotated = ring().rotated(Rotation::Gradual, 3000).expect("room");
        write(&path, &rotated).expect("written");
        let names: Vec<_> = std::fs::read_dir(dir.path()).expect("there").collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(read(&path).expect("good").expect("there").keys.len(), 3);
    }

    #[test]
    fn a_copy_of_a_data_directory_has_its_keys() {
        let (dir, to) = (
            tempfile::tempdir().expect("one"),
            tempfile::tempdir().expect("another"),
        );
        copy(dir.path(), to.path()).expect("nothing to copy");
        assert!(!to.path().join(FILE_NAME).exists());
        write(&dir.path().join(FILE_NAME), &ring()).expect("written");
        copy(dir.path(), to.path()).expect("copied");
        let mode = to
            .path()
            .join(FILE_NAME)
            .metadata()
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let copied = read(&to.path().join(FILE_NAME)).expect("good").expect("there");
        assert_eq!(copied.keys[0].kid(), ring().keys[0].kid());
    }

    #[test]
    fn a_file_with_any_byte_changed_or_cut_off_is_refused() {
        let whole = text(&ring()).into_bytes();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert!(parse(&changed).is_err(), "byte {place}");
            assert!(parse(&whole[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let head = "tailwater webhook keys\nformat: 1\ntokens: AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM\n";
        let seed = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
        let flaw = |body: &str| parse(with_crc(body).as_bytes()).err();
        assert_eq!(flaw(&format!("{head}key: 5 {seed}\n")), None);
        for (body, what) in [
            (
                "something else\n".to_owned(),
                "its first line is not that of a file of keys",
            ),
            ("tailwater webhook keys\n".to_owned(), "it has no format"),
            (
                "tailwater webhook keys\nformat: 1\n".to_owned(),
                "it has no secret for tokens",
            ),
            (head.to_owned(), "it has no key, or too many"),
            (
                format!("{head}key: 5 {seed}\nkey: 4 {seed}\n"),
                "its keys are not in order",
            ),
            (format!("{head}key: 5 abc\n"), "it has a key that is none"),
            (
                format!("{head}{}", format!("key: 5 {seed}\n").repeat(17)),
                "it has no key, or too many",
            ),
        ] {
            assert_eq!(flaw(&body), Some(Flaw::Damaged(what)), "{body}");
        }
        let newer = flaw("tailwater webhook keys\nformat: 2\nwhatever\n");
        assert_eq!(newer, Some(Flaw::Newer(2)));
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, "tailwater").expect("written");
        let said = read(&path).err().expect("damaged").to_string();
        assert!(
            said.contains("it has no checksum; put it back from a backup, or remove it"),
            "{said}"
        );
    }
}
