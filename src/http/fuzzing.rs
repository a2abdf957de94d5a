//! What fuzz targets may call: the readers of what comes from a socket. Not part of the crate's interface.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use tailwater_storage::stream::NameLimits;

use super::query::ReadQuery;
use super::{caching, compression, headers};
use crate::transfer::ExportReader;

/// Reads bytes as the lines of an export, up to the first that is refused.
pub fn read_export(bytes: &[u8]) {
    let mut reader = ExportReader::new(NameLimits::default());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Err(refusal) = reader.line(line) {
            assert!(!refusal.to_string().is_empty());
            return;
        }
    }
}

/// Reads a query and a header block in every way that requests are read.
pub fn read_request(query: &str, fields: &[(&str, &[u8])]) {
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().take(64) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    let refusals = [
        ReadQuery::parse(Some(query)).err(),
        headers::content_type(&map).err(),
        headers::lifetime(&map).err(),
        headers::producer(&map).err(),
        headers::if_match(&map).err(),
    ];
    for refusal in refusals.into_iter().flatten() {
        // A refusal must be sendable, whatever the client sent.
        drop(refusal.into_response());
    }
    let _closed = headers::closed(&map);
    let _encoding = compression::Encoding::negotiate(&map);
    let _known = caching::client_has(&map, &HeaderValue::from_static("\"x\""));
}
