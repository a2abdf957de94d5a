//! Mirrors behind PgBouncer, which has fewer connections to PostgreSQL than they have to it, and hands them out
//! transaction by transaction.

use tailwater_e2e::PgBouncer;

use crate::instances::{LEASE_MS, Numbers, SHARES};
use crate::rig::{DATABASE, Rig};

/// `jsonb` has no such number.
const REFUSED: &str = "1e200000";

#[test]
#[ignore = "needs PgBouncer; `make test-mirror` brings it"]
fn several_mirrors_behind_a_transaction_pooler_share_the_streams_and_one_is_killed() {
    let rig = Rig::new("file-durable");
    let pooler = PgBouncer::before(rig.postgres.address());
    let url = pooler.url(DATABASE);
    let start = |name: &str| {
        rig.mirror_with(&[
            ("DS_SYNC__POSTGRES_URL", &url),
            ("DS_SYNC__LEASE_MS", LEASE_MS),
            ("DS_SYNC__INSTANCE_NAME", name),
        ])
    };
    let [a, b, c] = ["a", "b", "c"].map(start);
    rig.expect(SHARES, "3|21|22");
    let mut numbers = Numbers::new(&rig, (0..60).map(|run| format!("runs/{run}")));
    numbers.append();
    numbers.expect_rows();

    // Each holder of a partition meets rows that PostgreSQL refuses among those that it takes.
    let odd: Vec<_> = (0..30)
        .map(|run| rig.server.stream(&format!("odd/{run}")).create())
        .collect();
    numbers.append();
    for stream in &odd {
        stream.append(format!("[0,{REFUSED},2]"));
    }
    a.kill();
    for stream in &odd {
        stream.append(format!("[{REFUSED},4]"));
    }
    numbers.append();
    rig.expect(SHARES, "2|32|32");
    numbers.append();
    rig.expect(
        "SELECT count(*), count(DISTINCT (stream, index)), bool_and(payload::text = index::text) \
         FROM tailwater.events WHERE stream LIKE 'odd/%'",
        "90|90|t",
    );
    rig.expect(
        "SELECT count(*), count(DISTINCT (stream, index)), string_agg(DISTINCT index::text, ' ') \
         FROM tailwater.dead_letters",
        "60|60|1 3",
    );
    rig.expect(
        "SELECT count(*), bool_and(payload::text = index::text) FROM tailwater.events WHERE stream LIKE 'runs/%'",
        "240|t",
    );
    let (code, printed, said) = rig.command(&["verify"], &[("DS_SYNC__POSTGRES_URL", &url)]);
    assert_eq!(code, Some(0), "{printed}{said}");
    for mirror in [&b, &c] {
        mirror.expect_ready();
    }
    b.stop();
    c.stop();
}
