//! How stream data is written as Server-Sent Events (PROTOCOL.md §5.8). Pure: bytes in, events out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tailwater_storage::stream::{ContentKind, OffsetToken};

/// What the `id` of the event that tells of the close ends with; a reconnect with it is answered 204.
pub const EOF_SUFFIX: &str = ".eof";

/// How many of the bytes can be shown as events. A text whose last character is not complete is shown up to
/// there, unless nothing will complete it.
pub fn showable(kind: ContentKind, bytes: &[u8], is_final: bool) -> usize {
    if kind == ContentKind::Text && !is_final {
        bytes.len() - incomplete_tail(bytes)
    } else {
        bytes.len()
    }
}

/// Bytes at the end that begin a UTF-8 character without completing it.
fn incomplete_tail(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        // A first byte whose continuation can never be valid is broken, not incomplete.
        let may_complete =
            std::str::from_utf8(&bytes[bytes.len() - back..]).is_err_and(|error| error.error_len().is_none());
        return if length > back && may_complete { back } else { 0 };
    }
    0
}

/// Writes a `data` event with stored bytes: JSON messages as an array, text as it is, anything else as base64.
pub fn push_data(kind: ContentKind, bytes: &[u8], after: OffsetToken, to: &mut Vec<u8>) {
    push_head(after, to);
    match kind {
        ContentKind::Json => {
            // Stored messages have no line breaks, and each is followed by a comma.
            to.extend_from_slice(b"data:[");
            to.extend_from_slice(bytes.strip_suffix(b",").unwrap_or(bytes));
            to.extend_from_slice(b"]\n");
        }
        ContentKind::Text => push_text(&String::from_utf8_lossy(bytes), to),
        ContentKind::Binary => {
            to.extend_from_slice(b"data:");
            let start = to.len();
            to.resize(start + bytes.len().div_ceil(3) * 4, 0);
            let written = STANDARD
                .encode_slice(bytes, &mut to[start..])
                .expect("there is room for base64");
            debug_assert_eq!(start + written, to.len(), "base64 has the length it was given");
            to.push(b'\n');
        }
    }
    to.push(b'\n');
}

/// Writes a `data` event whose data is one line that is already text, such as a record.
pub fn push_line(line: &[u8], after: OffsetToken, to: &mut Vec<u8>) {
    push_head(after, to);
    to.extend_from_slice(b"data:");
    to.extend_from_slice(line);
    to.extend_from_slice(b"\n\n");
}

fn push_head(after: OffsetToken, to: &mut Vec<u8>) {
    to.extend_from_slice(b"event: data\nid: ");
    to.extend_from_slice(&after.to_text());
    to.push(b'\n');
}

/// Every line gets its own field, so no line break in the data can end the event or begin another field. A line
/// that begins with a space gets one more, because parsers take one away.
fn push_text(text: &str, to: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let line_end = rest.find(['\r', '\n']).unwrap_or(rest.len());
        let line = &rest[..line_end];
        to.extend_from_slice(if line.starts_with(' ') {
            b"data: "
        } else {
            b"data:"
        });
        to.extend_from_slice(line.as_bytes());
        to.push(b'\n');
        rest = &rest[line_end..];
        if rest.is_empty() {
            return;
        }
        rest = rest.strip_prefix("\r\n").unwrap_or(&rest[1..]);
    }
}

/// What a `control` event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Where to go on.
    pub next: OffsetToken,
    /// The cursor to go on with.
    pub cursor: u64,
    /// Whether nothing follows yet.
    pub up_to_date: bool,
    /// Whether nothing will ever follow.
    pub closed: bool,
    /// Whether the event carries an id though no data came before it.
    pub with_id: bool,
}

/// Writes a `control` event.
pub fn push_control(control: &Control, to: &mut Vec<u8>) {
    to.extend_from_slice(b"event: control\n");
    if control.closed || control.with_id {
        to.extend_from_slice(b"id: ");
        to.extend_from_slice(&control.next.to_text());
        if control.closed {
            to.extend_from_slice(EOF_SUFFIX.as_bytes());
        }
        to.push(b'\n');
    }
    to.extend_from_slice(b"data:{\"streamNextOffset\":\"");
    to.extend_from_slice(&control.next.to_text());
    to.push(b'"');
    if control.closed {
        to.extend_from_slice(b",\"streamClosed\":true");
    } else {
        to.extend_from_slice(format!(",\"streamCursor\":\"{}\"", control.cursor).as_bytes());
    }
    if control.up_to_date {
        to.extend_from_slice(b",\"upToDate\":true");
    }
    to.extend_from_slice(b"}\n\n");
}

