//! Any body is split exactly if it is JSON, and its messages read back as its values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tailwater_stream::json;

fuzz_target!(|body: &[u8]| {
    let parsed = serde_json::from_slice::<Value>(body);
    let Ok(messages) = json::split(body) else {
        assert!(parsed.is_err(), "valid JSON was refused");
        return;
    };
    let mut answer = vec![b'['];
    answer.extend_from_slice(messages.payload.strip_suffix(b",").unwrap_or_default());
    answer.push(b']');
    assert!(!answer.contains(&b'\n') && !answer.contains(&b'\r'));
    // The splitter does not descend, so it takes values that are nested too deeply for the parser.
    let (Ok(parsed), Ok(read)) = (parsed, serde_json::from_slice::<Value>(&answer)) else { return };
    let expected = match parsed {
        Value::Array(values) => values,
        value => vec![value],
    };
    assert_eq!(read, Value::Array(expected));
});
