//! The mistakes that a configuration can have. Each says where it is and what would be right.

use std::fmt;

use crate::kinds::HIDDEN;
use crate::sources::{Entry, Origin};
use crate::table::{Setting, Table};

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("{origin}: not valid TOML: {message}")]
    Syntax {
        /// The place in the file.
        origin: Origin,
        /// The parser's words.
        message: String,
    },
    /// No setting has this key.
    #[error("{origin}: unknown setting `{key}` (value `{value}`){hint}")]
    UnknownKey {
        /// Where it was given.
        origin: Origin,
        /// As it was given.
        key: String,
        /// As it was given; hidden if it may be a secret.
        value: String,
        /// What to do about it, behind a semicolon.
        hint: String,
    },
    /// The setting does not take this value.
    #[error(
        "{origin}: `{key}` cannot be `{value}`{}; allowed: {allowed}",
        reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"))
    )]
    BadValue {
        /// Where it was given.
        origin: Origin,
        /// The setting.
        key: &'static str,
        /// As it was given.
        value: String,
        /// What the setting takes.
        allowed: String,
        /// What is wrong, when `allowed` alone would not tell.
        reason: Option<String>,
    },
    /// Something in a list of tables that the program reads by itself.
    #[error("{origin}: {entry}: {reason}")]
    Entry {
        /// Where it is.
        origin: Origin,
        /// What it is of.
        entry: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Two settings that do not go together.
    #[error(
        "`{key}` ({value}, from {origin}) must not be more than {relation}`{other_key}` ({other_value}, from \
         {other_origin}): {reason}"
    )]
    Conflict {
        /// The setting that is too large.
        key: &'static str,
        /// Its value in canonical TOML.
        value: String,
        /// Where it was given.
        origin: Origin,
        /// Words before the other key, such as `a third of `, or nothing.
        relation: &'static str,
        /// The setting that bounds it.
        other_key: &'static str,
        /// Its value in canonical TOML.
        other_value: String,
        /// Where it was given.
        other_origin: Origin,
        /// Why they do not go together.
        reason: &'static str,
    },
    /// A setting that lacks another one.
    #[error("`{key}` ({value}, from {origin}) needs `{other_key}`, which is not set: {reason}")]
    Alone {
        /// The setting that was given.
        key: &'static str,
        /// Its value in canonical TOML.
        value: String,
        /// Where it was given.
        origin: Origin,
        /// The setting that it needs.
        other_key: &'static str,
        /// Why it needs that one.
        reason: &'static str,
    },
    /// A setting without which nothing can be done.
    #[error("`{key}` is not set, and there is no default: {advice}")]
    Missing {
        /// The setting.
        key: &'static str,
        /// What to do about it.
        advice: String,
    },
    /// A secret among the arguments, which everybody on the machine can see.
    #[error(
        "{origin}: `{key}` is not taken as an argument, since everybody on this machine can see those: {advice}"
    )]
    Argument {
        /// Where it was given.
        origin: Origin,
        /// The setting.
        key: &'static str,
        /// How to give it instead.
        advice: &'static str,
    },
    /// Two settings of which one must be left out.
    #[error(
        "`{key}` (from {origin}) and `{other_key}` (from {other_origin}) are both set: leave one of them out"
    )]
    Both {
        /// One setting.
        key: &'static str,
        /// Where it was given.
        origin: Origin,
        /// The other one.
        other_key: &'static str,
        /// Where it was given.
        other_origin: Origin,
    },
    /// Two settings that must differ.
    #[error(
        "`{key}` (from {origin}) and `{other_key}` (from {other_origin}) must not both be {value}: {reason}"
    )]
    Same {
        /// One setting.
        key: &'static str,
        /// Where it was given.
        origin: Origin,
        /// The other one.
        other_key: &'static str,
        /// Where it was given.
        other_origin: Origin,
        /// The value of both in canonical TOML.
        value: String,
        /// Why they must differ.
        reason: &'static str,
    },
}

/// How alike two keys must be for one to be offered for the other, 1 being equal.
const LIKENESS_MIN: f64 = 0.7;

impl ConfigError {
    pub(crate) fn unknown_key(table: &Table, entry: Entry) -> Self {
        let value = if table.has_secrets() {
            HIDDEN.to_owned()
        } else {
            entry.text
        };
        Self::UnknownKey {
            hint: hint(table, &entry.origin, &entry.key),
            origin: entry.origin,
            key: entry.key,
            value,
        }
    }
}

fn hint(table: &Table, origin: &Origin, key: &str) -> String {
    if let Some(meant) = did_you_mean(table, key) {
        let name = match origin {
            Origin::Variable(_) => meant.variable(),
            _ => meant.key.to_owned(),
        };
        return format!("; did you mean `{name}`?");
    }
    let elsewhere = table.elsewhere.iter().find(|(prefix, _)| key.starts_with(prefix));
    if let Some((_, advice)) = elsewhere {
        return format!("; {advice}");
    }
    let section = key.split_once('.').map_or(key, |(section, _)| section);
    if table.sections().contains(&section) {
        let names = table
            .settings
            .iter()
            .filter(|setting| setting.section() == section)
            .map(Setting::name);
        return format!(
            "; allowed in `{section}`: {}",
            names.collect::<Vec<_>>().join(", ")
        );
    }
    format!("; allowed sections: {}", table.sections().join(", "))
}

/// The setting whose key, or whose name without the section, is most like `key`.
fn did_you_mean(table: &Table, key: &str) -> Option<&'static Setting> {
    let key = key.to_lowercase().replace("__", ".");
    let name = key.rsplit('.').next().unwrap_or_default();
    let likeness = |known: &'static str, known_name: &str| {
        let whole = strsim::normalized_damerau_levenshtein(known, &key);
        // A right name in a wrong section is one mistake, however long the section's name is.
        if known_name == name { whole.max(0.9) } else { whole }
    };
    table
        .settings
        .iter()
        .map(|setting| (likeness(setting.key, setting.name()), setting))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, setting)| setting)
}

/// Every mistake of a configuration, in the order of the sources. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has a mistake:")?,
            mistakes => write!(f, "the configuration has {mistakes} mistakes:")?,
        }
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}
