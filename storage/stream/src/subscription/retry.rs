//! When a wake that could not be handed over is tried again (PROTOCOL.md §7.1).

const FIRST_MS: u64 = 1_000;
const LAST_MS: u64 = 60_000;
/// How much of the pause is left to chance, in either direction.
const JITTER_PERCENT: u64 = 20;

/// How long to pause after so many failures in a row: from a second on twice as long each time, up to a minute, and a
/// fifth more or less. `random` is any number.
pub fn pause_ms(failures: u32, random: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = (FIRST_MS << doublings).min(LAST_MS);
    let spread = pause * JITTER_PERCENT / 100;
    pause - spread + random % (2 * spread + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let middle = |failures| {
            let least = pause_ms(failures, 0);
            least * 100 / 80
        };
        assert_eq!(
            [1, 2, 3, 6, 7, 99].map(middle),
            [1_000, 2_000, 4_000, 32_000, 60_000, 60_000]
        );
    }

    proptest! {
        #[test]
        fn a_pause_is_within_a_fifth_of_what_it_should_be(failures in 1..200_u32, random: u64) {
            let middle = (1_000_u64 << (failures - 1).min(16)).min(60_000);
            let pause = pause_ms(failures, random);
            prop_assert!(pause * 10 >= middle * 8 && pause * 10 <= middle * 12, "{pause} for {middle}");
        }
    }
}
