//! Kinds of values that only the mirror has. Knows nothing of particular settings.

use tailwater_process::kinds::{Hidden, Kind, quoted};

use crate::postgres;
use crate::source::{Patterns, check_url};

/// The URL that streams are below.
pub(super) struct StreamRoot;

impl Kind for StreamRoot {
    type Value = String;

    fn allowed(&self) -> String {
        "an http:// or https:// URL such as https://logs.example/v1/stream".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, Option<String>> {
        check_url(text).map_err(|error| Some(error.to_string()))?;
        Ok(text.to_owned())
    }

    fn toml(&self, text: &str) -> String {
        quoted(text)
    }

    // What is refused may be a URL with a password in it.
    fn is_secret(&self) -> bool {
        true
    }
}

/// The URL of a database. It may hold a password.
pub(super) struct PostgresUrl;

/// What a database's URL looks like.
const POSTGRES_URL: &str = "a URL such as postgres://mirror:password@db.example:5432/logs; empty for none";

impl Kind for PostgresUrl {
    type Value = Option<Hidden>;

    fn allowed(&self) -> String {
        POSTGRES_URL.to_owned()
    }

    fn parse(&self, text: &str) -> Result<Option<Hidden>, Option<String>> {
        if text.is_empty() {
            return Ok(None);
        }
        match postgres::Settings::from_url(text) {
            Ok(_) => Ok(Some(Hidden::new(text.to_owned()))),
            // It shows no password, whatever was wrong.
            Err(error) => Err(Some(error.to_string())),
        }
    }

    fn toml(&self, text: &str) -> String {
        quoted(&without_password(text))
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// A URL as it may be shown: the place of the database, and neither who comes nor how.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return String::new();
    };
    let (place, _parameters) = rest.split_once('?').unwrap_or((rest, ""));
    match place.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://(hidden)@{host}"),
        None => format!("{scheme}://{place}"),
    }
}

/// What people call an instance.
pub(super) struct InstanceName;

/// A name is for lists and log lines.
const NAME_CHARS_MAX: usize = 100;

impl Kind for InstanceName {
    type Value = Option<String>;

    fn allowed(&self) -> String {
        format!("up to {NAME_CHARS_MAX} characters on one line; empty for host and process")
    }

    fn parse(&self, text: &str) -> Result<Option<String>, Option<String>> {
        if text.chars().count() > NAME_CHARS_MAX || text.chars().any(char::is_control) {
            return Err(None);
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn toml(&self, text: &str) -> String {
        quoted(text)
    }
}

/// Names and globs with commas between them.
pub(super) struct StreamPatterns;

impl Kind for StreamPatterns {
    type Value = Patterns;

    fn allowed(&self) -> String {
        "names and globs such as jobs/a, jobs/* or runs/**, with commas between them".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Patterns, Option<String>> {
        Patterns::parse(text.split(',').map(str::trim)).map_err(|bad| Some(bad.to_string()))
    }

    fn toml(&self, text: &str) -> String {
        let patterns = text.split(',').map(|pattern| toml::Value::from(pattern.trim()));
        toml::Value::Array(patterns.collect()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_database_is_shown_without_who_comes_and_how() {
        for (url, shown) in [
            (
                "postgres://me:pw@h:5432/db?sslmode=require",
                "postgres://(hidden)@h:5432/db",
            ),
            ("postgres://me:p@w@h/db", "postgres://(hidden)@h/db"),
            ("postgres://h/db?password=pw", "postgres://h/db"),
            ("host=h password=pw", ""),
            ("", ""),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
