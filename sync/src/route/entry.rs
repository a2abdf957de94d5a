//! A table of the configuration file that is read key by key, with whatever is wrong in it. Knows no route.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::Found;
use super::mistake::RouteMistake;

/// How alike two keys must be for one to be offered for the other, 1 being equal.
const LIKENESS_MIN: f64 = 0.7;

/// A table, and the mistakes that were found in it.
pub(super) struct Entry<'a> {
    table: &'a DeTable<'a>,
    /// The byte of the file where it begins.
    pub(super) at: usize,
    pub(super) mistakes: Vec<Found>,
}

impl<'a> Entry<'a> {
    pub(super) fn new(table: &'a DeTable<'a>, at: usize) -> Self {
        Self {
            table,
            at,
            mistakes: Vec::new(),
        }
    }

    /// The value of a key, and where the key is.
    pub(super) fn take(&self, key: &str) -> Option<(usize, &'a DeValue<'a>)> {
        let found = self.table.iter().find(|(name, _)| name.get_ref() == key);
        found.map(|(name, value)| (name.span().start, value.get_ref()))
    }

    /// The text of a key that may be left out.
    pub(super) fn text(&mut self, key: &str, example: &'static str) -> Option<(usize, &'a str)> {
        let (at, value) = self.take(key)?;
        let DeValue::String(text) = value else {
            self.refuse_kind(key, at, value, example);
            return None;
        };
        Some((at, text))
    }

    /// The text of a key that has to be there.
    pub(super) fn required_text(
        &mut self,
        key: &'static str,
        example: &'static str,
    ) -> Option<(usize, &'a str)> {
        if self.take(key).is_none() {
            self.mistakes
                .push((self.at, RouteMistake::Missing { key, example }));
        }
        self.text(key, example)
    }

    pub(super) fn switch(&mut self, key: &str, example: &'static str) -> Option<bool> {
        let (at, value) = self.take(key)?;
        let DeValue::Boolean(is_on) = value else {
            self.refuse_kind(key, at, value, example);
            return None;
        };
        Some(*is_on)
    }

    /// What is right, or none, with what was wrong kept.
    pub(super) fn keep<T>(&mut self, at: usize, read: Result<T, RouteMistake>) -> Option<T> {
        read.map_err(|mistake| self.mistakes.push((at, mistake))).ok()
    }

    pub(super) fn refuse_kind(&mut self, key: &str, at: usize, value: &DeValue<'_>, example: &'static str) {
        let mistake = RouteMistake::WrongKind {
            key: key.to_owned(),
            found: kind(value),
            example,
        };
        self.mistakes.push((at, mistake));
    }

    /// Refuses all keys but these.
    pub(super) fn refuse_others(&mut self, known: &[&str]) {
        let is_other = |name: &&Spanned<_>| !known.contains(&AsRef::<str>::as_ref(name.get_ref()));
        let others: Vec<&Spanned<toml::de::DeString<'_>>> = self.table.keys().filter(is_other).collect();
        for name in others {
            let key = name.get_ref().to_string();
            let likeness = |known: &str| strsim::normalized_damerau_levenshtein(known, &key);
            let meant = known
                .iter()
                .map(|known| (likeness(known), *known))
                .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
                .max_by(|(one, _), (other, _)| one.total_cmp(other));
            let mistake = RouteMistake::UnknownKey {
                meant: meant.map(|(_, known)| known.to_owned()),
                allowed: known.join(", "),
                key,
            };
            self.mistakes.push((name.span().start, mistake));
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
