//! Instances and their leases: a partition is one's at a time, and only its holder writes.

use std::collections::BTreeSet;
use std::process::Child;
use std::sync::Arc;

use tailwater_sync::partition::{PARTITIONS, Partition};
use tailwater_sync::postgres::{
    Error, Expired, Fault, Fence, InstanceId, Leases, Membership, Outcome, Store, Tail,
};

use crate::routing::{json, store_of};
use crate::scene::{DATABASE, Scene, Source, written};

const LEASE_MS: u64 = 600_000;

fn membership(streams: &str) -> Membership {
    Membership {
        name: "a test".to_owned(),
        streams: streams.to_owned(),
        lease_ms: LEASE_MS,
    }
}

/// An instance that has taken all that nobody had.
pub(crate) struct Member {
    pub(crate) store: Store,
    pub(crate) fence: Fence,
}

impl Member {
    async fn join(scene: &Scene) -> Self {
        Self::by(scene.store().await).await
    }

    pub(crate) async fn by(mut store: Store) -> Self {
        let id = InstanceId::random();
        store.join(id, &membership("**")).await.unwrap();
        let fence = Fence {
            instance: id,
            leases: Leases::new(),
        };
        let mut member = Self { store, fence };
        member.take().await;
        member
    }

    /// Takes what is free, and writes by what it holds from now on.
    pub(crate) async fn take(&mut self) -> usize {
        let all = Partition::all().collect();
        let taken = self.store.take(self.fence.instance, &all).await.unwrap().unwrap();
        let count = taken.len();
        self.fence.leases.extend(taken);
        self.store.fence(self.fence.clone());
        count
    }

    /// As if it had not been heard of for the time of its lease.
    pub(crate) fn let_expire(&self, scene: &Scene) {
        scene.sql(&format!(
            "UPDATE tailwater.instances SET expires_at = clock_timestamp() - interval '1 ms' WHERE id = {}",
            number(self.fence.instance)
        ));
    }
}

/// A `psql` that keeps all others from writing events.
struct Lock(Child);

impl Lock {
    fn on_events(scene: &Scene) -> Self {
        let mut psql = scene.postgres.psql(DATABASE);
        psql.args(["-c", "BEGIN; LOCK TABLE tailwater.events; SELECT pg_sleep(600)"]);
        let lock = Self(psql.spawn().unwrap());
        Self::expect(scene, "granted");
        lock
    }

    fn expect_waiting(&self, scene: &Scene) {
        Self::expect(scene, "NOT granted");
    }

    fn expect(scene: &Scene, what: &str) {
        let asked =
            format!("SELECT count(*) FROM pg_locks WHERE relation = 'tailwater.events'::regclass AND {what}");
        tailwater_e2e::eventually(&asked, || (scene.sql(&asked) == "1").then_some(()));
    }

    fn release(mut self, scene: &Scene) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        scene.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK TABLE%'",
        );
    }
}

fn number(id: InstanceId) -> i64 {
    i64::from_str_radix(&id.to_string(), 16).unwrap()
}

