//! The three processes of a test, and what is asked of the tables.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;

use tailwater_e2e::mirror::Mirror;
use tailwater_e2e::postgres::Postgres;
use tailwater_e2e::{Server, eventually};
use tempfile::TempDir;

/// The database that the tests mirror into.
pub(crate) const DATABASE: &str = "postgres";

/// A server with a port and a directory that it keeps when it is killed, a PostgreSQL, and how a mirror between them is
/// started.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) postgres: Postgres,
    data_dir: TempDir,
    server_settings: Vec<(String, String)>,
    mirror_settings: Vec<(String, String)>,
    /// The configuration file of the mirror.
    config: Option<PathBuf>,
}

impl Rig {
    #[track_caller]
    pub(crate) fn new(mode: &str) -> Self {
        Self::with(mode, &[], &[])
    }

    /// One whose server and mirror have these settings besides.
    #[track_caller]
    pub(crate) fn with(mode: &str, server: &[(&str, &str)], mirror: &[(&str, &str)]) -> Self {
        Self::around(Postgres::start(), mode, server, mirror)
    }

    /// The same with this PostgreSQL.
    #[track_caller]
    pub(crate) fn around(
        postgres: Postgres,
        mode: &str,
        server: &[(&str, &str)],
        mirror: &[(&str, &str)],
    ) -> Self {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        let path = data_dir.path().join("streams");
        let mut server_settings = owned(server);
        server_settings.push(("DS_STORAGE__MODE".to_owned(), mode.to_owned()));
        server_settings.push(("DS_STORAGE__DATA_DIR".to_owned(), path.display().to_string()));
        let first = start(&server_settings);
        // Those who come after it have its port.
        server_settings.push(("DS_SERVER__BIND_ADDRESS".to_owned(), first.address().to_string()));
        let mut mirror_settings = vec![
            ("DS_SYNC__SOURCE_URL".to_owned(), root(first.address())),
            ("DS_SYNC__POSTGRES_URL".to_owned(), postgres.url(DATABASE)),
        ];
        mirror_settings.extend(owned(mirror));
        Self {
            server: first,
            postgres,
            data_dir,
            server_settings,
            mirror_settings,
            config: None,
        }
    }

    /// The same with this configuration file for the mirror.
    #[track_caller]
    pub(crate) fn configured(mut self, text: &str) -> Self {
        self.config = Some(self.postgres.file("sync.toml", text));
        self
    }

    #[track_caller]
    pub(crate) fn mirror(&self) -> Mirror {
        self.mirror_with(&[])
    }

    #[track_caller]
    pub(crate) fn mirror_with(&self, more: &[(&str, &str)]) -> Mirror {
        let settings = self.settings(more);
        Mirror::start_with(&self.arguments(&[]), &borrowed(&settings))
    }

    /// What a command of `tailwater-sync` prints to stdout and to stderr, and its exit code.
    #[track_caller]
    pub(crate) fn command(&self, arguments: &[&str], more: &[(&str, &str)]) -> (Option<i32>, String, String) {
        let settings = self.settings(more);
        let output = Mirror::run(&self.arguments(arguments), &borrowed(&settings));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// These arguments, and those that name the configuration file.
    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let config = self.config.as_ref().and_then(|path| path.to_str());
        let named = config.map(|path| ["--config", path]);
        arguments
            .iter()
            .copied()
            .chain(named.into_iter().flatten())
            .collect()
    }

    fn settings(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut settings = self.mirror_settings.clone();
        settings.extend(owned(more));
        settings
    }

    /// Kills the server and starts it again with its port and its directory.
    #[track_caller]
    pub(crate) fn restart_server(self) -> Self {
        let Self {
            server,
            postgres,
            data_dir,
            server_settings,
            mirror_settings,
            config,
        } = self;
        server.kill();
        let server = start(&server_settings);
        Self {
            server,
            postgres,
            data_dir,
            server_settings,
            mirror_settings,
            config,
        }
    }

    /// What a query prints, once it can be asked.
    #[track_caller]
    pub(crate) fn ask(&self, sql: &str) -> String {
        self.postgres.sql(DATABASE, sql)
    }

    /// Waits until a query prints that.
    #[track_caller]
    pub(crate) fn expect(&self, sql: &str, printed: &str) {
        let mut last = String::new();
        let is_there = || {
            last = self.postgres.try_sql(DATABASE, sql).unwrap_or_else(|said| said);
            (last == printed).then_some(())
        };
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually(sql, is_there)));
        assert!(found.is_ok(), "{sql}\nprints:\n{last}\nand not:\n{printed}");
    }

    /// Locks `tailwater.events`.
    #[track_caller]
    pub(crate) fn lock_events(&self) -> Lock<'_> {
        let mut psql = self.postgres.psql(DATABASE);
        psql.args([
            "-c",
            "BEGIN; LOCK TABLE tailwater.events IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)",
        ]);
        let lock = Lock {
            postgres: &self.postgres,
            psql: psql.spawn().expect("psql can be run"),
        };
        self.expect(
            "SELECT count(*) FROM pg_locks WHERE relation = 'tailwater.events'::regclass AND granted \
             AND mode = 'AccessExclusiveLock'",
            "1",
        );
        lock
    }

    /// Waits until the mirror has come to the end of that stream.
    #[track_caller]
    pub(crate) fn expect_mirrored(&self, stream: &str) {
        let tail = self.server.stream(stream).tail();
        self.expect(
            &format!("SELECT next_offset FROM tailwater.streams WHERE name = '{stream}'"),
            &tail,
        );
    }
}

/// An open transaction that has locked a table, so that nobody else reads or writes it until this is dropped.
pub(crate) struct Lock<'r> {
    postgres: &'r Postgres,
    psql: Child,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
        // The server's side of it sleeps on, and does not see that its client is gone.
        let _ = self.postgres.try_sql(
            DATABASE,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK TABLE%'",
        );
    }
}

/// The stream root of a server.
pub(crate) fn root(address: SocketAddr) -> String {
    format!("http://{address}/v1/stream")
}

#[track_caller]
fn start(settings: &[(String, String)]) -> Server {
    Server::start_with(&borrowed(settings))
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = settings.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}
