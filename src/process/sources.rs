//! Where settings come from: each source becomes a list of entries, a key with its text and its origin.
//! Decides nothing about values.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::mistakes::ConfigError;
use crate::table::{PREFIX, Setting, Table};

/// Everything that was said, as texts. Later sources win: defaults, file, environment, flags.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file, if one was named.
    pub file: Option<File>,
    /// The whole environment; only the `DS_SECTION__KEY` variables of the program are looked at.
    pub environment: Vec<(String, String)>,
    /// Flags in the order in which they were given.
    pub flags: Vec<Flag>,
}

/// A configuration file that has been read.
#[derive(Debug, Clone)]
pub struct File {
    /// As it was named; used in messages only.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// A flag that sets a setting.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As it was typed, such as `--bind`; used in messages only.
    pub flag: String,
    /// `section.key`.
    pub key: String,
    /// The value's text.
    pub value: String,
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the file, at this line, counted from 1.
    File {
        /// The file's name as it was given.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// In this environment variable.
    Variable(String),
    /// By this flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One setting as one source gives it. The key may be unknown.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

impl Sources {
    /// All entries, weakest first. What cannot be read as an entry goes to `errors`.
    pub(crate) fn entries(&self, table: &Table, errors: &mut Vec<ConfigError>) -> Vec<Entry> {
        let mut entries = Vec::new();
        if let Some(file) = &self.file {
            file.entries(table, &mut entries, errors);
        }
        entries.extend(
            self.environment
                .iter()
                .filter_map(|(name, value)| variable_entry(table, name, value)),
        );
        entries.extend(self.flags.iter().map(|flag| Entry {
            key: flag.key.clone(),
            text: flag.value.clone(),
            origin: Origin::Flag(flag.flag.clone()),
        }));
        entries
    }
}

/// `DS_` variables without `__` belong to others (a service link of an orchestrator looks like that), but for those that
/// are a setting's with `_` in place of `__`: whoever sets one of them means that setting.
fn variable_entry(table: &Table, name: &str, value: &str) -> Option<Entry> {
    let rest = name.strip_prefix(PREFIX)?;
    let is_foreign = |prefix: &&str| name.starts_with(*prefix);
    let is_own = name.starts_with(table.variables) && !table.foreign_variables.iter().any(is_foreign);
    let is_slip = |setting: &Setting| setting.variable().replace("__", "_") == name;
    let is_meant = (is_own && rest.contains("__")) || table.settings.iter().any(is_slip);
    if !is_meant {
        return None;
    }
    let known = table.settings.iter().find(|setting| setting.variable() == name);
    // A variable in lower case is not the setting's, so its key must not look like the setting's either.
    let key = known.map_or_else(
        || {
            let key = rest.to_lowercase().replacen("__", ".", 1);
            if table.find(&key).is_some() {
                rest.to_owned()
            } else {
                key
            }
        },
        |setting| setting.key.to_owned(),
    );
    Some(Entry {
        key,
        text: value.to_owned(),
        origin: Origin::Variable(name.to_owned()),
    })
}

impl File {
    fn entries(&self, table: &Table, entries: &mut Vec<Entry>, errors: &mut Vec<ConfigError>) {
        let (root, syntax_errors) = DeTable::parse_recoverable(&self.text);
        if !syntax_errors.is_empty() {
            // What the parser recovered beyond a syntax error is a guess; its keys are not worth reporting.
            errors.extend(syntax_errors.iter().map(|error| ConfigError::Syntax {
                origin: self.at(error.span().map_or(0, |span| span.start)),
                message: error.message().to_owned(),
            }));
            return;
        }
        let from = entries.len();
        self.flatten(table, "", root.get_ref(), entries);
        entries[from..].sort_by_key(|entry| match entry.origin {
            Origin::File { line, .. } => line,
            _ => 0,
        });
    }

    /// Tables become dotted keys, so that a misplaced one is reported like any other unknown key.
    fn flatten(&self, known: &Table, prefix: &str, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            match value.get_ref() {
                _ if known.lists.contains(&path.as_str()) => {}
                DeValue::Table(inner) if !inner.is_empty() => {
                    self.flatten(known, &format!("{path}."), inner, entries);
                }
                DeValue::Table(_) if known.sections().contains(&path.as_str()) => {}
                _ => {
                    let origin = self.at(key.span().start);
                    entries.push(Entry {
                        key: path,
                        text: text_of(value),
                        origin,
                    });
                }
            }
        }
    }

    /// The line that a byte is in.
    #[must_use]
    pub fn at(&self, byte: usize) -> Origin {
        let before = &self.text.as_bytes()[..byte.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Origin::File {
            path: self.path.clone(),
            line,
        }
    }
}

/// The text that the same value would have in a variable. A list is joined with commas.
fn text_of(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.to_string(), |number| number.to_string()),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(value) => value.to_string(),
        DeValue::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        DeValue::Table(_) => "{}".to_owned(),
    }
}
