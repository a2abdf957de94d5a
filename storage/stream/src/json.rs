//! How a JSON body becomes stored messages (PROTOCOL.md §9.1).
//!
//! Each message is stored without its line breaks and followed by a comma, so that any run of messages becomes
//! an answer by putting `[` before it and `]` in place of its last comma, and fits one line of an SSE event.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::transition::MessageEnds;

/// A JSON body divided into messages, in the form in which they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonMessages {
    /// The messages, each followed by a comma.
    pub payload: Bytes,
    /// Where each message ends, its comma included.
    pub ends: MessageEnds,
}

/// Why a body is no JSON that can be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonRefusal {
    /// The body is not one JSON value in UTF-8.
    #[error("the body is not valid JSON: {reason}")]
    Invalid {
        /// What the parser found, and where.
        reason: String,
    },
}

/// Divides a body into messages: an array gives one for each of its elements, any other value gives one.
/// The empty array gives none.
///
/// # Errors
/// [`JsonRefusal::Invalid`] if the body is not exactly one JSON value. Nothing of it is kept then.
///
/// # Panics
/// If the body is over 4 GiB, which the limits on bodies exclude.
pub fn split(body: &[u8]) -> Result<JsonMessages, JsonRefusal> {
    let invalid = |error: serde_json::Error| JsonRefusal::Invalid {
        reason: error.to_string(),
    };
    let is_array = body.iter().find(|byte| !b" \t\r\n".contains(byte)) == Some(&b'[');
    if !is_array {
        let value: &RawValue = serde_json::from_slice(body).map_err(invalid)?;
        let mut payload = Vec::with_capacity(value.get().len() + 1);
        push_message(&mut payload, value);
        return Ok(JsonMessages {
            payload: payload.into(),
            ends: MessageEnds::One,
        });
    }
    let values: Vec<&RawValue> = serde_json::from_slice(body).map_err(invalid)?;
    let mut payload = Vec::with_capacity(body.len());
    let mut ends = Vec::with_capacity(values.len());
    for value in values {
        push_message(&mut payload, value);
        ends.push(u32::try_from(payload.len()).expect("bodies are smaller than 4 GiB"));
    }
    Ok(JsonMessages {
        payload: payload.into(),
        ends: MessageEnds::from_ends(ends),
    })
}

/// Whether bytes are one message in the form in which it is stored.
pub fn is_stored_message(bytes: &[u8]) -> bool {
    let Some(text) = bytes.strip_suffix(b",") else {
        return false;
    };
    // Readers of records count what parsers see of a message, and that has no white space around it.
    let value = serde_json::from_slice::<&RawValue>(text);
    let is_value = value.is_ok_and(|value| value.get().len() == text.len());
    is_value && memchr::memchr2(b'\r', b'\n', text).is_none()
}

/// Line breaks cannot stand inside JSON strings, so every one of them is white space.
fn push_message(payload: &mut Vec<u8>, value: &RawValue) {
    let mut rest = value.get().as_bytes();
    while let Some(line_break) = memchr::memchr2(b'\r', b'\n', rest) {
        payload.extend_from_slice(&rest[..line_break]);
        rest = &rest[line_break + 1..];
    }
    payload.extend_from_slice(rest);
    payload.push(b',');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(body: &str) -> Vec<String> {
        let messages = split(body.as_bytes()).expect("valid JSON");
        let mut start = 0;
        messages
            .ends
            .relative(messages.payload.len())
            .map(|end| {
                let message = &messages.payload[start..end as usize];
                start = end as usize;
                assert_eq!(message.last(), Some(&b','));
                String::from_utf8(message[..message.len() - 1].to_vec()).expect("UTF-8")
            })
            .collect()
    }

    #[test]
    fn one_level_of_an_array_is_flattened_and_not_two() {
        assert_eq!(stored(r#"{"a":1}"#), [r#"{"a":1}"#]);
        assert_eq!(stored(r#"[{"a":1},{"b":2}]"#), [r#"{"a":1}"#, r#"{"b":2}"#]);
        assert_eq!(stored("[[1,2], [3,4]]"), ["[1,2]", "[3,4]"]);
        assert_eq!(stored("[[[1,2,3]]]"), ["[[1,2,3]]"]);
        assert_eq!(stored(" \n[ 1 , \"x\" ]\n"), ["1", "\"x\""]);
        assert_eq!(stored("null"), ["null"]);
    }

    #[test]
    fn the_empty_array_gives_no_message() {
        assert_eq!(split(b"[]").expect("valid"), split(b" [ ] ").expect("valid"));
        assert_eq!(stored("[]"), Vec::<String>::new());
    }

    #[test]
    fn line_breaks_between_tokens_go_and_escaped_ones_stay() {
        assert_eq!(stored("{\r\n\"a\" :\n\"x\\ny\"\r}"), ["{\"a\" :\"x\\ny\"}"]);
    }

    /// The mirror found the records of a message with a space around it to be shorter than their positions say.
    #[test]
    fn a_stored_message_is_one_value_with_its_comma_and_nothing_else() {
        for text in ["1,", "{\"a\" : [1, 2]},", "\" \","] {
            assert!(is_stored_message(text.as_bytes()), "{text}");
        }
        for text in [
            "", ",", "1", "1,,", " 1,", "1 ,", "\t1,", "1\n,", "[1,\n2],", "1 2,",
        ] {
            assert!(!is_stored_message(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn half_valid_bodies_give_nothing() {
        for body in [
            "",
            "{",
            "[1,",
            "[1,]",
            "1 2",
            "[1] x",
            "{\"a\":\"\n\"}",
            "nul",
            "\u{feff}1",
            "NaN",
        ] {
            assert!(split(body.as_bytes()).is_err(), "{body}");
        }
        assert!(split(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_costs_no_stack() {
        let body = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(stored(&body).len(), 1);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::hash_map(".{0,6}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_batch_reads_back_as_its_values(values in proptest::collection::vec(any_json(), 0..8), pretty: bool) {
            let body = if pretty { serde_json::to_vec_pretty(&values) } else { serde_json::to_vec(&values) };
            let messages = split(&body.expect("serializable")).expect("valid JSON");
            let mut answer = vec![b'['];
            answer.extend_from_slice(messages.payload.strip_suffix(b",").unwrap_or_default());
            answer.push(b']');
            prop_assert!(!answer.contains(&b'\n') && !answer.contains(&b'\r'));
            let read: Vec<serde_json::Value> = serde_json::from_slice(&answer).expect("valid JSON");
            prop_assert_eq!(read, values);
        }

        #[test]
        fn any_bytes_are_split_or_refused_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let valid = serde_json::from_slice::<serde_json::Value>(&body).is_ok();
            prop_assert!(split(&body).is_ok() >= valid);
        }
    }
}
