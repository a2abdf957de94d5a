//! Types of events that only the server writes into runs: whoever reads a run takes them for what has happened to it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::transition::MessageEnds;

/// What the types of the server's own events begin with.
pub const PREFIX: &str = "run.";

/// A type that is told of in a refusal is cut off behind so many bytes.
const SHOWN_BYTES_MAX: usize = 100;

/// The first of a body's messages that has a type of the server's own: the how-manieth it is, from 1, and that type.
///
/// Costs next to nothing if no text in the body begins as such a type does.
pub fn first_of(payload: &[u8], ends: &MessageEnds) -> Option<(usize, Box<str>)> {
    if !may_have_one(payload) {
        return None;
    }
    let mut start = 0;
    for (before, end) in ends.relative(payload.len()).enumerate() {
        let end = usize::try_from(end).unwrap_or(payload.len());
        let message = &payload[start..end];
        start = end;
        let event = message.strip_suffix(b",").unwrap_or(message);
        if let Some(kind) = reserved_type(event) {
            return Some((before + 1, kind));
        }
    }
    None
}

/// A text in JSON begins with the prefix only as it is written, or with characters that are escaped.
fn may_have_one(payload: &[u8]) -> bool {
    let has = |part: &str| memchr::memmem::find(payload, part.as_bytes()).is_some();
    has("\"run.") || has("\\u")
}

/// The type of one event, if that is the server's own. Readers differ in which of several members of one name they take.
fn reserved_type(event: &[u8]) -> Option<Box<str>> {
    let Types(reserved) = serde_json::from_slice(event).ok()?;
    reserved
}

/// The first of an object's types that is the server's own.
struct Types(Option<Box<str>>);

impl<'de> Deserialize<'de> for Types {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Types;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Types, A::Error> {
        let mut reserved = None;
        // Both as they are written, so that neither depth nor half a character ends the look.
        while let Some((name, value)) = members.next_entry::<&RawValue, &RawValue>()? {
            if text_of(name).as_deref() == Some(b"type".as_slice())
                && let Some(kind) = text_of(value).filter(|kind| kind.starts_with(PREFIX.as_bytes()))
            {
                reserved.get_or_insert_with(|| shown(&kind));
            }
        }
        Ok(Types(reserved))
    }
}

/// The bytes of a text in JSON; none if it is none. Half a character is no reason to look away.
fn text_of(value: &RawValue) -> Option<Vec<u8>> {
    struct Text(Vec<u8>);
    struct Bytes;
    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_bytes(Bytes).map(Text)
        }
    }
    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    value.get().starts_with('"').then_some(())?;
    serde_json::from_str::<Text>(value.get()).ok().map(|text| text.0)
}

fn shown(kind: &[u8]) -> Box<str> {
    let mut shown = String::from_utf8_lossy(kind).into_owned();
    if shown.len() > SHOWN_BYTES_MAX {
        shown.truncate(shown.floor_char_boundary(SHOWN_BYTES_MAX));
        shown.push('…');
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json;

    fn first(body: &str) -> Option<(usize, Box<str>)> {
        let messages = json::split(body.as_bytes()).expect("JSON");
        first_of(&messages.payload, &messages.ends)
    }

    #[test]
    fn types_of_the_servers_own_are_found_however_they_are_written() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (body, nth) in [
            (r#"{"type":"run.succeeded"}"#.to_owned(), 1),
            (r#"[{"type":"log"},{"line":1,"type":"run.x"}]"#.to_owned(), 2),
            (r#" [ 1 , { "type" : "run." } ]"#.to_owned(), 2),
            (r#"{"type":"\u0072un.dead"}"#.to_owned(), 1),
            (r#"{"\u0074ype":"run.dead"}"#.to_owned(), 1),
            (r#"{"type":"run.dead","type":"log"}"#.to_owned(), 1),
            (r#"{"type":"log","type":"run.dead"}"#.to_owned(), 1),
            (format!(r#"{{"deep":{deep},"much":1e999,"type":"run.x"}}"#), 1),
            (r#"{"\ud800":"\ud800","type":"run.\ud800"}"#.to_owned(), 1),
            (r#"{"type":"\u0072un.\ud800"}"#.to_owned(), 1),
        ] {
            assert_eq!(first(&body).map(|(nth, _)| nth), Some(nth), "{body}");
        }
        let (_, shown) = first(&format!(r#"{{"type":"run.{}"}}"#, "é".repeat(100))).expect("found");
        assert!(shown.ends_with("é…") && shown.len() < 110, "{shown}");
    }

    #[test]
    fn all_others_are_the_workers_own() {
        for body in [
            r#"{"type":"log","line":"run.succeeded"}"#,
            r#"{"type":"runs"}"#,
            r#"{"type":"Run.dead"}"#,
            r#"{"type":" run.dead"}"#,
            r#"{"type":{"type":"run.dead"}}"#,
            r#"{"kind":"run.dead"}"#,
            r#"[[{"type":"run.dead"}]]"#,
            r#"["run.dead",{"type":["run.dead"]},{"type":null,"x":"\u0072un."},7]"#,
            "[]",
        ] {
            assert_eq!(first(body), None, "{body}");
        }
    }

    proptest! {
        /// However the characters of names and values are written.
        #[test]
        fn a_type_is_found_as_a_parser_of_json_sees_it(
            kind in "(run[.])?[a-z.\\\\\"é]{0,5}", escaped in proptest::collection::vec(any::<bool>(), 20), others in 0_usize..3,
        ) {
            let written: String = kind.chars().zip(escaped.into_iter().cycle()).map(|(one, escape)| {
                if escape || matches!(one, '"' | '\\') { format!("\\u{:04x}", u32::from(one)) } else { one.to_string() }
            }).collect();
            let mut events = vec!["{\"line\":\"run.x\"}".to_owned(); others];
            events.push(format!("{{\"type\":\"{written}\"}}"));
            let body = format!("[{}]", events.join(","));
            let read: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            let is_reserved = read[others]["type"].as_str().is_some_and(|kind| kind.starts_with("run."));
            prop_assert_eq!(first(&body).map(|(nth, _)| nth), is_reserved.then_some(others + 1));
        }
    }
}
