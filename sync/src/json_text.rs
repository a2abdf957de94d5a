//! What JSON may say and PostgreSQL's `jsonb` cannot hold: the character NUL, and halves of surrogate pairs. Finding
//! them before a row is sent spares the whole batch a refusal; all else that PostgreSQL may refuse is left to itself
//! to say.

use memchr::memchr;

/// Why a JSON text is not for `jsonb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unstorable {
    /// `\\u0000`.
    #[error("it has the character \\u0000, which PostgreSQL cannot hold in a jsonb")]
    Nul,
    /// A code unit of UTF-16 that means nothing by itself.
    #[error(
        "it has \\u{0:04x}, one half of a surrogate pair, without the other, which PostgreSQL cannot hold in a jsonb"
    )]
    HalfPair(u16),
    /// Then it is no JSON either.
    #[error("it is not UTF-8")]
    NotUtf8,
}

/// Looks at the escapes of a JSON text.
///
/// # Errors
/// The first thing that it has and `jsonb` cannot hold.
pub fn check(text: &[u8]) -> Result<(), Unstorable> {
    if std::str::from_utf8(text).is_err() {
        return Err(Unstorable::NotUtf8);
    }
    // The first half of a pair whose second one must come next, and where that would stand.
    let mut expected: Option<(u16, usize)> = None;
    let mut at = 0;
    while let Some(found) = memchr(b'\\', &text[at..]) {
        let escape = at + found;
        if text.get(escape + 1) != Some(&b'u') {
            // Whatever is escaped is passed over, a backslash too.
            at = (escape + 2).min(text.len());
            continue;
        }
        // An escape that is no number is no JSON, which PostgreSQL will say better.
        let Some(unit) = text.get(escape + 2..escape + 6).and_then(code_unit) else {
            at = escape + 2;
            continue;
        };
        at = escape + 6;
        match (unit, expected) {
            (0, _) => return Err(Unstorable::Nul),
            (0xDC00..=0xDFFF, Some((_, place))) if place == escape => expected = None,
            (_, Some((high, _))) => return Err(Unstorable::HalfPair(high)),
            (0xD800..=0xDBFF, None) => expected = Some((unit, at)),
            (0xDC00..=0xDFFF, None) => return Err(Unstorable::HalfPair(unit)),
            (_, None) => {}
        }
    }
    expected.map_or(Ok(()), |(high, _)| Err(Unstorable::HalfPair(high)))
}

fn code_unit(digits: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` would take a sign.
    let is_number = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_number.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_can_hold_passes() {
        for text in [
            "1",
            r#""a\\u0000""#,
            r#"{"a\n":"\"\\\\u0000"}"#,
            r#""\u0001\u00e9""#,
            r#""\ud83d\ude00 and \uD83D\uDE00""#,
            "\"\u{1F600}\"",
            // No JSON at all is not for us to tell.
            r#""\u00"#,
            r#""\"#,
            r#""\u+123""#,
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn nul_is_found_wherever_it_stands() {
        for text in [
            r#""\u0000""#,
            r#"{"\u0000":1}"#,
            r#""\\\u0000""#,
            r#""\ud83d\ude00\u0000""#,
        ] {
            assert_eq!(check(text.as_bytes()), Err(Unstorable::Nul), "{text}");
        }
    }

    #[test]
    fn a_half_of_a_surrogate_pair_is_found() {
        for (text, half) in [
            (r#""\ud83d""#, 0xD83D),
            (r#""\ude00""#, 0xDE00),
            (r#""\ud83d \ude00""#, 0xD83D),
            (r#""\ud83d\ud83d\ude00""#, 0xD83D),
            (r#""\ud83d\n\ude00""#, 0xD83D),
            (r#""\ud83dxx\u0041""#, 0xD83D),
        ] {
            assert_eq!(check(text.as_bytes()), Err(Unstorable::HalfPair(half)), "{text}");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_found() {
        assert_eq!(check(b"\"\xff\""), Err(Unstorable::NotUtf8));
    }
}