fn partition_of(source: &Source) -> BTreeSet<Partition> {
    BTreeSet::from([Partition::of(&source.name)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_that_take_at_once_have_each_partition_once() {
    let scene = Arc::new(Scene::new().await);
    let mut joining = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let scene = Arc::clone(&scene);
        joining.spawn(async move {
            let mut member = Member::join(&scene).await;
            // What another was about to take may have been passed over, and is that one's now.
            member.take().await;
            member.fence.leases
        });
    }
    let taken: Vec<Partition> = joining
        .join_all()
        .await
        .into_iter()
        .flatten()
        .map(|lease| lease.0)
        .collect();
    assert_eq!(taken.len(), usize::from(PARTITIONS));
    assert_eq!(
        taken.iter().collect::<BTreeSet<_>>().len(),
        taken.len(),
        "{taken:?}"
    );
    assert_eq!(
        scene.sql("SELECT min(epoch), max(epoch), count(holder) FROM tailwater.leases"),
        "1|1|64"
    );
}

#[tokio::test]
async fn a_lease_that_another_has_taken_writes_nothing_and_the_others_still_do() {
    let scene = Scene::new().await;
    let mut older = Member::join(&scene).await;
    let (lost, kept) = (Source::new("runs/7", 1, 9), Source::new("runs/8", 1, 9));
    let both = [lost.chunk(0..2), kept.chunk(0..2)];
    assert_eq!(older.store.commit(&both).await.unwrap(), [written(2), written(2)]);
    let id = older.fence.instance;
    older.store.release(id, &partition_of(&lost)).await.unwrap();
    let mut newer = Member::join(&scene).await;
    assert_eq!(
        newer.fence.leases.keys().copied().collect::<BTreeSet<_>>(),
        partition_of(&lost)
    );

    let both = [lost.chunk(2..4), kept.chunk(2..4)];
    assert_eq!(
        older.store.commit(&both).await.unwrap(),
        [Outcome::Fenced, written(2)]
    );
    let (from, to) = (lost.offset(2), lost.offset(5));
    let skipped = older
        .store
        .skip("runs/7", lost.incarnation, from, to)
        .await
        .unwrap();
    assert_eq!(skipped, Outcome::Fenced);
    let marked = older.store.mark_deleted(&[("runs/7", lost.incarnation)]).await;
    assert!(marked.unwrap().is_empty());
    let fault = Fault {
        stream: "runs/7",
        incarnation: lost.incarnation,
        message: "an error",
    };
    older.store.note_errors(&[fault]).await.unwrap();
    let tail = |source: &'static str, of: &Source| Tail {
        stream: source,
        incarnation: of.incarnation,
        next: of.offset(9),
        events: 9,
    };
    let tails = [tail("runs/7", &lost), tail("runs/8", &kept)];
    older.store.note_tails(&tails).await.unwrap();
    assert_eq!(
        scene.sql(
            "SELECT name, next_index, deleted_at, last_error, tail_index FROM tailwater.streams ORDER BY name"
        ),
        "runs/7|2|||0\nruns/8|4|||9"
    );
    assert_eq!(
        newer.store.commit(&[lost.chunk(2..9)]).await.unwrap(),
        [written(7)]
    );
    scene.check(&lost, 9);

    // It has the partition again, and what it knew of the lease before is of no use.
    newer.store.leave(newer.fence.instance).await.unwrap();
    let stale = older.fence.clone();
    assert_eq!(older.take().await, 1);
    let more = [Source::new("runs/7", 1, 20).chunk(9..20)];
    let holds = std::mem::replace(&mut older.fence, stale);
    older.store.fence(older.fence.clone());
    assert_eq!(older.store.commit(&more).await.unwrap(), [Outcome::Fenced]);
    older.store.fence(holds);
    assert_eq!(older.store.commit(&more).await.unwrap(), [written(11)]);
}

#[tokio::test]
async fn tables_of_routes_are_fenced_as_well() {
    let scene = Scene::new().await;
    let routes = r#"
[[route]]
streams = "runs/{run}"
table = "public.runs"
create_tables = true
columns = { run = { part = "run" }, n = { pointer = "/n", type = "bigint", required = true } }
"#;
    let mut older = Member::by(store_of(&scene, routes).await).await;
    let (lost, kept) = (Source::new("runs/7", 1, 4), Source::new("runs/8", 1, 4));
    let unfit = Source::of("runs/7", 1, json(["{}", "{}", "{}", "{}"]));
    let both = [lost.chunk(0..2), kept.chunk(0..2)];
    assert_eq!(older.store.commit(&both).await.unwrap(), [written(2), written(2)]);
    let id = older.fence.instance;
    older.store.release(id, &partition_of(&lost)).await.unwrap();
    let mut newer = Member::by(store_of(&scene, routes).await).await;

    // Also what would be a dead letter.
    for chunk in [lost.chunk(2..4), unfit.chunk(2..4)] {
        assert_eq!(older.store.commit(&[chunk]).await.unwrap(), [Outcome::Fenced]);
    }
    let both = [lost.chunk(2..4), kept.chunk(2..4)];
    assert_eq!(
        older.store.commit(&both).await.unwrap(),
        [Outcome::Fenced, written(2)]
    );
    let asked = "SELECT run, count(*), max(n) FROM public.runs GROUP BY run ORDER BY run";
    assert_eq!(scene.sql(asked), "7|2|1\n8|4|3");
    assert_eq!(scene.sql("SELECT count(*) FROM tailwater.dead_letters"), "0");
    assert_eq!(
        newer.store.commit(&[lost.chunk(2..4)]).await.unwrap(),
        [written(2)]
    );
    assert_eq!(scene.sql(asked), "7|4|3\n8|4|3");
}

#[tokio::test]
async fn who_gave_a_partition_up_writes_nothing_there_before_anybody_has_taken_it() {
    let scene = Scene::new().await;
    let mut member = Member::join(&scene).await;
    let source = Source::new("runs/7", 1, 9);
    let id = member.fence.instance;
    member.store.release(id, &partition_of(&source)).await.unwrap();
    assert_eq!(
        member.store.commit(&[source.chunk(0..2)]).await.unwrap(),
        [Outcome::Fenced]
    );
    assert_eq!(scene.sql("SELECT count(*) FROM tailwater.events"), "0");
}

#[tokio::test]
async fn whose_time_has_come_is_never_renewed_and_loses_all_to_who_finds_it() {
    let scene = Scene::new().await;
    let mut dead = Member::join(&scene).await;
    let id = dead.fence.instance;
    let sharing = dead.store.renew(id, &membership("**")).await.unwrap().unwrap();
    assert_eq!(sharing.leases_of(id), dead.fence.leases);
    let mut heir = Member::join(&scene).await;
    assert_eq!(heir.store.bury().await.unwrap(), 0, "all are alive");
    assert!(heir.fence.leases.is_empty());

    dead.let_expire(&scene);
    assert_eq!(
        dead.store.renew(id, &membership("**")).await.unwrap(),
        Err(Expired)
    );
    let all = Partition::all().collect();
    assert_eq!(dead.store.take(id, &all).await.unwrap(), Err(Expired));
    let sharing = heir
        .store
        .renew(heir.fence.instance, &membership("**"))
        .await
        .unwrap()
        .unwrap();
    assert!(sharing.has_dead());
    // Until another comes, it may still write what it holds: nobody else does.
    let source = Source::new("runs/7", 1, 9);
    assert_eq!(
        dead.store.commit(&[source.chunk(0..2)]).await.unwrap(),
        [written(2)]
    );
    assert_eq!(heir.store.bury().await.unwrap(), 1);
    assert_eq!(heir.take().await, usize::from(PARTITIONS));
    assert_eq!(
        dead.store.commit(&[source.chunk(2..4)]).await.unwrap(),
        [Outcome::Fenced]
    );
    assert_eq!(
        heir.store.commit(&[source.chunk(2..9)]).await.unwrap(),
        [written(7)]
    );
    scene.check(&source, 9);
}

/// Whoever releases, takes or buries waits until what is written by a lease is committed or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_stays_as_it_is_until_the_transaction_that_writes_by_it_has_ended() {
    let scene = Scene::new().await;
    let mut member = Member::join(&scene).await;
    let id = member.fence.instance;
    let source = Source::new("runs/7", 1, 9);
    let (chunk, partition) = (source.chunk(0..2), partition_of(&source));
    let lock = Lock::on_events(&scene);
    let writing = tokio::spawn(async move { member.store.commit(&[chunk]).await });
    lock.expect_waiting(&scene);
    let mut other = scene.store().await;
    let releasing = tokio::spawn(async move { other.release(id, &partition).await });
    let waits = "SELECT count(*) FROM pg_stat_activity \
         WHERE wait_event_type = 'Lock' AND query LIKE '%SET holder = NULL%'";
    tailwater_e2e::eventually("the release waits", || {
        assert!(!releasing.is_finished(), "it has not waited");
        (scene.sql(waits) == "1").then_some(())
    });
    lock.release(&scene);
    assert_eq!(writing.await.unwrap().unwrap(), [written(2)]);
    releasing.await.unwrap().unwrap();
    assert_eq!(scene.sql("SELECT count(holder) FROM tailwater.leases"), "63");
}

