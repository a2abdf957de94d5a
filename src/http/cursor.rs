//! Cursors: numbers of 20-second intervals, so that caches in front of live reads let go (PROTOCOL.md §10.1).

use tailwater_storage::stream::Timestamp;

/// 2024-10-09T00:00:00Z, from which intervals are counted.
const EPOCH_MS: u64 = 1_728_432_000_000;
const INTERVAL_MS: u64 = 20_000;
const JITTER_SECS_MAX: u64 = 3600;

/// The number of the interval at `now`.
pub(crate) fn interval(now: Timestamp) -> u64 {
    now.as_millis().saturating_sub(EPOCH_MS) / INTERVAL_MS
}

/// The cursor to answer with: the interval, or more than the client's own if that is not behind it, by a random
/// jitter of up to an hour.
pub(crate) fn answer(now: Timestamp, client: Option<u64>, random: u64) -> u64 {
    let interval = interval(now);
    match client {
        Some(client) if client >= interval => {
            let jitter_ms = (1 + random % JITTER_SECS_MAX) * 1000;
            client.saturating_add((jitter_ms / INTERVAL_MS).max(1))
        }
        _ => interval,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_never_goes_back_and_never_stands_still_for_a_client_that_echoes_it() {
        let now = Timestamp::from_millis(EPOCH_MS + 1000 * INTERVAL_MS + 5);
        assert_eq!(answer(now, None, 7), 1000);
        assert_eq!(answer(now, Some(999), 7), 1000);
        for random in [0, 1, 19, 3599, u64::MAX] {
            let next = answer(now, Some(1000), random);
            assert!((1001..=1180).contains(&next), "{next}");
        }
        assert_eq!(answer(now, Some(u64::MAX), 1), u64::MAX);
    }
}
