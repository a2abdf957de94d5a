//! Several mirrors share the streams: each event is one row, whoever dies, stands still, comes or goes. What is
//! counted is counted in the tables; nothing is judged by how long it took. On a machine that is busy enough an instance may
//! lose a short lease and come back, so tests with short leases look at what follows from that: no event is missing or twice.

use rustix::process::Signal;
use tailwater_e2e::eventually;
use tailwater_e2e::mirror::Mirror;
use tailwater_sync::partition::Partition;

use crate::rig::Rig;

/// Short, so that a test need not wait long for its end.
pub(crate) const LEASE_MS: &str = "1500";
/// Where none may be lost: it is renewed three times within this. The others are noticed at the next renewal.
const LONG_LEASE_MS: &str = "24000";

/// How many hold something, and the least and the most that one holds.
pub(crate) const SHARES: &str = "SELECT count(*), min(held), max(held) FROM \
     (SELECT count(*) AS held FROM tailwater.leases WHERE holder IS NOT NULL GROUP BY holder) AS shares";

fn rig() -> Rig {
    leasing(LEASE_MS)
}

fn leasing(lease_ms: &str) -> Rig {
    Rig::with("file-durable", &[], &[("DS_SYNC__LEASE_MS", lease_ms)])
}

pub(crate) fn named(rig: &Rig, name: &str) -> Mirror {
    rig.mirror_with(&[("DS_SYNC__INSTANCE_NAME", name)])
}

/// Streams of numbers: event `n` of each says `n`.
pub(crate) struct Numbers<'a> {
    rig: &'a Rig,
    names: Vec<String>,
    appended: u64,
}

impl<'a> Numbers<'a> {
    pub(crate) fn new(rig: &'a Rig, names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        for name in &names {
            rig.server.stream(name).create();
        }
        Self {
            rig,
            names,
            appended: 0,
        }
    }

    /// Appends the next number to each, and tells how many rows there will be then.
    pub(crate) fn append(&mut self) -> u64 {
        for name in &self.names {
            self.rig
                .server
                .stream(name)
                .append(format!("[{}]", self.appended));
        }
        self.appended += 1;
        self.total()
    }

    fn total(&self) -> u64 {
        self.appended * self.names.len() as u64
    }

    /// Waits until all is there, and checks that nothing is there twice or in the wrong place.
    #[track_caller]
    pub(crate) fn expect_rows(&self) {
        let (streams, events) = (self.names.len(), self.appended);
        self.rig.expect(
            "SELECT count(*), count(DISTINCT (stream, payload)), bool_and(payload::text = index::text) \
             FROM tailwater.events",
            &format!("{0}|{0}|t", self.total()),
        );
        self.rig.expect(
            "SELECT count(*), min(events), max(events), sum(skipped_bytes) FROM tailwater.streams",
            &format!("{streams}|{events}|{events}|0"),
        );
    }
}

/// The clock of PostgreSQL, as the mirrors ask it, is a day behind that of their own machines; and what becomes of
/// instances is kept in the table `removed`.
fn set_clock_back_and_keep_removals(rig: &Rig) {
    // The tables have to be there first.
    let first = named(rig, "first");
    first.expect_ready();
    first.stop();
    rig.ask(
        "CREATE SCHEMA skewed; CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql \
         AS $$ SELECT pg_catalog.clock_timestamp() - interval '1 day' $$; \
         CREATE TABLE removed (name text, was_due boolean); \
         CREATE FUNCTION note_removal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO public.removed VALUES (OLD.name, OLD.expires_at <= skewed.clock_timestamp()); \
             RETURN OLD; END $$; \
         CREATE TRIGGER note_removal BEFORE DELETE ON tailwater.instances \
             FOR EACH ROW EXECUTE FUNCTION note_removal(); \
         ALTER DATABASE postgres SET search_path = skewed, pg_catalog, public",
    );
}

pub(crate) fn metric(mirror: &Mirror, name: &str) -> f64 {
    mirror
        .metric(&format!("tailwater_sync_{name}"))
        .expect("there is such a metric")
}

