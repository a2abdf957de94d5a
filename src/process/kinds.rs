//! Kinds of values: what is allowed, how a text becomes a type, and its text in canonical TOML.
//! Knows nothing of particular settings.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A kind of value. A refusal is `None`, or a reason when [`Kind::allowed`] alone would not explain it.
pub trait Kind {
    /// What the text becomes.
    type Value;

    /// What is allowed, as a phrase after "allowed:".
    fn allowed(&self) -> String;

    /// The value of a text.
    fn parse(&self, text: &str) -> Result<Self::Value, Option<String>>;

    /// The canonical text of an accepted one, as a TOML value that is accepted again, unless it is secret.
    fn toml(&self, text: &str) -> String;

    /// Whether texts are not to be shown to people who look at settings and at mistakes in them.
    fn is_secret(&self) -> bool {
        false
    }
}

/// A [`Kind`] whose type does not matter.
pub trait AnyKind: Sync {
    /// As [`Kind::allowed`].
    fn allowed(&self) -> String;
    /// Whether [`Kind::parse`] accepts a text.
    fn check(&self, text: &str) -> Result<(), Option<String>>;
    /// As [`Kind::toml`].
    fn toml(&self, text: &str) -> String;
    /// As [`Kind::is_secret`].
    fn is_secret(&self) -> bool;
}

impl<K: Kind + Sync> AnyKind for K {
    fn allowed(&self) -> String {
        Kind::allowed(self)
    }

    fn check(&self, text: &str) -> Result<(), Option<String>> {
        self.parse(text).map(drop)
    }

    fn toml(&self, text: &str) -> String {
        Kind::toml(self, text)
    }

    fn is_secret(&self) -> bool {
        Kind::is_secret(self)
    }
}

/// A text as a value of TOML.
pub fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// An IP address with a port.
pub struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn allowed(&self) -> String {
        "an IP address with a port, such as 127.0.0.1:4437 or [::]:4437".to_owned()
    }

    fn parse(&self, text: &str) -> Result<SocketAddr, Option<String>> {
        text.parse().or(Err(None))
    }

    fn toml(&self, text: &str) -> String {
        quoted(text)
    }
}

/// An IP address with a port, or none.
pub struct OptionalAddress;

impl Kind for OptionalAddress {
    type Value = Option<SocketAddr>;

    fn allowed(&self) -> String {
        format!("{}; empty for none", Kind::allowed(&Address))
    }

    fn parse(&self, text: &str) -> Result<Option<SocketAddr>, Option<String>> {
        if text.is_empty() {
            return Ok(None);
        }
        Address.parse(text).map(Some)
    }

    fn toml(&self, text: &str) -> String {
        quoted(text)
    }
}

/// A number of bytes, plain or with a unit.
pub struct Size {
    /// The least one.
    pub min: u64,
    /// The greatest one.
    pub max: u64,
}

/// Longest suffix first, because `B` ends all of them.
const UNITS: [(&str, u64); 8] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("b", 1),
];

fn size_bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(suffix, factor)| Some((lower.strip_suffix(suffix)?.trim_end(), *factor)))
        .unwrap_or((&lower, 1));
    digits_only(digits)?.checked_mul(factor)
}

/// Refuses signs, which `u64::from_str` would let through.
fn digits_only(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The shortest exact text: `10485760` is `10MiB`.
fn size_text(bytes: u64) -> String {
    let unit = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ]
    .into_iter()
    .find(|(_, factor): &(&str, u64)| bytes >= *factor && bytes.is_multiple_of(*factor));
    unit.map_or_else(
        || bytes.to_string(),
        |(unit, factor)| format!("{}{unit}", bytes / factor),
    )
}

impl Kind for Size {
    type Value = u64;

    fn allowed(&self) -> String {
        let forms = "a size such as 1048576, 512KiB, 100MB or 1GiB";
        format!("{forms}, from {} to {}", size_text(self.min), size_text(self.max))
    }

    fn parse(&self, text: &str) -> Result<u64, Option<String>> {
        size_bytes(text)
            .filter(|bytes| (self.min..=self.max).contains(bytes))
            .ok_or(None)
    }

    fn toml(&self, text: &str) -> String {
        let shortest = size_text(size_bytes(text).unwrap_or_default());
        if digits_only(&shortest).is_some() {
            shortest
        } else {
            quoted(&shortest)
        }
    }
}

/// A number of bytes that are in the process's memory at once.
pub struct BufferSize(pub Size);

impl Kind for BufferSize {
    type Value = usize;

    fn allowed(&self) -> String {
        Kind::allowed(&self.0)
    }

    fn parse(&self, text: &str) -> Result<usize, Option<String>> {
        self.0
            .parse(text)
            .and_then(|bytes| usize::try_from(bytes).or(Err(None)))
    }

