//! Kinds of values that only the server has. Knows nothing of particular settings.

use http::HeaderName;
use tailwater_process::kinds::{Count, Kind, quoted};

use super::choices::{CorsOrigins, StorageMode};

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
        let count = Count {
            min: 1,
            max: self.max.into(),
        };
        let number = u32::try_from(count.parse(text)?).or(Err(None))?;
        number.is_power_of_two().then_some(number).ok_or(None)
    }

    fn toml(&self, text: &str) -> String {
        self.parse(text).unwrap_or_default().to_string()
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
