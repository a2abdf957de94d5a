//! The container engine that `TAILWATER_ENGINE` names, and containers and volumes that are gone when a test is. Knows
//! nothing of what is in them.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tailwater_e2e::{eventually, node};

/// Names the engine's program.
const ENGINE_VARIABLE: &str = "TAILWATER_ENGINE";
/// Name the images under test.
const SERVER_VARIABLE: &str = "TAILWATER_SERVER_IMAGE";
const MIRROR_VARIABLE: &str = "TAILWATER_MIRROR_IMAGE";

/// What every container of `docker-compose.yml` is run with.
pub(crate) const HARDENING: [&str; 4] = [
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=1024",
];

/// The image of the server.
pub(crate) fn server_image() -> String {
    std::env::var(SERVER_VARIABLE).unwrap_or_else(|_| "tailwater:test".to_owned())
}

/// The image of the mirror.
pub(crate) fn mirror_image() -> String {
    std::env::var(MIRROR_VARIABLE).unwrap_or_else(|_| "tailwater-sync:test".to_owned())
}

/// A command of the engine.
pub(crate) fn engine(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Whether the engine is Podman, which leaves it to systemd to ask for a container's health.
pub(crate) fn is_podman() -> bool {
    program().ends_with("podman")
}

fn program() -> String {
    std::env::var(ENGINE_VARIABLE).unwrap_or_else(|_| "docker".to_owned())
}

/// What a command that must succeed prints, without the end of its last line.
#[track_caller]
pub(crate) fn printed(command: &mut Command) -> String {
    let output = node::run(command);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Runs a command with that input, whatever comes of it.
#[track_caller]
pub(crate) fn run_with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut pipe = child.stdin.take().expect("its input was asked for");
    pipe.write_all(input).expect("it takes its input");
    drop(pipe);
    child.wait_with_output().expect("it can be waited for")
}

/// A name that nothing else has.
pub(crate) fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("tailwater-test-{what}-{}-{number}", std::process::id())
}

/// A named volume, which is removed when dropped.
pub(crate) struct Volume(String);

impl Volume {
    /// One that nobody has used yet.
    #[track_caller]
    pub(crate) fn fresh() -> Self {
        let name = unique("volume");
        node::run(&mut engine(&["volume", "create", &name]));
        Self(name)
    }

    /// The option that mounts it.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("--volume={}:{path}", self.0)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = engine(&["volume", "rm", "--force", &self.0]).output();
    }
}

/// A container, which is removed when dropped, running or not.
pub(crate) struct Container(String);

impl Container {
    /// Runs an image in the background with these options of the engine and these arguments of its program.
    #[track_caller]
    pub(crate) fn run(image: &str, options: &[&str], arguments: &[&str]) -> Self {
        let container = Self(unique("container"));
        let named = format!("--name={}", container.0);
        let before = ["run", "--detach", &named];
        node::run(&mut engine(&[&before, options, &[image], arguments].concat()));
        container
    }

    /// What the engine calls it.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Waits until its health check is content, as the image says how that is found out.
    #[track_caller]
    pub(crate) fn expect_healthy(&self) {
        eventually("the container is healthy", || {
            assert!(self.is_running(), "it has ended:\n{}", self.logs());
            let is_healthy = if is_podman() {
                let asked = engine(&["healthcheck", "run", &self.0]).output();
                asked.expect("podman can be run").status.success()
            } else {
                self.inspected("{{.State.Health.Status}}") == "healthy"
            };
            is_healthy.then_some(())
        });
    }

    /// Whether its program runs.
    #[track_caller]
    pub(crate) fn is_running(&self) -> bool {
        self.inspected("{{.State.Running}}") == "true"
    }

    /// The exit code of its program, which has ended or is about to.
    #[track_caller]
    pub(crate) fn exit_code(&self) -> i32 {
        let code = printed(&mut engine(&["wait", &self.0]));
        code.parse().unwrap_or_else(|_| panic!("no exit code: {code}"))
    }

    /// Asks its program to stop, as the image says how, and kills it after a minute. Returns its exit code.
    #[track_caller]
    pub(crate) fn stop(&self) -> i32 {
        node::run(&mut engine(&["stop", "-t", "60", &self.0]));
        self.exit_code()
    }

    /// Kills its program.
    #[track_caller]
    pub(crate) fn kill(&self) {
        node::run(&mut engine(&["kill", "--signal", "KILL", &self.0]));
        assert_eq!(self.exit_code(), 137);
    }

    /// Starts its program anew.
    #[track_caller]
    pub(crate) fn start(&self) {
        node::run(&mut engine(&["start", &self.0]));
    }

    /// Runs a command beside its program, and returns what that prints.
    #[track_caller]
    pub(crate) fn exec(&self, arguments: &[&str], input: &str) -> String {
        let command = engine(&[&["exec", "--interactive", &self.0], arguments].concat());
        let output = run_with_input(command, input.as_bytes());
        let all = node::written(&output);
        assert!(output.status.success(), "{arguments:?}\n{all}\n{}", self.logs());
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// All that its program has written.
    pub(crate) fn logs(&self) -> String {
        engine(&["logs", &self.0])
            .output()
            .map(|output| node::written(&output))
            .unwrap_or_default()
    }

    #[track_caller]
    fn inspected(&self, field: &str) -> String {
        printed(&mut engine(&["container", "inspect", "--format", field, &self.0]))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what the container wrote\n{}---", self.logs());
        }
        let _ = engine(&["rm", "--force", "--volumes", &self.0]).output();
    }
}
