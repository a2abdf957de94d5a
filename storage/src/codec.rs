//! How numbers, texts and the rules' own types become bytes on disk and are read back. FORMAT.md describes them.
//!
//! Numbers are little-endian or, where they are mostly small, LEB128 varints. What comes from a disk is never
//! trusted: reading gives [`Malformed`], never a panic.

mod decode;
mod encode;

pub(crate) use decode::Decoder;
pub(crate) use encode::Encode;

const CLOSED: u8 = 1;
const DELETED: u8 = 2;
const RUN: u8 = 16;
const BESIDE: u8 = 32;
/// The flags of a stream's state that are its own.
const STATE_FLAGS: u8 = CLOSED | DELETED | RUN | BESIDE;

/// Bytes that are not what their place says they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read")]
pub(crate) struct Malformed {
    /// What should have stood there.
    pub(crate) what: &'static str,
}

fn malformed<T>(what: &'static str) -> Result<T, Malformed> {
    Err(Malformed { what })
}
