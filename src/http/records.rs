//! The view of a stream as records: one JSON object for each message, or for each append without messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tailwater_storage::engine::{Incarnation, MessageRecord};
use tailwater_storage::stream::ContentKind;

use super::time;

/// The content type of records in an answer.
pub(crate) const CONTENT_TYPE: &str = "application/x-ndjson";

/// Records as lines.
pub(crate) fn lines(stream: &Incarnation, records: &[MessageRecord]) -> Bytes {
    let mut lines = Vec::with_capacity(records.iter().map(|record| record.data.len() + 128).sum());
    for record in records {
        push(stream, record, &mut lines);
        lines.push(b'\n');
    }
    lines.into()
}

/// Writes one record as a JSON object without line breaks.
pub(crate) fn push(stream: &Incarnation, record: &MessageRecord, to: &mut Vec<u8>) {
    let head = format!(
        "{{\"offset\":\"{}\",\"at\":\"{}\",\"index\":{},",
        stream.token(record.end),
        time::format(record.at),
        record.index
    );
    to.extend_from_slice(head.as_bytes());
    match stream.content_type.kind() {
        ContentKind::Json => {
            to.extend_from_slice(b"\"data\":");
            to.extend_from_slice(record.data.strip_suffix(b",").unwrap_or(&record.data));
        }
        ContentKind::Text if std::str::from_utf8(&record.data).is_ok() => {
            let text = String::from_utf8_lossy(&record.data);
            to.extend_from_slice(b"\"data\":");
            to.extend_from_slice(serde_json::Value::from(text.as_ref()).to_string().as_bytes());
        }
        ContentKind::Text | ContentKind::Binary => {
            to.extend_from_slice(b"\"encoding\":\"base64\",\"data\":\"");
            to.extend_from_slice(STANDARD.encode(&record.data).as_bytes());
            to.push(b'"');
        }
    }
    to.push(b'}');
}
