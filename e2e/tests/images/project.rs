//! A project of `docker-compose.yml`, in a copy of what it mounts, after `deploy/compose/setup`. Its containers, networks and
//! volumes are gone when it is dropped.

use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tailwater_e2e::envoy::repository;
use tailwater_e2e::{node, server};
use tempfile::TempDir;

use crate::engine::{engine, mirror_image, printed, server_image, unique};

/// What of the repository the containers mount, and what `setup` works with.
const SOURCES: [&str; 5] = [
    "docker-compose.yml",
    ".env.example",
    "README.md",
    "envoy",
    "deploy",
];
/// The tag that the images under test get, beside their own.
pub(crate) const TAG: &str = "v1";

/// The project. Its ports are those of the file, so that one runs at a time.
pub(crate) struct Project {
    directory: TempDir,
    name: String,
    /// Names that images were given for it.
    tags: RefCell<Vec<String>>,
    _alone: MutexGuard<'static, ()>,
}

/// Whoever has the ports.
static ALONE: Mutex<()> = Mutex::new(());

impl Project {
    /// Made as README.md says, but for the images, which are there already.
    #[track_caller]
    pub(crate) fn set_up() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut copy = Command::new("cp");
        copy.arg("-R").current_dir(repository());
        node::run(copy.args(SOURCES).arg(directory.path()));
        // What somebody has made in the repository itself is not for the test.
        for made in ["envoy/generated", "deploy/compose/secrets"] {
            let _ = std::fs::remove_dir_all(directory.path().join(made));
        }
        std::os::unix::fs::symlink(server::binary(), directory.path().join("tailwater"))
            .expect("the client that the documents call `tailwater`");
        let project = Self {
            directory,
            name: unique("project"),
            tags: RefCell::default(),
            _alone: alone,
        };
        node::run(&mut project.shell("deploy/compose/setup"));
        project.name_tag(TAG);
        project
    }

    /// The directory of `docker-compose.yml`.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Gives both images that tag, as if they were of that version, and names it in `.env`.
    #[track_caller]
    pub(crate) fn name_tag(&self, tag: &str) {
        for (image, name) in [(server_image(), "tailwater"), (mirror_image(), "tailwater-sync")] {
            let named = format!("{}/{name}:{tag}", self.name);
            node::run(&mut engine(&["tag", &image, &named]));
            self.tags.borrow_mut().push(named);
        }
        let path = self.path().join(".env");
        let text = std::fs::read_to_string(&path).expect("setup has made it");
        let lines = text.lines().map(|line| match line.split_once('=') {
            Some(("TAILWATER_IMAGE", _)) => format!("TAILWATER_IMAGE={}/tailwater\n", self.name),
            Some(("TAILWATER_TAG", _)) => format!("TAILWATER_TAG={tag}\n"),
            _ => format!("{line}\n"),
        });
        std::fs::write(&path, lines.collect::<String>()).expect("it can be written");
    }

    /// A script in the project's directory, where commands of the documents mean this project and its edge.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        shell
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(self.path())
            .env("COMPOSE_PROJECT_NAME", &self.name)
            .env("PATH", format!("{}:{path}", self.path().display()))
            .stdin(Stdio::null());
        shell
    }

    /// What `docker compose` prints.
    #[track_caller]
    pub(crate) fn compose(&self, arguments: &str) -> String {
        printed(&mut self.shell(&format!("docker compose {arguments}")))
    }

    /// Starts what is not running, and waits until all of it is healthy.
    #[track_caller]
    pub(crate) fn up(&self, services: &str) {
        let started = self
            .shell(&format!("docker compose up --wait --no-build {services}"))
            .output();
        let started = started.expect("bash can be run");
        if !started.status.success() {
            let said = self
                .shell("docker compose ps --all; docker compose logs")
                .output();
            let said = said.map(|output| node::written(&output)).unwrap_or_default();
            panic!("{}\n{said}", node::written(&started));
        }
    }

    /// What the engine knows of a service's container.
    #[track_caller]
    pub(crate) fn container(&self, service: &str) -> Value {
        let id = self.compose(&format!("ps --all --quiet {service}"));
        let text = printed(&mut engine(&["container", "inspect", &id]));
        let all: Value = serde_json::from_str(&text).expect("the engine prints JSON");
        all[0].clone()
    }

    /// The rows of an SQL question, columns parted by `|`.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> String {
        self.compose(&format!(
            "exec -T postgres psql -U postgres -At logs -c \"{sql}\""
        ))
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let gone = "docker compose --profile observability --profile electric down --volumes --timeout 1";
        let _ = self.shell(gone).output();
        for image in self.tags.borrow().iter() {
            let _ = engine(&["image", "rm", image]).output();
        }
    }
}
