//! The rules of a queue against a naive model: no job is lost, none has two ends, what workers of the past say does not
//! count, jobs are given out in order, and concurrency is kept, whatever the clocks do and whenever the process ends.

mod queue {
    pub(crate) mod driver;
    pub(crate) mod event;
    pub(crate) mod naive;
}

use proptest::prelude::*;

use queue::driver::Driver;
use queue::event::{Event, Shape, events, shapes};
use queue::naive::Naive;

fn run(shape: Shape, events: &[Event]) -> Result<(), TestCaseError> {
    let mut naive = Naive::new(shape);
    let mut driver = Driver::new(shape);
    for event in events {
        let expected = naive.step(event);
        let said = driver.step(event);
        prop_assert_eq!(said, expected, "{:?}", event);
        prop_assert_eq!(driver.runs(), naive.runs(), "runs after {:?}", event);
        prop_assert_eq!(driver.counts(), naive.counts(), "counts after {:?}", event);
        prop_assert_eq!(driver.broken(), None, "after {:?}", event);
    }
    // Whatever is open ends once all workers are silent and time goes on.
    let patience = [Event::Pause { paused: false }, Event::Wait { ms: 1_000_000 }];
    for _ in 0..6 * (driver.runs().len() + 1) {
        for event in patience.iter().chain(&[Event::Claim {
            worker: 0,
            count: 100,
        }]) {
            naive.step(event);
            driver.step(event);
        }
    }
    prop_assert_eq!(driver.runs(), naive.runs());
    prop_assert!(
        driver.runs().iter().all(|run| run.state.has_ended()),
        "{:?}",
        driver.runs()
    );
    prop_assert!(driver.jobs_with_keys() == 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_is_what_the_model_says(shape in shapes(), events in events()) {
        run(shape, &events)?;
    }
}