/// A comment that keeps an idle connection alive.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A parser as the HTML standard describes it, for one event.
    fn parse(event: &[u8]) -> (String, String, String) {
        let text = String::from_utf8(event.to_vec()).expect("UTF-8");
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let block = text.strip_suffix("\n\n").expect("an empty line ends the event");
        assert!(!block.contains("\n\n"), "one event, not several: {block:?}");
        let (mut kind, mut id, mut data) = (String::new(), String::new(), Vec::new());
        for line in block.split('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut kind),
                "id" => value.clone_into(&mut id),
                "data" => data.push(value.to_owned()),
                other => panic!("an unknown field {other:?}"),
            }
        }
        (kind, id, data.join("\n"))
    }

    fn token() -> OffsetToken {
        OffsetToken::parse("0000000000000003_0000000000000042").expect("a token")
    }

    fn data_event(kind: ContentKind, bytes: &[u8]) -> (String, String, String) {
        let mut event = Vec::new();
        push_data(kind, bytes, token(), &mut event);
        parse(&event)
    }

    #[test]
    fn a_control_event_says_where_to_go_on() {
        let control = Control {
            next: token(),
            cursor: 9,
            up_to_date: true,
            closed: false,
            with_id: false,
        };
        let mut event = Vec::new();
        push_control(&control, &mut event);
        let (kind, id, data) = parse(&event);
        assert_eq!((kind.as_str(), id.as_str()), ("control", ""));
        let json: serde_json::Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!(json["streamNextOffset"], token().to_string());
        assert_eq!(json["streamCursor"], "9");
        assert_eq!(json["upToDate"], true);
        assert_eq!(json.get("streamClosed"), None);
    }

    #[test]
    fn the_control_event_of_the_close_has_an_id_that_ends_an_event_source() {
        let control = Control {
            next: token(),
            cursor: 9,
            up_to_date: true,
            closed: true,
            with_id: false,
        };
        let mut event = Vec::new();
        push_control(&control, &mut event);
        let (_, id, data) = parse(&event);
        assert_eq!(id, format!("{}.eof", token()));
        let json: serde_json::Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!(
            (&json["streamClosed"], json.get("streamCursor")),
            (&true.into(), None)
        );
    }

    #[test]
    fn json_messages_become_one_array() {
        assert_eq!(data_event(ContentKind::Json, b"{\"a\":1},2,").2, "[{\"a\":1},2]");
    }

    #[test]
    fn a_character_that_is_not_complete_waits_unless_nothing_will_complete_it() {
        let euro = "\u{20ac}".as_bytes();
        for cut in 1..3 {
            let bytes = [b"a", &euro[..cut]].concat();
            assert_eq!(showable(ContentKind::Text, &bytes, false), 1, "{cut}");
            assert_eq!(showable(ContentKind::Text, &bytes, true), 1 + cut);
            assert_eq!(showable(ContentKind::Binary, &bytes, false), 1 + cut);
        }
        assert_eq!(showable(ContentKind::Text, euro, false), 3);
        // Bytes that can never become a character are shown as what they are: broken.
        assert_eq!(showable(ContentKind::Text, b"a\xff", false), 2);
        assert_eq!(showable(ContentKind::Text, b"a\xe0\x80", false), 3);
        assert_eq!(showable(ContentKind::Text, b"\x80\x80\x80\x80", false), 4);
    }

    proptest! {
        #[test]
        fn any_text_comes_out_as_it_went_in_but_for_its_line_breaks(text in "[ a\r\n:é€\u{1f600}]{0,40}") {
            let (kind, id, data) = data_event(ContentKind::Text, text.as_bytes());
            prop_assert_eq!(kind, "data");
            prop_assert_eq!(id, token().to_string());
            prop_assert_eq!(data, text.replace("\r\n", "\n").replace('\r', "\n"));
        }

        #[test]
        fn no_text_can_forge_an_event(text in "(event: control|data: x|id: 1|\r|\n|\r\n|:){0,20}") {
            let (kind, id, _) = data_event(ContentKind::Text, text.as_bytes());
            prop_assert_eq!((kind.as_str(), id), ("data", token().to_string()));
        }

        #[test]
        fn any_bytes_come_back_from_base64(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (_, _, data) = data_event(ContentKind::Binary, &bytes);
            prop_assert_eq!(STANDARD.decode(data).expect("base64"), bytes);
        }

        #[test]
        fn any_cut_of_a_text_shows_all_of_it_once(text in "[aé€\u{1f600}]{0,12}", cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let (mut shown, mut from) = (String::new(), 0);
            for tail in cuts {
                let more = showable(ContentKind::Text, &bytes[from..tail], false);
                shown.push_str(std::str::from_utf8(&bytes[from..from + more]).expect("whole characters"));
                from += more;
            }
            prop_assert_eq!(shown, text);
        }
    }
}
