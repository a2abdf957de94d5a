//! The head of an answer that is written past hyper.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode};
use rustix::time::{ClockId, clock_gettime};

use crate::http::AnswerFields;

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

/// The head of an answer in HTTP/1.1 while it is written. What tells of the body, and the end of the head, are to follow.
pub(super) struct AnswerHead<'v>(&'v mut Vec<u8>);

impl<'v> AnswerHead<'v> {
    /// Writes the status and the date.
    pub(super) fn begin(status: StatusCode, into: &'v mut Vec<u8>) -> Self {
        into.extend_from_slice(b"HTTP/1.1 ");
        into.extend_from_slice(status.as_str().as_bytes());
        into.push(b' ');
        into.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        into.extend_from_slice(b"\r\ndate: ");
        write_date(second(), into);
        into.extend_from_slice(b"\r\n");
        Self(into)
    }

    /// Writes all fields of a map.
    pub(super) fn put_all(&mut self, fields: &HeaderMap) {
        for (name, value) in fields {
            self.add_value(name, value);
        }
    }
}

impl AnswerFields for AnswerHead<'_> {
    fn put(&mut self, name: &HeaderName, value: &[u8]) {
        self.0.extend_from_slice(name.as_str().as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }
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