    fn toml(&self, text: &str) -> String {
        Kind::toml(&self.0, text)
    }
}

/// A whole number.
pub struct Count {
    /// The least one.
    pub min: u64,
    /// The greatest one.
    pub max: u64,
}

impl Count {
    fn number(&self, text: &str) -> Option<u64> {
        digits_only(text).filter(|number| (self.min..=self.max).contains(number))
    }
}

impl Kind for Count {
    type Value = usize;

    fn allowed(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }

    fn parse(&self, text: &str) -> Result<usize, Option<String>> {
        self.number(text)
            .and_then(|number| usize::try_from(number).ok())
            .ok_or(None)
    }

    fn toml(&self, text: &str) -> String {
        digits_only(text).unwrap_or_default().to_string()
    }
}

/// Whole seconds. The unit is in the key.
pub struct Seconds {
    /// The least one.
    pub min: u64,
    /// The greatest one.
    pub max: u64,
}

impl Kind for Seconds {
    type Value = Duration;

    fn allowed(&self) -> String {
        format!("whole seconds from {} to {}", self.min, self.max)
    }

    fn parse(&self, text: &str) -> Result<Duration, Option<String>> {
        let seconds = digits_only(text).filter(|seconds| (self.min..=self.max).contains(seconds));
        seconds.map(Duration::from_secs).ok_or(None)
    }

    fn toml(&self, text: &str) -> String {
        digits_only(text).unwrap_or_default().to_string()
    }
}

/// Whole milliseconds. The unit is in the key.
pub struct Milliseconds {
    /// The least one.
    pub min: u64,
    /// The greatest one.
    pub max: u64,
}

impl Kind for Milliseconds {
    type Value = u64;

    fn allowed(&self) -> String {
        format!("whole milliseconds from {} to {}", self.min, self.max)
    }

    fn parse(&self, text: &str) -> Result<u64, Option<String>> {
        digits_only(text)
            .filter(|milliseconds| (self.min..=self.max).contains(milliseconds))
            .ok_or(None)
    }

    fn toml(&self, text: &str) -> String {
        digits_only(text).unwrap_or_default().to_string()
    }
}

/// A directory. Whether it exists and can be used is for those to find out who use it.
pub struct Directory;

impl Kind for Directory {
    type Value = PathBuf;

    fn allowed(&self) -> String {
        "the path of a directory, absolute or from where the process is started".to_owned()
    }

    fn parse(&self, text: &str) -> Result<PathBuf, Option<String>> {
        if text.trim().is_empty() {
            return Err(Some("it is empty".to_owned()));
        }
        // The path stands in messages of one line each, and what was not UTF-8 has become U+FFFD on its way here.
        if text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
            return Err(Some("it has a control character, or is not UTF-8".to_owned()));
        }
        Ok(text.into())
    }

    fn toml(&self, text: &str) -> String {
        quoted(text)
    }
}

/// A file that need not be named. Whether it can be read is for those to find out who use it.
pub struct OptionalFile;

impl Kind for OptionalFile {
    type Value = Option<PathBuf>;

    fn allowed(&self) -> String {
        "the path of a file, absolute or from where the process is started; empty for none".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Option<PathBuf>, Option<String>> {
        if text.is_empty() {
            return Ok(None);
        }
        Directory.parse(text).map(Some)
    }

    fn toml(&self, text: &str) -> String {
        quoted(text)
    }
}

/// One of a few words.
pub struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy> Kind for Choice<T> {
    type Value = T;

    fn allowed(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
        format!("one of {}", words.join(", "))
    }

    fn parse(&self, text: &str) -> Result<T, Option<String>> {
        self.0
            .iter()
            .find_map(|(word, value)| (*word == text).then_some(*value))
            .ok_or(None)
    }

    fn toml(&self, text: &str) -> String {
        quoted(text)
    }
}

/// On or off.
pub struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn parse(&self, text: &str) -> Result<bool, Option<String>> {
        text.parse().or(Err(None))
    }

    fn toml(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// A text that is not to be seen. Whether it is right is for those to find out who use it.
pub struct Secret;

/// The value of a [`Secret`], which nothing shows by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// A text that is not to be seen.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// What stands in place of a secret.
pub(crate) const HIDDEN: &str = "(hidden)";

impl Kind for Secret {
    type Value = Option<Hidden>;

    fn allowed(&self) -> String {
        "a text, which is not shown; empty for none".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Option<Hidden>, Option<String>> {
        if text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
            return Err(Some("it has a control character, or is not UTF-8".to_owned()));
        }
        Ok((!text.is_empty()).then(|| Hidden::new(text.to_owned())))
    }

    fn toml(&self, text: &str) -> String {
        quoted(if text.is_empty() { "" } else { HIDDEN })
    }

    fn is_secret(&self) -> bool {
        true
    }
}
