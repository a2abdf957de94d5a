//! Kinds of values: what is allowed, how a text becomes a type, and its text in canonical TOML.
//! Knows nothing of particular settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use super::choices::{CorsOrigins, StorageMode};

/// A kind of value. A refusal is `None`, or a reason when [`Kind::allowed`] alone would not explain it.
pub(super) trait Kind {
    type Value;

    /// What is allowed, as a phrase after "allowed:".
    fn allowed(&self) -> String;

    fn parse(&self, text: &str) -> Result<Self::Value, Option<String>>;

    /// The canonical text of an accepted one, as a TOML value that is accepted again.
    fn toml(&self, text: &str) -> String;
}

/// A [`Kind`] whose type does not matter.
pub(super) trait AnyKind: Sync {
    fn allowed(&self) -> String;
    fn check(&self, text: &str) -> Result<(), Option<String>>;
    fn toml(&self, text: &str) -> String;
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
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// An IP address with a port.
pub(super) struct Address;

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

/// A number of bytes, plain or with a unit.
pub(super) struct Size {
    pub(super) min: u64,
    pub(super) max: u64,
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
pub(super) struct BufferSize(pub(super) Size);

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
pub(super) struct Count {
    pub(super) min: u64,
    pub(super) max: u64,
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

/// A power of two, from 1 on.
pub(super) struct PowerOfTwo {
    pub(super) max: u32,
}

impl Kind for PowerOfTwo {
    type Value = u32;

    fn allowed(&self) -> String {
        let powers: Vec<_> = (0..=self.max.ilog2())
            .map(|bits| (1u32 << bits).to_string())
            .collect();
        format!("one of {}", powers.join(", "))
    }

    fn parse(&self, text: &str) -> Result<u32, Option<String>> {
        let number = digits_only(text).and_then(|number| u32::try_from(number).ok());
        number
            .filter(|number| number.is_power_of_two() && *number <= self.max)
            .ok_or(None)
    }

    fn toml(&self, text: &str) -> String {
        digits_only(text).unwrap_or_default().to_string()
    }
}

/// Whole seconds. The unit is in the key.
pub(super) struct Seconds {
    pub(super) min: u64,
    pub(super) max: u64,
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
pub(super) struct Milliseconds {
    pub(super) min: u64,
    pub(super) max: u64,
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
pub(super) struct Directory;

impl Kind for Directory {
    type Value = PathBuf;

    fn allowed(&self) -> String {
        "the path of a directory, absolute or from where the server is started".to_owned()
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
pub(super) struct OptionalFile;

impl Kind for OptionalFile {
    type Value = Option<PathBuf>;

    fn allowed(&self) -> String {
        "the path of a file, absolute or from where the server is started; empty for none".to_owned()
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

/// The name of a header.
pub(super) struct HeaderField;

impl Kind for HeaderField {
    type Value = HeaderName;

    fn allowed(&self) -> String {
        "the name of a header, such as x-user".to_owned()
    }

    fn parse(&self, text: &str) -> Result<HeaderName, Option<String>> {
        text.parse().or(Err(None))
    }

    fn toml(&self, text: &str) -> String {
        quoted(&text.to_ascii_lowercase())
    }
}

/// One of a few words.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

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
pub(super) struct Switch;

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

/// The storage mode.
pub(super) struct Mode;

impl Kind for Mode {
    type Value = StorageMode;

    fn allowed(&self) -> String {
        let names = StorageMode::ALL.map(StorageMode::name).join(", ");
        format!("one of {names} (or {}, which is acid)", StorageMode::ACID_ALIAS)
    }

    fn parse(&self, text: &str) -> Result<StorageMode, Option<String>> {
        StorageMode::named(text).ok_or(None)
    }

    fn toml(&self, text: &str) -> String {
        let named = StorageMode::named(text);
        quoted(named.map_or(text, |mode| mode.name()))
    }
}

/// `*`, or origins with commas between them.
pub(super) struct Origins;

impl Kind for Origins {
    type Value = CorsOrigins;

    fn allowed(&self) -> String {
        "* or a comma-separated list of origins such as https://app.example.com".to_owned()
    }

    fn parse(&self, text: &str) -> Result<CorsOrigins, Option<String>> {
        if text == "*" {
            return Ok(CorsOrigins::Any);
        }
        let origins: Vec<_> = text.split(',').map(|origin| origin.trim().to_owned()).collect();
        match origins.iter().find(|origin| !is_origin(origin)) {
            Some(bad) => Err(Some(format!(
                "`{bad}` is not scheme://host or scheme://host:port"
            ))),
            None => Ok(CorsOrigins::List(origins)),
        }
    }

    fn toml(&self, text: &str) -> String {
        match self.parse(text) {
            Ok(CorsOrigins::List(origins)) => {
                toml::Value::Array(origins.into_iter().map(toml::Value::from).collect()).to_string()
            }
            _ => quoted(text),
        }
    }
}

/// Browsers send the origin in lower case and without a path; anything else would never match.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return false;
    };
    let scheme_fits = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let host_fits = !host.is_empty()
        && host.bytes().all(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'.' | b'-' | b':' | b'[' | b']')
        });
    scheme_fits && host_fits
}

/// The path that streams live below.
pub(super) struct BasePath;

/// First segments that the server itself answers on.
const OWN_SEGMENTS: [&str; 5] = ["healthz", "health", "ok", "readyz", "metrics"];

impl Kind for BasePath {
    type Value = String;

    fn allowed(&self) -> String {
        "a path such as /v1/stream: it starts with /, does not end with /, and its segments are made of \
         letters, digits and - . _ ~"
            .to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, Option<String>> {
        let segments = text.strip_prefix('/').ok_or(None)?;
        let is_plain = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        };
        if !segments.split('/').all(is_plain) {
            return Err(None);
        }
        let first = segments.split('/').next().unwrap_or_default();
        if OWN_SEGMENTS.contains(&first) {
            return Err(Some(format!("the server itself answers on /{first}")));
        }
        Ok(text.to_owned())
    }

    fn toml(&self, text: &str) -> String {
        quoted(text)
    }
}
