//! Splits the body of a Server-Sent Events answer into events. Pieces may end anywhere.
//! Knows nothing of streams, and keeps data as bytes, so that text in any encoding passes through.

/// An event, once its blank line has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field, or `message`.
    pub kind: String,
    /// The `data` fields, with a line feed between two of them.
    pub data: Vec<u8>,
    /// The `id` field of this event itself.
    pub id: Option<String>,
}

/// A body that cannot be split into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// An event is larger than this client takes.
    #[error("an event has more than {EVENT_BYTES_MAX} bytes")]
    TooLarge,
}

/// The largest event: a message of the largest body in base64, and room to spare.
const EVENT_BYTES_MAX: usize = 256 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A push parser: feed it pieces, take events.
#[derive(Debug, Default)]
pub struct SseParser {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The last piece ended with a carriage return, so a line feed at the start of the next one ends no line.
    after_return: bool,
    /// The body's first line has been seen.
    started: bool,
    kind: String,
    data: Vec<u8>,
    id: Option<String>,
}

impl SseParser {
    /// Takes a piece of the body and adds the events that it completes to `events`. An event that the body's
    /// end cuts off never comes out.
    pub fn push(&mut self, mut piece: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        if self.after_return && !piece.is_empty() {
            self.after_return = false;
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        while let Some(end) = piece.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.hold(&piece[..end])?;
            let line = std::mem::take(&mut self.line);
            events.extend(self.end_line(&line));
            let rest = &piece[end + 1..];
            piece = match (piece[end], rest.first()) {
                (b'\r', Some(b'\n')) => &rest[1..],
                (b'\r', None) => {
                    self.after_return = true;
                    rest
                }
                _ => rest,
            };
        }
        self.hold(piece)
    }

    fn hold(&mut self, part: &[u8]) -> Result<(), SseError> {
        if self.line.len() + self.data.len() + part.len() > EVENT_BYTES_MAX {
            return Err(SseError::TooLarge);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, mut line: &[u8]) -> Option<SseEvent> {
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.kind = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"id" if !value.contains(&0) => self.id = Some(String::from_utf8_lossy(value).into_owned()),
            // Comments have an empty field name; unknown fields are to be ignored.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<SseEvent> {
        let (kind, id) = (std::mem::take(&mut self.kind), self.id.take());
        let mut data = std::mem::take(&mut self.data);
        // Without a data field there is no event, however many other fields there were.
        data.pop()?;
        let kind = if kind.is_empty() {
            "message".to_owned()
        } else {
            kind
        };
        Some(SseEvent { kind, data, id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{SseEvent, SseParser};

    fn parse<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<SseEvent> {
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        for piece in pieces {
            parser.push(piece, &mut events).expect("small events");
        }
        events
    }

    fn event(kind: &str, data: &str, id: Option<&str>) -> SseEvent {
        SseEvent {
            kind: kind.to_owned(),
            data: data.as_bytes().to_vec(),
            id: id.map(str::to_owned),
        }
    }

    #[test]
    fn events_have_a_kind_data_and_an_id() {
        let body = b": keep-alive\n\nevent: data\nid: 7_1\ndata: one\ndata:  two\ndata\n\nevent:control\ndata:{}\n\n";
        assert_eq!(
            parse([&body[..]]),
            [
                event("data", "one\n two\n", Some("7_1")),
                event("control", "{}", None)
            ]
        );
    }

    #[test]
    fn an_event_that_the_end_cuts_off_never_comes_out() {
        assert_eq!(
            parse([&b"data: a\n\nid: 2\ndata: b\n"[..]]),
            [event("message", "a", None)]
        );
    }

    #[test]
    fn an_event_without_data_is_none_and_leaves_nothing_behind() {
        assert_eq!(
            parse([&b"event: x\nid: 9\n\ndata: b\n\n"[..]]),
            [event("message", "b", None)]
        );
        assert_eq!(parse([&b"data:\n\n"[..]]), [event("message", "", None)]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_beginning_only() {
        let body = "\u{feff}data: a\n\n\u{feff}data: b\n\n".as_bytes();
        assert_eq!(parse([body]), [event("message", "a", None)]);
    }

    #[test]
    fn an_id_with_a_null_and_unknown_fields_are_ignored() {
        assert_eq!(
            parse([&b"id: a\0b\nretry: 10\nfoo: bar\ndata: x\n\n"[..]]),
            [event("message", "x", None)]
        );
    }

    /// The same events in one of the three line ends that the format allows.
    fn body_of(events: &[SseEvent], line_end: &str) -> Vec<u8> {
        let mut body = Vec::new();
        for event in events {
            body.extend(format!(": comment{line_end}event: {}{line_end}", event.kind).bytes());
            if let Some(id) = &event.id {
                body.extend(format!("id: {id}{line_end}").bytes());
            }
            for line in event.data.split(|byte| *byte == b'\n') {
                body.extend([b"data: ", line, line_end.as_bytes()].concat());
            }
            body.extend(line_end.bytes());
        }
        body
    }

    fn any_event() -> impl Strategy<Value = SseEvent> {
        let data = prop_oneof!["[a-z: \n]{0,40}", "[^\r]{0,20}"];
        ("[a-z]{1,8}", data, proptest::option::of("[0-9_.]{0,9}"))
            .prop_map(|(kind, data, id)| event(&kind, &data, id.as_deref()))
    }

    proptest! {
        #[test]
        fn pieces_may_end_anywhere(
            events in proptest::collection::vec(any_event(), 0..6),
            line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let body = body_of(&events, line_end);
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            ends.extend([0, body.len()]);
            ends.sort_unstable();
            let pieces = ends.windows(2).map(|pair| &body[pair[0]..pair[1]]);
            prop_assert_eq!(parse(pieces), events);
        }

        #[test]
        fn byte_by_byte_is_the_same_as_at_once(body in proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), Just(b'd'), any::<u8>()], 0..60
        )) {
            let body = [b"data: x\n".as_slice(), &body, b"\n\ndata: y\n\n"].concat();
            prop_assert_eq!(parse([&body[..]]), parse(body.chunks(1)));
        }
    }
}
