//! Random events on one subscription, against a model written from PROTOCOL.md §7 in the plainest way: never two
//! holders, nothing pending without a wake, no ack of a worker that was fenced off, also across restarts.
//!
//! | module | what stands there |
//! |---|---|
//! | `event` | what may happen, and random events |
//! | `naive` | the model: whole lists, no line of the rules |
//! | `driver` | a runtime's part for the rules: what is stored, what is noted, what is sent |

mod subscription {
    pub(crate) mod driver;
    pub(crate) mod event;
    pub(crate) mod naive;
}

use proptest::prelude::*;

use subscription::driver::Driver;
use subscription::event::{Event, events};
use subscription::naive::{Naive, Said};

fn run(is_pull: bool, events: &[Event]) -> Result<(), TestCaseError> {
    let mut naive = Naive::new(is_pull);
    let mut driver = Driver::new(is_pull);
    for event in events {
        let expected = naive.step(event);
        let said = driver.step(event);
        prop_assert_eq!(&said, &expected, "{:?}", event);
        prop_assert_eq!(driver.cursors(), naive.cursors(), "cursors after {:?}", event);
        prop_assert_eq!(driver.pending(), naive.pending(), "pending after {:?}", event);
        let unprocessed: u64 = naive.pending().iter().map(|(_, acked, tail)| tail - acked).sum();
        prop_assert_eq!(driver.pending_bytes(), unprocessed, "bytes after {:?}", event);
        prop_assert_eq!(
            driver.generation(),
            naive.generation(),
            "generation after {:?}",
            event
        );
        prop_assert_eq!(driver.holder(), naive.holder(), "holder after {:?}", event);
        if !naive.pending().is_empty() {
            prop_assert!(driver.has_wake(), "nobody is woken after {:?}", event);
        }
        prop_assert!(said != Said::Broken, "{:?}", event);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_claimed_subscription_is_what_the_model_says(events in events()) {
        run(true, &events)?;
    }

    #[test]
    fn a_webhook_subscription_is_what_the_model_says(events in events()) {
        run(false, &events)?;
    }
}
