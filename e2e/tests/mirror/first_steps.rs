//! "From an append to a row" of docs/mirror.md, as somebody types it, but for what is built already and the ports.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process_group};
use tailwater_e2e::postgres::{Postgres, programs};
use tailwater_e2e::{eventually, node, server};

const PAGE: &str = include_str!("../../../docs/mirror.md");
/// Where the mirror answers by default.
const DEFAULT_ADDRESS: &str = "127.0.0.1:4438";

/// A shell with all that it has started in the background, which ends with this.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let _ = kill_process_group(group.expect("a process id"), Signal::KILL);
        let _ = self.0.wait();
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("a free port")
}

#[test]
fn the_first_steps_of_the_page_lead_from_an_append_to_a_row() {
    let (_, behind) = PAGE
        .split_once("```sh\n")
        .expect("there is a block for the shell");
    let (typed, _) = behind.split_once("```").expect("it ends");
    let (prepared, steps) = typed
        .split_once("createdb")
        .expect("there is a database to be made");
    assert!(prepared.starts_with("cargo build --release"), "{prepared}");
    let (steps, question) = steps.split_once("psql ").expect("the rows are asked for");

    let postgres = Postgres::start();
    let home = tempfile::tempdir().expect("a temporary directory");
    let (of_server, of_mirror) = (free_address(), free_address());
    let at_port = format!("@localhost:{}/", postgres.address().port());
    let own_ports = |text: &str| {
        text.replace("@localhost/", &at_port)
            .replace(DEFAULT_ADDRESS, &of_mirror.to_string())
    };
    let binaries = server::binary().parent().map(ToOwned::to_owned);
    let path = std::env::var_os("PATH").expect("a path");
    let found = [programs(), binaries.expect("the binary is in a directory")];
    let path = std::env::join_paths(found.into_iter().chain(std::env::split_paths(&path)));
    let path = path.expect("directories without colons");
    let shell = |script: String| {
        let mut shell = Command::new("sh");
        for (key, _) in std::env::vars_os() {
            if ["DS_", "PG", "TAILWATER_"]
                .iter()
                .any(|own| key.to_string_lossy().starts_with(own))
            {
                shell.env_remove(key);
            }
        }
        shell
            .args(["-ec", &script])
            .current_dir(home.path())
            .env("PATH", &path)
            .env("PGHOST", "localhost")
            .env("PGPORT", postgres.address().port().to_string())
            .env("PGUSER", "postgres")
            .env("DS_SERVER__BIND_ADDRESS", of_server.to_string())
            .env("DS_SYNC__SOURCE_URL", format!("http://{of_server}/v1/stream"))
            .env("DS_SYNC__BIND_ADDRESS", of_mirror.to_string())
            .env("TAILWATER_URL", format!("http://{of_server}/v1/stream"));
        shell
    };
    // What is in the background goes on behind its end.
    let mut typing = Shell(
        shell(own_ports(&format!("createdb{steps}")))
            .process_group(0)
            .spawn()
            .expect("a shell"),
    );
    let status = eventually("all is typed", || {
        typing.0.try_wait().expect("a child of this process")
    });
    assert!(status.success(), "{status}");
    eventually("the row is there", || {
        let asked = shell(format!("psql {question}")).output().expect("a shell");
        let printed = node::written(&asked);
        (asked.status.success() && printed.contains("{\"step\": \"started\"}")).then_some(())
    });
}
