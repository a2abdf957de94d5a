//! What holds for every export and for whatever is taken for one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::sample::Index;
use tailwater_storage::stream::NameLimits;

use super::golden::example;
use super::{Event, ExportReader, Read, counting, events, generator, read, written};

fn lines(file: &[u8]) -> Vec<&[u8]> {
    file.split_inclusive(|byte| *byte == b'\n').collect()
}

/// A changed file is refused, or cut off, or says what it said before. Only of the streams that count, which
/// abandoned ones do not, and not when and by which version it was written.
fn is_noticed_or_harmless(changed: &[u8], said: Vec<Event>) -> Result<(), TestCaseError> {
    if let Read::Whole(says) = read(changed) {
        prop_assert_eq!(counting(says), counting(said));
    }
    Ok(())
}

/// Whether the payload stands as text exactly if that is text and not longer than base64.
fn is_in_the_right_form(line: &[u8]) -> bool {
    let line: serde_json::Value = serde_json::from_slice(line).expect("JSON");
    let append = &line["append"];
    let from_base64 = |text: &serde_json::Value| STANDARD.decode(text.as_str()?).ok();
    let (payload, is_text) = match (&append["text"], &append["base64"]) {
        (serde_json::Value::String(text), serde_json::Value::Null) => (text.clone().into_bytes(), true),
        (serde_json::Value::Null, base64) => (from_base64(base64).expect("base64"), false),
        _ => panic!("both forms"),
    };
    let readable = 2 * payload.len() + 2;
    let text = String::from_utf8(payload).ok();
    let as_text = text.map(|text| serde_json::Value::from(text).to_string().len());
    is_text == as_text.is_some_and(|as_text| as_text <= readable)
}

proptest! {
    #[test]
    fn what_was_written_is_read_and_written_again_byte_by_byte(sections in generator::sections()) {
        let said = events(&sections);
        let file = written(&said);
        prop_assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), lines(&file).len());
        let Read::Whole(says) = read(&file) else {
            return Err(TestCaseError::fail(format!("{:?}", read(&file))));
        };
        prop_assert_eq!(&says, &said);
        prop_assert_eq!(written(&says), file);
    }

    #[test]
    fn a_payload_is_text_unless_it_is_none_or_mostly_escapes(sections in generator::sections()) {
        let file = written(&events(&sections));
        for line in lines(&file).into_iter().filter(|line| line.starts_with(b"{\"append\"")) {
            prop_assert!(is_in_the_right_form(line), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_or_harmless(
        sections in generator::sections(), place in any::<Index>(), byte in any::<u8>(), bit in 0..8_u8,
    ) {
        let said = events(&sections);
        let file = written(&said);
        let place = place.index(file.len());
        for becomes in [byte, file[place] ^ (1 << bit), b'\n', b' ', b'0', b'"'] {
            let mut changed = file.clone();
            changed[place] = becomes;
            is_noticed_or_harmless(&changed, said.clone())?;
        }
    }

    #[test]
    fn a_byte_that_went_away_or_came_is_noticed_or_harmless(
        sections in generator::sections(), place in any::<Index>(), byte in any::<u8>(),
    ) {
        let said = events(&sections);
        let file = written(&said);
        let place = place.index(file.len());
        let mut shorter = file.clone();
        shorter.remove(place);
        is_noticed_or_harmless(&shorter, said.clone())?;
        let mut longer = file.clone();
        longer.insert(place, byte);
        is_noticed_or_harmless(&longer, said)?;
    }

    #[test]
    fn a_line_that_went_away_or_came_twice_or_elsewhere_is_noticed_or_harmless(
        sections in generator::sections(), line in any::<Index>(), other in any::<Index>(),
    ) {
        let said = events(&sections);
        let file = written(&said);
        let lines = lines(&file);
        let (line, other) = (line.index(lines.len()), other.index(lines.len()));
        let mut fewer = lines.clone();
        fewer.remove(line);
        is_noticed_or_harmless(&fewer.concat(), said.clone())?;
        let mut more = lines.clone();
        more.insert(other, lines[line]);
        is_noticed_or_harmless(&more.concat(), said.clone())?;
        let mut exchanged = lines.clone();
        exchanged.swap(line, other);
        is_noticed_or_harmless(&exchanged.concat(), said)?;
    }

    #[test]
    fn a_file_that_is_cut_off_behind_any_line_is_not_complete(sections in generator::sections()) {
        let file = written(&events(&sections));
        let mut reader = ExportReader::new(NameLimits::default());
        for line in lines(&file) {
            prop_assert!(!reader.is_complete());
            prop_assert!(reader.line(line).is_ok());
        }
        prop_assert!(reader.is_complete());
    }

    #[test]
    fn any_bytes_are_refused_without_panic(
        known in 0..20_usize, bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let example = example();
        let mut reader = ExportReader::new(NameLimits::default());
        for line in lines(example.as_bytes()).into_iter().take(known) {
            prop_assert!(reader.line(line).is_ok());
        }
        let is_empty = reader.is_complete() && bytes.trim_ascii().is_empty();
        prop_assert_eq!(reader.line(&bytes).is_ok(), is_empty);
        prop_assert_eq!(reader.is_complete(), is_empty);
    }

    #[test]
    fn any_json_is_refused_without_panic(
        from in any::<Index>(), tokens in prop::collection::vec(tokens(), 1..12),
    ) {
        let example = example();
        for line in lines(example.as_bytes()) {
            let kept = from.index(line.len());
            let changed = [&line[..kept], tokens.concat().as_bytes()].concat();
            let mut reader = ExportReader::new(NameLimits::default());
            drop(reader.line(&changed));
            let mut reader = ExportReader::new(NameLimits::default());
            reader.line(lines(example.as_bytes())[0]).expect("the head");
            drop(reader.line(&changed));
            drop(reader.line(&changed));
        }
    }
}

fn tokens() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "null",
            "true",
            "-1",
            "1e9",
            "0.5",
            "\"\"",
            "18446744073709551616",
            "\"\\ud800\"",
            "{\"stream\":",
            "{\"append\":",
            "{\"end\":",
            "\"tail\":",
            "\"start\":",
            "\"text\":",
        ])
        .prop_map(String::from),
        any::<u64>().prop_map(|number| number.to_string()),
    ]
}

#[test]
fn the_example_that_is_cut_off_behind_any_byte_is_not_complete() {
    let example = example();
    // Without only its last line end it still says all.
    for bytes in 0..example.len() - 1 {
        let read = read(&example.as_bytes()[..bytes]);
        assert!(!matches!(read, Read::Whole(_)), "{bytes} bytes: {read:?}");
    }
}

#[test]
fn any_changed_byte_of_the_example_is_noticed_or_harmless() {
    let example = example();
    let Read::Whole(said) = read(example.as_bytes()) else {
        panic!("the example cannot be read")
    };
    for place in 0..example.len() {
        for bit in 0..8 {
            let mut changed = example.clone().into_bytes();
            changed[place] ^= 1 << bit;
            is_noticed_or_harmless(&changed, said.clone()).expect("noticed or harmless");
        }
    }
}
