//! What must be so of a run, whatever happened to its workers and to its server.

use std::collections::BTreeSet;

use serde_json::Value;

const ENDS: [&str; 5] = [
    "run.succeeded",
    "run.dead",
    "run.cancelled",
    "run.expired",
    "run.timed_out",
];

/// What a run tells.
pub(crate) struct Told {
    /// The epochs that workers had it under.
    pub(crate) epochs: BTreeSet<u64>,
    /// How it ended.
    pub(crate) end: String,
}

/// Judges the events of an ended run whose programs wrote the lines `{epoch} 0`, `{epoch} 1` and so on, `line_count` of them, and
/// then ended well.
///
/// It has one beginning and one end, which is its last event. What a worker wrote stands behind its own lease and before the
/// next thing that the server says of leases: nobody writes who has been fenced. What it wrote is there once and in order, up
/// to where it was killed, and all of it if it came to the end.
#[track_caller]
pub(crate) fn judge(run: &str, events: &[Value], line_count: u64) -> Told {
    let mut told = Told {
        epochs: BTreeSet::new(),
        end: String::new(),
    };
    // The epoch of whoever has the run, and how many lines of theirs have come.
    let mut held: Option<(u64, u64)> = None;
    for (place, event) in events.iter().enumerate() {
        let at = format!("{run}, event {place}: {event}");
        assert!(told.end.is_empty(), "{at}: it has ended before");
        let kind = event["type"].as_str().expect("a type");
        match kind {
            "run.queued" => assert_eq!(place, 0, "{at}"),
            "run.leased" => {
                let epoch = event["epoch"].as_u64().expect("an epoch");
                assert_eq!(held, None, "{at}: somebody has it");
                assert!(
                    told.epochs.last().is_none_or(|last| *last < epoch),
                    "{at}: an old epoch"
                );
                told.epochs.insert(epoch);
                held = Some((epoch, 0));
            }
            "run.lease_lost" | "run.failed" | "run.released" => {
                assert!(held.take().is_some(), "{at}: nobody has it");
            }
            "log" => {
                let Some((epoch, count)) = &mut held else {
                    panic!("{at}: nobody has it")
                };
                assert_eq!(event["line"], format!("{epoch} {count}"), "{at}");
                *count += 1;
            }
            end if ENDS.contains(&end) => {
                if end == "run.succeeded" {
                    let (_, count) = held.expect("somebody has it who ends it");
                    assert_eq!(count, line_count, "{at}: lines are missing");
                }
                end.clone_into(&mut told.end);
            }
            // The very same job came again, because its first answer was lost.
            "run.duplicate" => {}
            other => panic!("{at}: nobody writes {other}"),
        }
    }
    assert!(!told.end.is_empty(), "{run} has no end: {events:?}");
    told
}
