//! Medians, ratios and percentiles. Knows numbers only.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The lowest and highest of some values, and the one in the middle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` for no values. Of an even number the two in the middle are averaged.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { low, median, high })
    }

    /// Of the ratios of values measured one after the other. Machines change speed while they are
    /// being measured; a pair does so together.
    pub(crate) fn of_ratios(subject: &[f64], peer: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = subject
            .iter()
            .zip(peer)
            .map(|(subject, peer)| subject / peer)
            .collect();
        Self::of(&ratios)
    }
}

/// Latencies from 1 µs to a minute, to three digits.
pub(crate) fn new_latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are valid")
}

/// The latency, in milliseconds, that `percent` of the recorded nanoseconds do not exceed.
pub(crate) fn percentile_ms(latencies: &Histogram<u64>, percent: f64) -> f64 {
    to_f64(latencies.value_at_percentile(percent)) / 1e6
}

/// A duration as a histogram keeps it; 584 years and more are all the same.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts and bytes here stay far below 2^53, so nothing is lost.
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::{Spread, new_latencies, percentile_ms};

    #[test]
    fn the_median_of_an_odd_number_of_values_is_the_middle_one() {
        assert_eq!(
            Spread::of(&[9.0, 1.0, 4.0]),
            Some(Spread {
                low: 1.0,
                median: 4.0,
                high: 9.0
            })
        );
    }

    #[test]
    fn the_median_of_an_even_number_of_values_is_between_the_middle_two() {
        assert_eq!(
            Spread::of(&[8.0, 1.0, 4.0, 2.0]),
            Some(Spread {
                low: 1.0,
                median: 3.0,
                high: 8.0
            })
        );
    }

    #[test]
    fn no_values_have_no_median() {
        assert_eq!(Spread::of(&[]), None);
    }

    /// The machine's speed changed between the rounds: the ratio of the medians would be 1.2.
    #[test]
    fn ratios_are_taken_pair_by_pair_before_the_median() {
        let ratios = Spread::of_ratios(&[300.0, 100.0, 120.0], &[200.0, 100.0, 60.0]);
        assert_eq!(
            ratios,
            Some(Spread {
                low: 1.0,
                median: 1.5,
                high: 2.0
            })
        );
    }

    #[test]
    fn percentiles_come_in_milliseconds_with_three_digits() {
        let mut latencies = new_latencies();
        for ms in 1..=100 {
            latencies.record(ms * 1_000_000).expect("in range");
        }
        assert!((percentile_ms(&latencies, 50.0) / 50.0 - 1.0).abs() < 0.001);
        assert!((percentile_ms(&latencies, 99.0) / 99.0 - 1.0).abs() < 0.001);
    }
}