/// A process that stands still in the middle of a transaction keeps its locks, and its connection does not break.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_a_dead_instance_holds_nobody_up_and_is_rolled_back() {
    let scene = Scene::new().await;
    let mut dead = Member::join(&scene).await;
    let source = Source::new("runs/7", 1, 9);
    let chunk = source.chunk(0..2);
    // It waits for a table in the middle of its transaction, as long as it takes.
    let mut patient = scene.settings();
    (patient.lock_timeout_ms, patient.statement_timeout_ms) = (LEASE_MS, LEASE_MS);
    patient.answer_timeout_ms = LEASE_MS;
    dead.store = Store::connect(&patient).await.unwrap();
    dead.store.fence(dead.fence.clone());
    let lock = Lock::on_events(&scene);
    dead.let_expire(&scene);
    let writing = tokio::spawn(async move {
        let error = dead.store.commit(&[chunk]).await.unwrap_err();
        (error, dead.fence)
    });
    lock.expect_waiting(&scene);
    let mut heir = Member::join(&scene).await;
    assert_eq!(heir.store.bury().await.unwrap(), 1);
    assert_eq!(heir.take().await, usize::from(PARTITIONS));
    let (error, fence) = writing.await.unwrap();
    assert!(error.heals(), "{error}");
    lock.release(&scene);
    let mut again = scene.store().await;
    again.fence(fence);
    assert_eq!(
        again.commit(&[source.chunk(0..2)]).await.unwrap(),
        [Outcome::Fenced]
    );
    assert_eq!(
        heir.store.commit(&[source.chunk(0..9)]).await.unwrap(),
        [written(9)]
    );
    scene.check(&source, 9);
}

