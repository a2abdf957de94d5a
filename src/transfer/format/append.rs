//! The line of an append: how its bytes become text, and back with every rule checked that needs no other line.

use std::borrow::Cow;

use bytes::Bytes;
use tailwater_storage::engine::ExportedAppend;
use tailwater_storage::stream::{ContentKind, MessageEnds, Position, Timestamp, json};

use super::error::{Mistake, quoted};
use super::fields;
use super::lines::{AppendLine, Binary, Text};

/// The line of an append.
pub(super) fn line(append: &ExportedAppend) -> AppendLine<'_> {
    let text = as_text(&append.payload);
    AppendLine {
        start: append.start.get(),
        at_ms: append.at.as_millis(),
        first_message: append.first_message,
        lengths: lengths(&append.ends),
        text: text.map(|text| Text(text.into())),
        base64: text.is_none().then(|| Binary(Cow::Borrowed(&append.payload))),
    }
}

/// Bytes that a line of an append has at most, so that it is written without growing.
pub(super) fn line_bytes(line: &AppendLine<'_>) -> usize {
    let payload = match (&line.text, &line.base64) {
        (Some(Text(text)), _) => text_bytes_max(text.len()),
        (None, Some(Binary(bytes))) => base64_bytes(bytes.len()),
        (None, None) => 0,
    };
    payload + 11 * line.lengths.as_ref().map_or(0, Vec::len) + 160
}

/// The payload as text, unless it is none or mostly characters that JSON escapes: that can be read, and not much
/// is lost by it.
fn as_text(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    (escaped_bytes(payload) <= text_bytes_max(payload.len())).then_some(text)
}

/// The bytes of a payload as text at the most.
fn text_bytes_max(bytes: usize) -> usize {
    bytes.saturating_mul(2)
}

/// Bytes of a text between its quotes in JSON.
fn escaped_bytes(text: &[u8]) -> usize {
    text.iter().copied().map(escaped_byte).map(usize::from).sum()
}