#[test]
fn three_share_the_streams_and_when_one_is_killed_the_others_take_its_share_once_its_time_has_come() {
    let rig = rig();
    set_clock_back_and_keep_removals(&rig);
    let [a, b, c] = ["a", "b", "c"].map(|name| named(&rig, name));
    rig.expect(SHARES, "3|21|22");
    let mut numbers = Numbers::new(&rig, (0..200).map(|run| format!("runs/{run}")));
    let rows = || [&a, &b, &c].map(|mirror| metric(mirror, "rows_total"));
    eventually("all have worked", || {
        numbers.append();
        rows().iter().all(|rows| *rows > 50.0).then_some(())
    });
    numbers.expect_rows();
    let counted: f64 = rows().iter().sum();
    assert!(counted <= numbers.total() as f64, "{counted} rows are counted");
    eventually("all three are told of with their shares", || {
        let (code, printed, said) = rig.command(&["status"], &[]);
        assert_eq!(code, Some(0), "{said}");
        let has_share = |name: &str| {
            let of = |share: u32| printed.contains(&format!("# instance {name}: {share} of 64 partitions"));
            of(21) || of(22)
        };
        ["a", "b", "c"].into_iter().all(has_share).then_some(())
    });

    numbers.append();
    a.kill();
    numbers.append();
    rig.expect(SHARES, "2|32|32");
    numbers.append();
    numbers.expect_rows();
    // Whoever was removed had not renewed its leases in time, by PostgreSQL's clock.
    assert_eq!(
        rig.ask("SELECT bool_or(name = 'a'), bool_and(was_due) FROM removed"),
        "t|t"
    );
    for mirror in [&b, &c] {
        eventually("both know of their shares", || {
            (metric(mirror, "partitions") == 32.0 && metric(mirror, "instances") == 2.0).then_some(())
        });
    }
    let (code, printed, said) = rig.command(&["verify"], &[]);
    assert_eq!(code, Some(0), "{printed}{said}");
}

/// It stands still in the middle of a transaction, for longer than its lease lasts. When it goes on, it does what it
/// was about to.
#[test]
fn one_that_stands_still_past_its_lease_is_fenced_and_writes_nothing_that_another_has_written() {
    let rig = rig();
    let (a, b) = (named(&rig, "a"), named(&rig, "b"));
    rig.expect(SHARES, "2|32|32");
    let mut numbers = Numbers::new(&rig, (0..40).map(|run| format!("runs/{run}")));
    numbers.append();
    numbers.expect_rows();

    let lock = rig.lock_events();
    numbers.append();
    rig.expect(
        "SELECT count(*) FROM pg_locks WHERE relation = 'tailwater.events'::regclass AND NOT granted",
        "2",
    );
    a.signal(Signal::STOP);
    rig.expect(SHARES, "1|64|64");
    drop(lock);
    // The feed has told of these before the other one held them, and tells nothing more of them.
    numbers.expect_rows();
    numbers.append();
    numbers.expect_rows();

    a.signal(Signal::CONT);
    eventually("its transaction is refused", || {
        (metric(&a, "fenced_total") > 0.0).then_some(())
    });
    assert!(metric(&a, "leases_lost_total") > 0.0);
    // It comes back as a new instance.
    rig.expect(SHARES, "2|32|32");
    numbers.append();
    numbers.expect_rows();
    a.expect_ready();
    a.stop();
    b.stop();
}

#[test]
fn two_that_start_at_the_same_instant_share_evenly_and_little_changes_hands() {
    let rig = leasing(LONG_LEASE_MS);
    let mut numbers = Numbers::new(&rig, (0..40).map(|run| format!("runs/{run}")));
    numbers.append();
    let (a, b) = std::thread::scope(|scope| {
        let start = |name| {
            let rig = &rig;
            scope.spawn(move || named(rig, name))
        };
        let (a, b) = (start("a"), start("b"));
        (a.join().expect("it starts"), b.join().expect("it starts"))
    });
    rig.expect(SHARES, "2|32|32");
    numbers.append();
    numbers.expect_rows();
    a.expect_ready();
    b.expect_ready();
    // Each partition was taken by one, and at most half of them by the other one then.
    assert_eq!(
        rig.ask("SELECT sum(epoch) BETWEEN 64 AND 96 FROM tailwater.leases"),
        "t"
    );
}