#[tokio::test]
async fn instances_with_other_streams_share_among_themselves() {
    let scene = Scene::new().await;
    let one = Member::join(&scene).await;
    let (mut store, id) = (scene.store().await, InstanceId::random());
    let others = membership("runs/**");
    store.join(id, &others).await.unwrap();
    let all = Partition::all().collect();
    assert_eq!(
        store.take(id, &all).await.unwrap().unwrap().len(),
        usize::from(PARTITIONS)
    );
    for (held, streams) in [(one.fence.instance, "**"), (id, "runs/**")] {
        let sharing = store.sharing(streams).await.unwrap();
        assert_eq!(sharing.instances.len(), 1);
        assert_eq!(sharing.leases_of(held).len(), usize::from(PARTITIONS));
    }
    store.leave(id).await.unwrap();
    assert_eq!(
        store.sharing("runs/**").await.unwrap().free().len(),
        usize::from(PARTITIONS)
    );
    assert!(store.sharing("**").await.unwrap().free().is_empty());
}

#[tokio::test]
async fn tables_with_another_number_of_partitions_are_refused_with_the_remedy() {
    let scene = Scene::new().await;
    Member::join(&scene).await;
    scene
        .sql("UPDATE tailwater.leases SET holder = NULL; DELETE FROM tailwater.leases WHERE partition >= 32");
    let mut store = scene.store().await;
    let error = store
        .join(InstanceId::random(), &membership("**"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Partitions { found: 32 }) && !error.heals(),
        "{error:?}"
    );
    let message = error.to_string();
    let (_, remedy) = message.split_once("stop all of them and ").unwrap();
    assert!(
        message.starts_with("`tailwater.leases` parts streams into 32, and this mirror into 64"),
        "{message}"
    );
    scene.sql(remedy);
    Member::join(&scene).await;
    assert_eq!(scene.sql("SELECT count(holder) FROM tailwater.leases"), "64");
}
