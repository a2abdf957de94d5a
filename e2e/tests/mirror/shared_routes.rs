//! Routes of several mirrors: each writes the rows of its own streams, also into rows that the other one writes.

use tailwater_e2e::eventually;

use crate::instances::{LEASE_MS, SHARES, metric, named};
use crate::rig::Rig;

const RUNS: u64 = 40;
const KINDS: u64 = 5;
const WRITERS: u64 = 12;

/// A run has a row of its own. Kinds have one each, whichever stream has told of it last.
const ROUTES: &str = r#"
[sync]
create_tables = true

[[route]]
name = "runs"
streams = "runs/{run}"
table = "app.runs"
mode = "upsert"
key = ["run"]
[route.columns]
run = { part = "run", type = "bigint" }
n = { pointer = "/n", type = "bigint", required = true }

[[route]]
name = "kinds"
streams = "kinds/{writer}"
table = "app.kinds"
mode = "upsert"
key = ["kind"]
[route.columns]
kind = { pointer = "/kind", type = "bigint", required = true }
n = { pointer = "/n", type = "bigint", required = true }
writer = { part = "writer", type = "bigint" }

[[route]]
name = "steps"
streams = "steps/{run}"
table = "app.steps"
events = false
[route.columns]
run = { part = "run", type = "bigint" }
n = { pointer = "/n", type = "bigint", required = true }
"#;

#[test]
fn two_that_share_the_streams_keep_the_newest_of_each_key_and_one_is_killed() {
    let rig = Rig::with("file-durable", &[], &[("DS_SYNC__LEASE_MS", LEASE_MS)]).configured(ROUTES);
    let (a, b) = (named(&rig, "a"), named(&rig, "b"));
    rig.expect(SHARES, "2|32|32");
    let streams =
        |prefix: &'static str, count: u64| (0..count).map(move |number| format!("{prefix}/{number}"));
    let names: Vec<_> = streams("runs", RUNS)
        .chain(streams("kinds", WRITERS))
        .chain(streams("steps", RUNS))
        .collect();
    for name in &names {
        rig.server.stream(name).create();
    }
    let mut n = 0;
    let mut append = |times: u64| {
        for _ in 0..times {
            for name in &names {
                let kind = n % KINDS;
                rig.server
                    .stream(name)
                    .append(format!(r#"{{"n":{n},"kind":{kind}}}"#));
            }
            n += 1;
        }
        n
    };
    append(6);
    let has_written = |mirror, route| metric(mirror, &format!("route_rows_total{{route=\"{route}\"}}")) > 0.0;
    eventually("each has written rows of every route", || {
        append(1);
        let routes = ["runs", "kinds", "steps"];
        let have_both = |route| has_written(&a, route) && has_written(&b, route);
        routes.into_iter().all(have_both).then_some(())
    });
    append(3);
    a.kill();
    let appended = append(3);
    for name in &names {
        rig.expect_mirrored(name);
    }
    assert_eq!(
        rig.ask("SELECT count(*), min(n), max(n) FROM app.runs"),
        format!("{RUNS}|{0}|{0}", appended - 1)
    );
    // The last of each kind has the same number in all streams.
    assert_eq!(
        rig.ask(&format!(
            "SELECT count(*), bool_and(n % {KINDS} = kind), min(n), max(n) FROM app.kinds"
        )),
        format!("{KINDS}|t|{}|{}", appended - KINDS, appended - 1)
    );
    assert_eq!(
        rig.ask("SELECT count(*), count(DISTINCT (run, n)), count(DISTINCT run), max(n) FROM app.steps"),
        format!("{0}|{0}|{RUNS}|{1}", RUNS * appended, appended - 1)
    );
    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.dead_letters"), "0");
    assert_eq!(
        rig.ask("SELECT count(*) FROM tailwater.events WHERE stream LIKE 'steps/%'"),
        "0"
    );
    b.stop();
}
