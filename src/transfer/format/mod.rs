//! The format of export files: turns streams into lines of JSON, and such lines into streams again.
//! docs/export-format.md describes it. Knows no HTTP, no engine and no files.
//!
//! | file | what stands there |
//! |---|---|
//! | `lines.rs` | each line as it is written, with the names of its fields |
//! | `fields.rs` | one value of a line each, checked |
//! | `stream.rs` | a stream's line: from its state, and back with every rule checked |
//! | `append.rs` | an append's line: how its bytes become text, and back |
//! | `section.rs` | counts and checksum of the lines of a stream |
//! | `write.rs` | [`ExportWriter`]: lines in order, with their counts and checksums |
//! | `read.rs` | [`ExportReader`]: what each line says, and whether it may stand there |
//! | `error.rs` | [`FormatError`]: where a file is wrong, and what to do about it |

mod append;
mod error;
mod fields;
mod lines;
mod read;
mod section;
mod stream;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use error::FormatError;
pub(crate) use read::{Event, ExportReader};
pub(crate) use write::ExportWriter;

/// The content type of an export.
pub(crate) const CONTENT_TYPE: &str = "application/x-ndjson";

/// The number of the format that is written, and the only one that is read.
pub(crate) const FORMAT: u64 = 1;
