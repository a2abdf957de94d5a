//! Opens SSE connections, and reads the time stamps out of what they deliver.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::channels::{Channels, Handler};
use crate::request::Target;

/// So many subscribe at a time, so that a server's backlog of unaccepted connections never overflows.
const WAVE: usize = 100;

/// A server that has not accepted a wave of subscriptions after this long is broken.
const WAVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time stamps have this many digits: enough for nanoseconds of any run.
const STAMP_DIGITS: u32 = 19;

/// Takes what subscribers receive.
pub(crate) trait Audience: Handler {
    /// How many subscriptions the server has accepted, which it says by a response head.
    fn established(&self) -> usize;
}

/// Opens `count` more subscriptions of a stream's tail and waits until the server has accepted all.
pub(crate) fn subscribe(
    channels: &mut Channels,
    target: &Target,
    stream: &str,
    count: usize,
    audience: &mut impl Audience,
) -> Result<()> {
    let request = target.subscribe(stream);
    let goal = audience.established() + count;
    while audience.established() < goal {
        let wave = WAVE.min(goal - audience.established());
        let wave_goal = audience.established() + wave;
        for _ in 0..wave {
            let index = channels.open(target.address)?;
            channels.send(index, &request);
        }
        let deadline = Instant::now() + WAVE_TIMEOUT;
        while audience.established() < wave_goal {
            ensure!(
                Instant::now() < deadline,
                "only {} of {goal} subscriptions accepted",
                audience.established()
            );
            channels.poll(Duration::from_millis(100), audience)?;
            channels.check()?;
        }
    }
    Ok(())
}

/// A record of text, `record_bytes` long or as long as the stamp needs, that [`StampScanner`] finds.
pub(crate) fn stamped_record(stamp: u64, record_bytes: usize) -> Vec<u8> {
    let mut record = format!("@{stamp:0width$}", width = STAMP_DIGITS as usize).into_bytes();
    record.resize(record_bytes.max(record.len()), b'.');
    record
}

/// Finds the stamps of [`stamped_record`] in one subscriber's bytes, however they are cut. Nothing else
/// that a server writes into an SSE stream has an `@`.
#[derive(Debug, Clone, Default)]
pub(crate) struct StampScanner {
    /// Digits still to come of a stamp that has begun.
    missing: u32,
    value: u64,
}

impl StampScanner {
    pub(crate) fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(u64)) {
        loop {
            while self.missing > 0 {
                let Some((digit, rest)) = bytes.split_first() else {
                    return;
                };
                self.value = self.value * 10 + u64::from(digit.wrapping_sub(b'0') % 10);
                self.missing -= 1;
                bytes = rest;
                if self.missing == 0 {
                    found(self.value);
                }
            }
            let Some(at) = memchr::memchr(b'@', bytes) else {
                return;
            };
            bytes = &bytes[at + 1..];
            *self = Self {
                missing: STAMP_DIGITS,
                value: 0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{StampScanner, stamped_record};

    #[test]
    fn stamps_are_found_however_the_bytes_are_cut() {
        let mut bytes = b"event: data\ndata:".to_vec();
        bytes.extend_from_slice(&stamped_record(7, 64));
        bytes.extend_from_slice(&stamped_record(1_234_567_890_123_456_789, 0));
        bytes.extend_from_slice(b"\n\nevent: control\ndata:{\"streamNextOffset\":\"1_2\"}\n\n");
        for step in 1..=bytes.len() {
            let mut scanner = StampScanner::default();
            let mut stamps = Vec::new();
            for slice in bytes.chunks(step) {
                scanner.scan(slice, |stamp| stamps.push(stamp));
            }
            assert_eq!(stamps, [7, 1_234_567_890_123_456_789], "cut every {step} bytes");
        }
    }

    #[test]
    fn a_record_has_the_length_asked_for() {
        assert_eq!(stamped_record(1, 256).len(), 256);
    }
}
