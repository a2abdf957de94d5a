//! Starts a real PgBouncer, which hands out servers transaction by transaction. Knows nothing of what is asked of them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::getuid;
use tempfile::TempDir;

use crate::patience::eventually;

/// Names another program than Debian's.
const PROGRAM_VARIABLE: &str = "PGBOUNCER";
const PROGRAM: &str = "/usr/sbin/pgbouncer";
/// PgBouncer does not run as root; whoever is root runs it as `nobody`.
const NOBODY: u32 = 65_534;
/// Connections to PostgreSQL, whatever the number of clients.
const SERVERS: u32 = 2;

/// A running PgBouncer with a port of its own and two connections to one PostgreSQL. It is killed when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    port: u16,
    _home: TempDir,
}

impl PgBouncer {
    /// Starts one before the PostgreSQL that listens there, for all of its databases.
    #[track_caller]
    pub fn before(postgres: SocketAddr) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let server = postgres.port();
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={server} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {SERVERS}\nmax_client_conn = 100\n"
        );
        let file = home.path().join("pgbouncer.ini");
        std::fs::write(&file, configuration).expect("the file can be written");
        let program =
            std::env::var_os(PROGRAM_VARIABLE).map_or_else(|| PathBuf::from(PROGRAM), PathBuf::from);
        let mut command = Command::new(&program);
        if getuid().is_root() {
            let given = std::os::unix::fs::chown(home.path(), Some(NOBODY), Some(NOBODY));
            given.expect("root may give files away");
            command.uid(NOBODY).gid(NOBODY);
        }
        let spawned = command.arg("-q").arg(&file).stdin(Stdio::null()).spawn();
        let child = spawned.unwrap_or_else(|error| {
            panic!(
                "cannot start {}: {error}; run `make test-mirror`",
                program.display()
            )
        });
        eventually("PgBouncer listens", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            child,
            port,
            _home: home,
        }
    }

    /// The URL of a database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://mirror@localhost:{}/{database}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
