//! Any text in any pieces comes out of its events whole, and forges none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tailwater::http::sse_encoding::{push_data, showable};
use tailwater_stream::{ContentKind, OffsetToken};

fuzz_target!(|input: (&[u8], Vec<u16>)| {
    let (bytes, cuts) = input;
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let (mut shown, mut from) = (String::new(), 0);
    for (tail, is_final) in cuts.into_iter().map(|cut| (cut, false)).chain([(bytes.len(), true)]) {
        if tail < from {
            continue;
        }
        let end = from + showable(ContentKind::Text, &bytes[from..tail], is_final);
        if end > from {
            let mut event = Vec::new();
            push_data(ContentKind::Text, &bytes[from..end], OffsetToken::START, &mut event);
            shown.push_str(&data_of(&event));
            // A line break at a cut ends one event's data; between events it is the piece's own.
        }
        from = end;
    }
    let expected: String =
        String::from_utf8_lossy(bytes).chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
    let shown: String = shown.chars().filter(|letter| *letter != '\n').collect();
    if std::str::from_utf8(bytes).is_ok() {
        assert_eq!(shown, expected);
    }
});

/// The data of the only event, as a parser gives it.
fn data_of(event: &[u8]) -> String {
    let text = std::str::from_utf8(event).expect("events are UTF-8");
    let block = text.strip_suffix("\n\n").expect("an empty line ends the event");
    assert!(!block.contains("\n\n") && !block.contains('\r'), "one event, not several");
    let mut data = Vec::new();
    for (number, line) in block.split('\n').enumerate() {
        let (field, value) = line.split_once(':').expect("a field");
        match number {
            0 => assert_eq!(line, "event: data"),
            1 => assert_eq!(field, "id"),
            _ => {
                assert_eq!(field, "data");
                data.push(value.strip_prefix(' ').unwrap_or(value));
            }
        }
    }
    data.join("\n")
}
