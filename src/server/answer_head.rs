//! The head of an answer that is written past hyper.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use rustix::time::{ClockId, clock_gettime};

/// A date is in seconds, and the system's clock of ticks costs a fraction of the other one.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
const CLOCK: ClockId = ClockId::RealtimeCoarse;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
const CLOCK: ClockId = ClockId::Realtime;

/// The text of a second.
#[derive(Default)]
struct Date {
    second: u64,
    text: String,
}

thread_local! {
    /// The newest date that was written.
    static DATE: RefCell<Date> = RefCell::default();
}

/// Writes the status, the fields and the date of an answer in HTTP/1.1, each with the end of its line. What tells of the
/// body, and the end of the head, are to follow.
pub(super) fn write(status: StatusCode, fields: &HeaderMap, into: &mut Vec<u8>) {
    into.extend_from_slice(b"HTTP/1.1 ");
    into.extend_from_slice(status.as_str().as_bytes());
    into.push(b' ');
    into.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    into.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        into.extend_from_slice(name.as_str().as_bytes());
        into.extend_from_slice(b": ");
        into.extend_from_slice(value.as_bytes());
        into.extend_from_slice(b"\r\n");
    }
    into.extend_from_slice(b"date: ");
    write_date(second(), into);
    into.extend_from_slice(b"\r\n");
}

fn second() -> u64 {
    u64::try_from(clock_gettime(CLOCK).tv_sec).unwrap_or(0)
}

fn write_date(second: u64, into: &mut Vec<u8>) {
    DATE.with_borrow_mut(|date| {
        if date.second != second || date.text.is_empty() {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            *date = Date {
                second,
                text: httpdate::fmt_http_date(time),
            };
        }
        into.extend_from_slice(date.text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::write_date;

    #[test]
    fn a_date_is_that_of_its_second() {
        let of = |second| {
            let mut written = Vec::new();
            write_date(second, &mut written);
            String::from_utf8(written).expect("a text")
        };
        assert_eq!(of(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(of(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(of(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(of(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
