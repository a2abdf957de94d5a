//! Checks that numbered messages came back once each and in order.

use serde_json::{Value, json};

/// The message with that number, as the tests write it.
pub fn numbered(number: usize) -> Value {
    json!({ "number": number })
}

/// The number of a message; panics when it is not one of ours.
#[track_caller]
pub fn number_of(message: &Value) -> usize {
    message["number"]
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        .unwrap_or_else(|| panic!("not a numbered message: {message}"))
}

/// Panics unless the numbers are 0, 1, 2 … up to and without `count`, each once.
#[track_caller]
pub fn assert_in_order(numbers: impl IntoIterator<Item = usize>, count: usize, who: &str) {
    let mut expected = 0;
    for number in numbers {
        assert_eq!(
            number, expected,
            "{who} got {number} where {expected} was due, of {count}"
        );
        expected += 1;
    }
    assert_eq!(expected, count, "{who} got only the first {expected} of {count}");
}

#[cfg(test)]
mod tests {
    use super::assert_in_order;

    #[test]
    fn the_whole_sequence_passes() {
        assert_in_order(0..3, 3, "a reader");
    }

    #[test]
    #[should_panic(expected = "got 3 where 2 was due")]
    fn a_gap_is_noticed() {
        assert_in_order([0, 1, 3], 4, "a reader");
    }

    #[test]
    #[should_panic(expected = "got 1 where 2 was due")]
    fn a_repetition_is_noticed() {
        assert_in_order([0, 1, 1, 2], 3, "a reader");
    }

    #[test]
    #[should_panic(expected = "got only the first 2 of 3")]
    fn a_missing_end_is_noticed() {
        assert_in_order([0, 1], 3, "a reader");
    }
}
