//! What is typed or comes on stdin, as JSON.

use std::io::{self, Read as _};

use serde_json::value::RawValue;

use super::error::CommandError;

/// No server takes a longer body by default.
const BYTES_MAX: u64 = 64 << 20;

/// The JSON that was given, or that stands on stdin, as it is.
pub(super) fn json_of(given: Option<&str>) -> Result<Box<RawValue>, CommandError> {
    let text = match given {
        Some(text) => text.to_owned(),
        None => {
            let mut text = String::new();
            let read = io::stdin().lock().take(BYTES_MAX).read_to_string(&mut text);
            read.map_err(|source| CommandError::Input { source })?;
            text
        }
    };
    serde_json::from_str(text.trim()).map_err(|source| CommandError::BadPayload { source })
}
