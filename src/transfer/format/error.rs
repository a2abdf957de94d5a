//! Where an export is wrong, and what to do about it.

use std::fmt;

use serde::Deserialize;

use super::FORMAT;

/// The most characters of a value or of a parser's words that an error repeats.
const SHOWN_CHARACTERS: usize = 300;
/// How deep objects stand in each other at most in a line that can be read, and some more.
const DEPTH_MAX: usize = 16;

/// Why a file is no export that can be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {mistake}")]
pub(crate) struct FormatError {
    /// The line, counted from 1.
    pub(crate) line: u64,
    /// What is wrong with it.
    pub(crate) mistake: Mistake,
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mistake {
    /// The first line is not that of an export.
    #[error(
        "this is no export: its first line does not begin with {{\"tailwater_export\":{FORMAT},… ({reason}); give a \
         file that `tailwater export` wrote"
    )]
    NotAnExport {
        /// The parser's words.
        reason: String,
    },
    /// Another version of the format.
    #[error(
        "`tailwater_export` is {format}, and this version reads only {FORMAT}: a later version wrote this export; \
         import it with that one"
    )]
    LaterFormat {
        /// The number of the format.
        format: u64,
    },
    /// Not JSON, or not the fields that stand in a line.
    #[error(
        "{} cannot be read: {reason} (column {column}); docs/export-format.md says what stands there",
        place(field)
    )]
    Unreadable {
        /// Where in the line, such as `stream.producers.epoch`; empty if not within an object.
        field: String,
        /// The parser's words.
        reason: String,
        /// Bytes of the line up to there.
        column: usize,
    },
    /// A line without anything.
    #[error("the line is empty; remove it")]
    Empty,
    /// A line that cannot follow the one before.
    #[error(
        "a line `{kind}` stands where only {expected} can stand: lines are missing or in another order; export again"
    )]
    OutOfPlace {
        /// The kind of the line.
        kind: &'static str,
        /// The kinds that can stand there.
        expected: &'static str,
    },
    /// A line behind the last one.
    #[error("a line follows `complete`, which is the last one; remove it, or import one export at a time")]
    AfterComplete,
    /// A line behind one that was refused.
    #[error("a line before this one was refused, so nothing behind it is read; correct that one first")]
    AfterRefusal,
    /// A value that cannot be.
    #[error("`{field}` is {value}; {fix}")]
    Value {
        /// The field, such as `stream.producers[0].epoch`.
        field: String,
        /// Its value.
        value: String,
        /// The rule that it breaks, or what to do.
        fix: String,
    },
    /// The lines of a stream are not those that its checksum was made from.
    #[error(
        "the checksum of stream `{stream}` is wrong ({found} instead of {expected}): the file was changed or \
         damaged; export it again"
    )]
    Checksum {
        /// The stream's name.
        stream: String,
        /// What its `end` line says.
        found: String,
        /// What its lines give.
        expected: String,
    },
}

impl Mistake {
    /// A value that cannot be; a text comes [`quoted`].
    pub(super) fn value(field: impl fmt::Display, value: impl fmt::Display, fix: impl fmt::Display) -> Self {
        Self::Value {
            field: field.to_string(),
            value: value.to_string(),
            fix: fix.to_string(),
        }
    }
}

fn place(field: &str) -> String {
    if field.is_empty() {
        String::from("the line")
    } else {
        format!("`{}`", cut(field))
    }
}

/// A text in quotes, cut off if it is long.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", cut(text))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads a line as `T`.
///
/// # Errors
/// [`Mistake::Unreadable`] with the place in the line.
pub(super) fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Mistake> {
    serde_json::from_slice(line).map_err(|error| Mistake::Unreadable {
        field: field_before(line, error.column()),
        reason: reason(&error),
        column: error.column(),
    })
}

/// The parser's words without its line number, which is always 1.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let words = error.to_string();
    cut(words
        .rsplit_once(" at line ")
        .map_or(&*words, |(reason, _)| reason))
}

/// The path of the keys that lead to a column of a line, which need not be JSON throughout.
fn field_before(line: &[u8], column: usize) -> String {
    let mut keys: Vec<&[u8]> = Vec::new();
    let mut at = 0;
    while at < column.min(line.len()) && keys.len() <= DEPTH_MAX {
        match line[at] {
            b'{' | b'[' => keys.push(b""),
            b'}' | b']' => drop(keys.pop()),
            b'"' => {
                let text = &line[at + 1..];
                let bytes = text_bytes(text);
                at += bytes + 1;
                let is_key = line
                    .get(at + 1..)
                    .is_some_and(|rest| rest.trim_ascii_start().starts_with(b":"));
                if let Some(key) = keys.last_mut().filter(|_| is_key) {
                    *key = &text[..bytes];
                }
            }
            _ => {}
        }
        at += 1;
    }
    keys.retain(|key| !key.is_empty());
    String::from_utf8_lossy(&keys.join(&b'.')).into_owned()
}

/// How many bytes of a text stand before the quote that ends it.
fn text_bytes(text: &[u8]) -> usize {
    let mut is_escaped = false;
    text.iter()
        .position(|byte| {
            let ends = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            ends
        })
        .unwrap_or(text.len())
}
