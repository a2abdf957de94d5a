//! Which seeds a test by chance tries.

/// The seeds of a test that tries `count` of them by default, and a quarter of that without optimizations.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect("a number"))
    };
    let count = if cfg!(debug_assertions) {
        count.div_ceil(4)
    } else {
        count
    };
    let first = number("TAILWATER_CRASH_SEED").unwrap_or(0);
    first..first + number("TAILWATER_CRASH_SEEDS").unwrap_or(count)
}
