//! Behind a pooler that hands out servers transaction by transaction: PgBouncer, with fewer servers than there are
//! mirrors.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tailwater_e2e::{Postgres, eventually};
use tailwater_sync::postgres::{Outcome, Settings, Store};
use tempfile::TempDir;

use crate::leases::Member;
use crate::races::{EVENTS, STREAMS, mirror};
use crate::scene::{DATABASE, Scene, Source, written};

/// PgBouncer does not run as root either.
const NOBODY: u32 = 65_534;
const MIRRORS: u64 = 6;

struct Pooler {
    child: Child,
    port: u16,
    _home: TempDir,
}

impl Pooler {
    fn before(postgres: &Postgres) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = postgres.address().port();
        let configuration = format!(
            "[databases]\n{DATABASE} = host=127.0.0.1 port={server} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 100\n"
        );
        let file = home.path().join("pgbouncer.ini");
        std::fs::write(&file, configuration).unwrap();
        let program =
            std::env::var_os("PGBOUNCER").map_or_else(|| PathBuf::from("/usr/sbin/pgbouncer"), PathBuf::from);
        let mut command = Command::new(&program);
        if rustix::process::getuid().is_root() {
            std::os::unix::fs::chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let spawned = command.arg("-q").arg(&file).stdin(Stdio::null()).spawn();
        let child = spawned.unwrap_or_else(|error| {
            panic!("cannot start {}: {error}; `make test-mirror`", program.display())
        });
        eventually("PgBouncer listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            child,
            port,
            _home: home,
        }
    }

    fn settings(&self) -> Settings {
        Settings::from_url(&format!("postgres://mirror@localhost:{}/{DATABASE}", self.port)).unwrap()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PgBouncer; `make test-mirror` brings it"]
async fn mirrors_behind_a_transaction_pooler_migrate_race_and_bury_dead_letters() {
    let postgres = Postgres::start();
    let pooler = Pooler::before(&postgres);
    let settings = pooler.settings();
    let migrating = (0..MIRRORS).map(|_| {
        let settings = settings.clone();
        tokio::spawn(async move { Store::connect(&settings).await.unwrap().migrate().await })
    });
    for migrated in migrating.collect::<Vec<_>>() {
        migrated.await.unwrap().unwrap();
    }
    let scene = Scene { postgres };
    let sources: Vec<_> = (0..STREAMS)
        .map(|number| Source::new(&format!("runs/{number}"), 1, EVENTS))
        .collect();
    let sources = Arc::new(sources);
    let mirrors: Vec<_> = (0..MIRRORS)
        .map(|seed| tokio::spawn(mirror(settings.clone(), Arc::clone(&sources), seed)))
        .collect();
    let mut rows = 0;
    for mirror in mirrors {
        rows += mirror.await.unwrap();
    }
    assert_eq!(rows, (STREAMS * EVENTS) as u64);
    for source in sources.iter() {
        scene.check(source, EVENTS);
    }

    // A failed copy, savepoints and a second transaction, twenty times, whichever server each of them gets.
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(Store::connect(&settings).await.unwrap());
    }
    let bad = tailwater_sync::event::Payload::Json("1e200000".into());
    let good = tailwater_sync::event::Payload::Json("1".into());
    for number in 0..20 {
        let source = Source::of(
            &format!("bad/{number}"),
            1,
            [good.clone(), bad.clone(), good.clone()],
        );
        let store = &mut stores[number % 4];
        let outcomes = store.commit(&[source.chunk(0..3)]).await.unwrap();
        assert_eq!(
            outcomes,
            [Outcome::Written {
                rows: 2,
                dead_letters: 1
            }]
        );
        let other = Source::new(&format!("good/{number}"), 1, 2);
        assert_eq!(store.commit(&[other.chunk(0..2)]).await.unwrap(), [written(2)]);
    }
    assert_eq!(
        scene.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tailwater-sync' \
         AND state <> 'idle'"
        ),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PgBouncer; `make test-mirror` brings it"]
async fn leases_are_taken_lost_and_checked_behind_a_transaction_pooler() {
    let postgres = Postgres::start();
    let pooler = Pooler::before(&postgres);
    let settings = pooler.settings();
    Store::connect(&settings).await.unwrap().migrate().await.unwrap();
    let scene = Scene { postgres };
    // Each call of either may be on any of the two servers.
    let mut dead = Member::by(Store::connect(&settings).await.unwrap()).await;
    let mut heir = Member::by(Store::connect(&settings).await.unwrap()).await;
    for number in 0..20 {
        let source = Source::new(&format!("runs/{number}"), 1, 4);
        assert_eq!(
            dead.store.commit(&[source.chunk(0..2)]).await.unwrap(),
            [written(2)]
        );
        assert_eq!(
            heir.store.commit(&[source.chunk(2..4)]).await.unwrap(),
            [Outcome::Fenced]
        );
        dead.let_expire(&scene);
        assert_eq!(heir.store.bury().await.unwrap(), 1);
        assert_eq!(heir.take().await, 64);
        assert_eq!(
            dead.store.commit(&[source.chunk(2..4)]).await.unwrap(),
            [Outcome::Fenced]
        );
        assert_eq!(
            heir.store.commit(&[source.chunk(2..4)]).await.unwrap(),
            [written(2)]
        );
        scene.check(&source, 4);
        dead = heir;
        heir = Member::by(Store::connect(&settings).await.unwrap()).await;
    }
    let kept = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(scene.sql(kept), "0");
}
