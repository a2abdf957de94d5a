use proptest::prelude::*;
use serde_json::json;

use super::*;

fn offset(position: u64) -> Offset {
    let owner = if position == 0 {
        0
    } else {
        1_795_213_212_615_347_u64
    };
    format!("{owner:016}_{position:016}").parse().expect("an offset")
}

fn line(position: u64, index: u64, data: &str) -> String {
    format!(
        "{{\"offset\":\"{}\",\"at\":\"2026-11-20T22:20:12.615Z\",\"index\":{index},\"data\":{data}}}\n",
        offset(position)
    )
}

fn json_events(text: &str, after: Offset) -> Result<Vec<Event>, RecordFault> {
    events(&Bytes::copy_from_slice(text.as_bytes()), true, after)
}

fn payloads(events: &[Event]) -> Vec<&[u8]> {
    events.iter().map(|event| &event.payload.as_bytes()[..]).collect()
}

#[test]
fn a_json_value_keeps_its_very_text() {
    let values = [
        r#"{"a":1,"a":2}"#,
        "123456789012345678901234567890.10e+400",
        r#""\ud800 \u0000 é""#,
        "[ 1 ,\t2 ]",
        "-0",
    ];
    let (mut text, mut position) = (String::new(), 0);
    for (index, value) in (0..).zip(values) {
        position += value.len() as u64 + 1;
        text.push_str(&line(position, index, value));
    }
    let events = json_events(&text, Offset::BEGINNING).expect("records");
    assert_eq!(payloads(&events), values.map(str::as_bytes));
    assert!(matches!(events[0].payload, Payload::Json(_)));
    assert_eq!((events[4].index, events[4].offset), (4, offset(position)));
    assert_eq!(events[0].at_ms, 1_795_213_212_615);
}

#[test]
fn a_value_deeper_than_any_parser_recurses_is_taken() {
    let value = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let events = json_events(&line(value.len() as u64 + 1, 0, &value), Offset::BEGINNING).expect("a record");
    assert_eq!(payloads(&events), [value.as_bytes()]);
}

proptest! {
    #[test]
    fn text_and_bytes_come_back_as_they_were(appends in prop::collection::vec(prop_oneof![
        ".{1,20}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 1..20),
    ], 0..6)) {
        let (mut text, mut position) = (String::new(), 0);
        for (index, append) in (0..).zip(&appends) {
            position += append.len() as u64;
            let mut record = json!({ "offset": offset(position).to_string(), "at": "2026-11-20T22:20:12Z", "index": index });
            match std::str::from_utf8(append) {
                Ok(data) => record["data"] = data.into(),
                Err(_) => {
                    record["data"] = STANDARD.encode(append).into();
                    record["encoding"] = "base64".into();
                }
            }
            text.push_str(&format!("{record}\n"));
        }
        let events = events(&text.into(), false, Offset::BEGINNING).expect("records");
        prop_assert_eq!(payloads(&events), appends.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    #[test]
    fn whatever_a_socket_brings_is_an_event_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = events(&body.into(), true, Offset::BEGINNING);
    }

    /// Of an answer that lost lines, was cut, or has a line twice, nothing is taken.
    #[test]
    fn no_loss_and_no_repetition_goes_unseen(count in 2_usize..8, lost in 0_usize..8, again in any::<bool>()) {
        let lines: Vec<_> = (0..count as u64).map(|index| line(2 * (index + 1), index, "7")).collect();
        let lost = lost % (count - 1);
        let mut damaged = lines.clone();
        if again {
            damaged.insert(lost, lines[lost].clone());
        } else {
            damaged.remove(lost);
        }
        prop_assert!(json_events(&lines.concat(), Offset::BEGINNING).is_ok());
        prop_assert!(json_events(&damaged.concat(), Offset::BEGINNING).is_err());
        let mut cut = lines.concat();
        cut.pop();
        prop_assert!(matches!(json_events(&cut, Offset::BEGINNING), Err(RecordFault::CutOff)));
    }
}

#[test]
fn no_body_is_no_event() {
    assert_eq!(json_events("", offset(7)).expect("nothing"), []);
    assert!(matches!(
        json_events("\n", offset(7)),
        Err(RecordFault::Line { number: 1, .. })
    ));
}

#[test]
fn an_event_that_does_not_follow_is_named() {
    let told = |text: &str, after| json_events(text, after).expect_err("a fault").to_string();
    assert_eq!(
        told(&line(2, 1, "7"), Offset::BEGINNING),
        "event 0 should follow, and event 1 does"
    );
    assert_eq!(
        told(&line(9, 3, "7"), offset(2)),
        "event 3 ends at position 9, and by the length of its data it ends at 4"
    );
    assert_eq!(
        told(&[line(4, 3, "7"), line(6, 5, "7")].concat(), offset(2)),
        "event 4 should follow, and event 5 does"
    );
    assert!(
        json_events(&line(4, 3, "7"), offset(2)).is_ok(),
        "trimmed events are counted"
    );
}

#[test]
fn what_cannot_be_decoded_is_named() {
    let told = |record: serde_json::Value| {
        let mut whole = json!({ "offset": offset(1).to_string(), "at": "2026-11-20T22:20:12Z", "index": 0 });
        whole
            .as_object_mut()
            .expect("an object")
            .extend(record.as_object().expect("an object").clone());
        events(&format!("{whole}\n").into(), false, Offset::BEGINNING)
            .expect_err("a fault")
            .to_string()
    };
    assert_eq!(
        told(json!({ "data": "x", "encoding": "zip" })),
        "event 0 has the encoding \"zip\"; is the source newer than this mirror?"
    );
    assert!(told(json!({ "data": "?", "encoding": "base64" })).starts_with("event 0 is no base64"));
    assert!(told(json!({ "data": 7 })).starts_with("its line 1 is no record: invalid type"));
    assert!(told(json!({ "data": "x", "at": "yesterday" })).starts_with("its line 1 is no record"));
    assert!(told(json!({})).starts_with("its line 1 is no record: missing field `data`"));
}