fn escaped_byte(byte: u8) -> u8 {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

fn base64_bytes(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

fn lengths(ends: &MessageEnds) -> Option<Vec<u32>> {
    let MessageEnds::Many(ends) = ends else {
        return None;
    };
    let mut start = 0;
    let length = |end: &u32| *end - std::mem::replace(&mut start, *end);
    Some(ends.iter().map(length).collect())
}

/// The append of a stream of the given kind that a line tells of.
///
/// # Errors
/// [`Mistake::Value`] for what no append can be.
pub(super) fn exported(line: AppendLine<'_>, kind: ContentKind) -> Result<ExportedAppend, Mistake> {
    let start = fields::position("append.start", line.start)?;
    if line.first_message > line.start {
        let fix = format_args!("before byte {start} (`append.start`) are at most as many messages");
        return Err(Mistake::value("append.first_message", line.first_message, fix));
    }
    let (field, payload) = payload(line.text, line.base64)?;
    check_bytes(field, payload.len() as u64, start)?;
    let append = ExportedAppend {
        start,
        at: Timestamp::from_millis(line.at_ms),
        first_message: line.first_message,
        ends: line
            .lengths
            .map_or(Ok(MessageEnds::One), |lengths| ends(&lengths, payload.len()))?,
        payload,
    };
    check_messages(field, &append, kind)?;
    Ok(append)
}

/// The bytes of an append, and the field that they stand in.
fn payload(text: Option<Text<'_>>, base64: Option<Binary<'_>>) -> Result<(&'static str, Bytes), Mistake> {
    let refused = |value, fix| Err(Mistake::value("append.text", value, fix));
    match (text, base64) {
        (Some(Text(Cow::Borrowed(text))), None) => {
            Ok(("append.text", Bytes::copy_from_slice(text.as_bytes())))
        }
        (Some(Text(Cow::Owned(text))), None) => Ok(("append.text", text.into())),
        (None, Some(Binary(bytes))) => Ok(("append.base64", bytes.into_owned().into())),
        (Some(_), Some(_)) => refused("there beside `append.base64`", "leave one of them out"),
        (None, None) => refused("missing, as `append.base64` is", "give the bytes in one of them"),
    }
}

fn check_bytes(field: &'static str, bytes: u64, start: Position) -> Result<(), Mistake> {
    if bytes == 0 {
        let fix = "an append has at least one byte; leave the line out, also in the counts of `end`";
        return Err(Mistake::value(field, "empty", fix));
    }
    if bytes > u64::from(u32::MAX) {
        let fix = "an append is smaller than 4 GiB; write it as several";
        return Err(Mistake::value(field, format_args!("{bytes} bytes long"), fix));
    }
    if start.advance(bytes).is_none() {
        let value = format_args!("{bytes} bytes long and begins at {start}");
        let fix = format_args!("a position is at most {}", Position::LAST);
        return Err(Mistake::value(field, value, fix));
    }
    Ok(())
}

fn ends(lengths: &[u32], payload_bytes: usize) -> Result<MessageEnds, Mistake> {
    if let Some(nth) = lengths.iter().position(|length| *length == 0) {
        let fix = "a message has at least one byte; leave it out";
        return Err(Mistake::value(format_args!("append.lengths[{nth}]"), 0, fix));
    }
    let sum: u64 = lengths.iter().copied().map(u64::from).sum();
    if sum != payload_bytes as u64 {
        let value = format_args!("{sum} bytes in all");
        let fix =
            format_args!("the append has {payload_bytes}; give the length of each message in bytes of UTF-8");
        return Err(Mistake::value("append.lengths", value, fix));
    }
    let mut end = 0;
    let ends = lengths.iter().map(|length| {
        end += length;
        end
    });
    Ok(MessageEnds::from_ends(ends.collect()))
}

/// Readers of a JSON stream are sent its messages as they are, and those of any other one rely on there being
/// one in each append.
fn check_messages(field: &'static str, append: &ExportedAppend, kind: ContentKind) -> Result<(), Mistake> {
    let count = append.ends.count(append.payload.len());
    match kind {
        ContentKind::Json => {
            let mut start = 0;
            for end in append.ends.relative(append.payload.len()) {
                let message = &append.payload[start..end as usize];
                if !json::is_stored_message(message) {
                    let fix = "a message of a JSON stream is one JSON value without line breaks and without white space around it, and a comma";
                    let value = format_args!("{} at byte {start}", quoted(&String::from_utf8_lossy(message)));
                    return Err(Mistake::value(field, value, fix));
                }
                start = end as usize;
            }
            Ok(())
        }
        ContentKind::Text | ContentKind::Binary if count > 1 => {
            let fix =
                "an append is one message unless the stream's content type is application/json; leave it out";
            Err(Mistake::value(
                "append.lengths",
                format_args!("{count} messages"),
                fix,
            ))
        }
        ContentKind::Text | ContentKind::Binary => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_of_4_gib_or_beyond_the_last_position_is_refused() {
        let refusal = |bytes, start| {
            let start = Position::new(start).expect("a position");
            check_bytes("append.text", bytes, start).map_err(|mistake| mistake.to_string())
        };
        assert_eq!(refusal((1 << 32) - 1, 0), Ok(()));
        assert_eq!(
            refusal(1 << 32, 0).expect_err("a refusal"),
            "`append.text` is 4294967296 bytes long; an append is smaller than 4 GiB; write it as several"
        );
        assert_eq!(refusal(1, Position::LAST.get() - 1), Ok(()));
        assert_eq!(
            refusal(1, Position::LAST.get()).expect_err("a refusal"),
            "`append.text` is 1 bytes long and begins at 9999999999999999; a position is at most 9999999999999999"
        );
    }

    #[test]
    fn a_text_is_kept_up_to_twice_its_length() {
        assert_eq!(as_text(b"\"\"\""), Some("\"\"\""));
        assert_eq!(as_text(b"\0abcd"), Some("\0abcd"));
        assert_eq!(as_text(b"\0abc"), None);
        assert_eq!(as_text(b"\0"), None);
        assert_eq!(as_text("é\u{2028}".as_bytes()), Some("é\u{2028}"));
        assert_eq!(as_text(b"\xff"), None);
    }
}
