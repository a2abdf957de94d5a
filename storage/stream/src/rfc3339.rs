//! Times as people and documents show them: RFC 3339 with milliseconds, in UTC.

use jiff::Timestamp as Instant;

use crate::expiry::Timestamp;

/// The text of a time.
pub fn format(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let instant = Instant::from_millisecond(millis).unwrap_or(Instant::MAX);
    format!("{instant:.3}")
}

/// Reads an RFC 3339 time; one before 1970 counts as its beginning. None for anything else.
pub fn parse(text: &str) -> Option<Timestamp> {
    // RFC 3339 has the full date, a time with seconds and an offset; the parser alone would take more.
    let bytes = text.as_bytes();
    let full_date_and_time = bytes.len() >= 20
        && bytes[..10].iter().enumerate().all(|(place, byte)| match place {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
        && matches!(bytes[10], b'T' | b't' | b' ')
        && bytes[13] == b':'
        && bytes[16] == b':'
        && !text.contains('[');
    let instant: Instant = full_date_and_time.then(|| text.parse().ok()).flatten()?;
    Some(Timestamp::from_millis(
        u64::try_from(instant.as_millisecond()).unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_text() {
        for text in ["2026-11-20T20:24:00.123Z", "1970-01-01T00:00:00.000Z"] {
            assert_eq!(format(parse(text).expect("a time")), text);
        }
        assert_eq!(
            parse("2026-11-20T21:24:00.123+01:00"),
            parse("2026-11-20T20:24:00.123Z")
        );
        assert_eq!(parse("1950-01-01T00:00:00Z"), Some(Timestamp::from_millis(0)));
    }

    #[test]
    fn what_is_no_rfc_3339_time_is_refused() {
        for text in [
            "",
            "tomorrow",
            "2026-11-20",
            "2026-11-20T20:24Z",
            "2026-11-20T20:24:00",
            "1e9",
            "2026-13-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_greatest_times_have_a_text() {
        assert!(format(Timestamp::from_millis(u64::MAX)).ends_with('Z'));
    }
}
