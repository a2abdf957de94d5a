//! Any text is an offset that has exactly this text, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tailwater_stream::OffsetToken;

fuzz_target!(|text: &str| {
    if let Some(token) = OffsetToken::parse(text) {
        assert_eq!(token.to_string(), text);
        assert_eq!(token.to_text(), text.as_bytes());
    }
});