#[test]
fn one_that_is_told_to_end_leaves_its_share_to_the_others_before_its_time_has_come() {
    let rig = leasing(LONG_LEASE_MS);
    set_clock_back_and_keep_removals(&rig);
    let (a, b) = (named(&rig, "a"), named(&rig, "b"));
    rig.expect(SHARES, "2|32|32");
    let mut numbers = Numbers::new(&rig, (0..40).map(|run| format!("runs/{run}")));
    numbers.append();
    let said = a.stop();
    assert!(said.contains("all partitions are left to others"), "{said}");
    assert_eq!(
        rig.ask("SELECT name, was_due FROM removed WHERE name = 'a'"),
        "a|f"
    );
    rig.expect(SHARES, "1|64|64");
    numbers.append();
    numbers.expect_rows();
    b.stop();
    assert_eq!(
        rig.ask("SELECT count(*), count(holder) FROM tailwater.leases"),
        "64|0"
    );
    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.instances"), "0");
}

/// PostgreSQL refuses the first one's transaction for a while, so it tries that again and again, and holds no lock
/// meanwhile.
#[test]
fn a_partition_is_given_up_to_a_newcomer_only_once_what_is_under_way_there_is_written() {
    let rig = leasing(LONG_LEASE_MS);
    let a = named(&rig, "a");
    rig.expect(SHARES, "1|64|64");
    rig.ask(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'not now' USING ERRCODE = 'object_in_use'; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON tailwater.events EXECUTE FUNCTION refuse()",
    );
    // Those of higher numbers are given up.
    let upper = (0..)
        .map(|run| format!("runs/{run}"))
        .filter(|name| Partition::of(name).number() >= 32);
    let mut numbers = Numbers::new(&rig, upper.take(1));
    let busy = Partition::of(&numbers.names[0]);
    numbers.append();
    eventually("its transaction is refused", || {
        (mirror_retries(&a) >= 2.0).then_some(())
    });
    let b = named(&rig, "b");
    let holder = format!(
        "SELECT name, count(*), bool_or(partition = {busy}) \
         FROM tailwater.leases JOIN tailwater.instances ON holder = id GROUP BY name ORDER BY name"
    );
    rig.expect(&holder, "a|33|t\nb|31|f");
    let refused = mirror_retries(&a);
    eventually("it tries once more", || {
        (mirror_retries(&a) > refused).then_some(())
    });
    assert_eq!(rig.ask(&holder), "a|33|t\nb|31|f");
    rig.ask("DROP TRIGGER refuse ON tailwater.events");
    rig.expect(&holder, "a|32|f\nb|32|t");
    numbers.append();
    numbers.expect_rows();
    for mirror in [&a, &b] {
        assert_eq!(metric(mirror, "fenced_total"), 0.0);
        assert_eq!(metric(mirror, "moved_total"), 0.0);
    }
    eventually("each has written one row", || {
        ((metric(&a, "rows_total"), metric(&b, "rows_total")) == (1.0, 1.0)).then_some(())
    });
}

#[test]
fn closed_streams_are_deleted_by_the_instance_that_holds_them_and_by_no_other() {
    let rig = Rig::with(
        "file-durable",
        &[],
        &[
            ("DS_SYNC__LEASE_MS", LONG_LEASE_MS),
            ("DS_SYNC__DELETE_AFTER_SYNC", "true"),
        ],
    );
    let (a, b) = (named(&rig, "a"), named(&rig, "b"));
    rig.expect(SHARES, "2|32|32");
    for run in 0..40 {
        let stream = rig.server.stream(&format!("runs/{run}")).create();
        stream.append("[1]");
        stream.close();
    }
    rig.expect(
        "SELECT count(*) FROM tailwater.streams WHERE closed AND deleted_at IS NOT NULL",
        "40",
    );
    eventually("all deletions are counted", || {
        (metric(&a, "deletions_total") + metric(&b, "deletions_total") == 40.0).then_some(())
    });
    assert!(metric(&a, "deletions_total") > 0.0 && metric(&b, "deletions_total") > 0.0);
    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.events"), "40");
}

fn mirror_retries(mirror: &Mirror) -> f64 {
    metric(mirror, "retries_total{what=\"postgres\"}")
}
