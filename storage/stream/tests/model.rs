//! Random command sequences over a handful of streams, against a reference model written from PROTOCOL.md.
//!
//! | module | what stands there |
//! |---|---|
//! | `command` | what may be asked, and the requests that come of it |
//! | `generator` | random commands |
//! | `outcome` | the words in which both sides answer |
//! | `reference` | the protocol in the plainest way, without a line of the crate |
//! | `plain` | one stream of the reference |
//! | `driver` | the engine's part for the crate under test |
//! | `stored` | what the driver stored, and reads of it through the lineage |
//! | `words` | between plain text and the crate's types |
//! | `world` | both side by side, compared after every command |

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseResult, TestRunner};
use tailwater_stream::{StreamState, Transition};

mod model {
    pub(crate) mod command;
    pub(crate) mod driver;
    pub(crate) mod generator;
    pub(crate) mod outcome;
    pub(crate) mod plain;
    pub(crate) mod reference;
    pub(crate) mod stored;
    pub(crate) mod words;
    pub(crate) mod world;
}

use model::command::Step;
use model::generator::steps;
use model::stored::Stored;
use model::world::World;

/// Failing cases are kept in a file that every later run begins with.
fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/model/regressions.txt",
        ))),
        max_shrink_iters: 20_000,
        ..Config::default()
    }
}

fn run(steps: &[Step]) -> Result<World, TestCaseError> {
    let mut world = World::new();
    for step in steps {
        world.step(step)?;
    }
    Ok(world)
}

/// The state after all transitions, beginning with `state`.
fn replayed<'a>(mut state: StreamState, transitions: impl Iterator<Item = &'a Transition>) -> StreamState {
    for transition in transitions {
        state.apply(transition);
    }
    state
}

fn replay_everywhere(stored: &Stored) -> TestCaseResult {
    let created = StreamState::created(&stored.created);
    let transitions = || stored.log.iter().map(|(transition, _)| transition);
    prop_assert_eq!(
        &replayed(created.clone(), transitions()),
        &stored.state,
        "from scratch"
    );
    let mut prefix = created;
    for (length, (transition, after)) in stored.log.iter().enumerate() {
        let resumed = replayed(prefix.clone(), transitions().skip(length));
        prop_assert_eq!(&resumed, &stored.state, "resumed after {} transitions", length);
        prefix.apply(transition);
        prop_assert_eq!(&prefix, after, "after {} transitions", length + 1);
    }
    Ok(())
}

/// Every position has its own token, and their texts are in the order of the positions (PROTOCOL.md §8).
fn tokens_grow(state: &StreamState) -> TestCaseResult {
    let mut previous = String::new();
    for number in 0..=state.tail.get() {
        let position = tailwater_stream::Position::new(number).expect("up to the tail");
        let token = state.lineage.token(position).to_string();
        prop_assert!(previous < token, "{} comes after {}", token, previous);
        previous = token;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn streams_do_what_the_reference_does(steps in steps()) {
        let world = run(&steps)?;
        for stored in world.driver.incarnations() {
            tokens_grow(&stored.state)?;
        }
    }

    #[test]
    fn replaying_transitions_from_scratch_or_from_any_prefix_gives_the_same_state(steps in steps()) {
        let world = run(&steps)?;
        for stored in world.driver.incarnations() {
            replay_everywhere(stored)?;
        }
    }
}

/// A generator that never gets to a rule would let the comparison pass without having looked at it.
#[test]
fn the_random_commands_reach_every_outcome() {
    let mut runner = TestRunner::deterministic();
    let mut reached: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..150 {
        let steps = steps().new_tree(&mut runner).expect("steps").current();
        let mut world = World::new();
        for step in &steps {
            let outcome = world.step(step).expect("the reference agrees");
            *reached.entry(outcome.class()).or_default() += 1;
        }
    }
    for class in [
        "Created",
        "Exists",
        "Conflict",
        "HeldByForks",
        "SourceNotFound",
        "SourceGone",
        "ForkContentType",
        "ForkOffset",
        "ForkTrimmed",
        "ForkSubOffset",
        "TooLarge",
        "Appended",
        "Duplicate",
        "AlreadyClosed",
        "Empty",
        "Closed",
        "ContentType",
        "Fenced",
        "EpochStart",
        "Gap",
        "TooManyProducers",
        "TailMismatch",
        "StreamSeq",
        "InvalidJson",
        "NoMessages",
        "StreamFull",
        "Trimmed",
        "AlreadyTrimmed",
        "UnknownOffset",
        "Deleted",
        "NotFound",
        "Gone",
        "Done",
    ] {
        assert!(
            reached.contains_key(class),
            "{class} is never reached: {reached:?}"
        );
    }
}
