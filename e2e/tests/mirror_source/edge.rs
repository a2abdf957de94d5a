//! Through the edge: what a token has to allow, and a token that ends while the mirror goes on.

use tailwater_e2e::Server;
use tailwater_e2e::edge::{self, Edge};
use tailwater_sync::event::Offset;
use tailwater_sync::source::{Change, Error, Settings, Source};

use super::{discovery, is, next, payloads, read, read_on, stream, until};

struct Scene {
    server: Server,
    edge: Edge,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let server = edge::server(&[]);
        let edge = Edge::before(server.address());
        let directory = tempfile::tempdir().expect("a directory");
        Self {
            server,
            edge,
            directory,
        }
    }

    /// Puts a token with these options into the file that the source has.
    fn put_token(&self, options: &[&str]) {
        let token = self.edge.token(options);
        std::fs::write(self.directory.path().join("token"), token).expect("it can be written");
    }

    fn settings(&self) -> Settings {
        Settings {
            token_path: Some(self.directory.path().join("token")),
            ca_path: Some(self.edge.file("certificate.pem")),
            ..Settings::new(&format!("{}/v1/stream", self.edge.origin()))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_a_prefix_is_enough_to_follow_it() {
    let scene = Scene::new();
    scene.put_token(&["--read", "runs/", "--lifetime", "3600"]);
    let source = Source::new(scene.settings()).expect("settings");
    scene.server.stream("runs/1").create().append("[1,2]");
    scene.server.stream("secret").create();
    let mut discovery = discovery(&source, &["runs/1", "runs/*/log"]);
    let news = until(&mut discovery, is("appeared", "runs/1")).await;
    assert_eq!(news.len(), 1);
    let seen = stream(&source, "runs/1").await;
    assert_eq!(
        payloads(&read_on(&source, &seen, Offset::BEGINNING).await),
        [b"1", b"2"]
    );
    scene.server.stream("runs/2/log").create();
    assert!(
        next(&mut discovery)
            .await
            .iter()
            .any(is("appeared", "runs/2/log"))
    );
    scene.server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_what_the_token_lacks() {
    let scene = Scene::new();
    scene.put_token(&["--read", "runs/", "--lifetime", "3600"]);
    let source = Source::new(scene.settings()).expect("settings");
    scene.server.stream("runs/1").create().append("[1]");
    scene.server.stream("jobs/1").create().append("[1]");
    let direct = super::source(&scene.server);
    let (run, job) = (stream(&direct, "runs/1").await, stream(&direct, "jobs/1").await);
    let lacks = |error: Error, entry: &str| {
        let is_told = error
            .to_string()
            .ends_with(&format!("the token's claim `streams` needs `{entry}`"));
        assert!(is_told && error.heals(), "{error}");
    };
    let follow_all = discovery(&source, &["runs/*", "jobs/*"]).next().await;
    lacks(follow_all.expect_err("it may not"), "read:*");
    let follow_jobs = discovery(&source, &["jobs/*"]).next().await;
    lacks(follow_jobs.expect_err("it may not"), "read:jobs/");
    lacks(
        source.list("jobs/", None).await.expect_err("it may not"),
        "read:jobs/",
    );
    lacks(
        read(&source, &job, Offset::BEGINNING)
            .await
            .expect_err("it may not"),
        "read:jobs/1",
    );
    lacks(
        source.look(&job.name).await.expect_err("it may not"),
        "read:jobs/1",
    );
    lacks(
        source
            .delete(&run.name, run.incarnation)
            .await
            .expect_err("it may not"),
        "write:runs/1",
    );
    let trimmed = source.trim(&run.name, run.incarnation, run.next).await;
    lacks(trimmed.expect_err("it may not"), "write:*");
    assert_eq!(stream(&direct, "runs/1").await, run, "nothing was done");
    scene.server.stop();
}

/// The token ends while the feed waits. The server answers then, and the next request has the renewed one.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_is_renewed_in_its_file_without_a_gap() {
    let scene = Scene::new();
    scene.put_token(&["--read", "runs/", "--lifetime", "2"]);
    let source = Source::new(scene.settings()).expect("settings");
    let first = scene.server.stream("runs/1").create();
    first.append("[1]");
    let mut discovery = discovery(&source, &["runs/*"]);
    until(&mut discovery, is("appeared", "runs/1")).await;
    let refused = tokio::time::timeout(tailwater_e2e::PATIENCE, discovery.next()).await;
    let error = refused
        .expect("the token ends")
        .expect_err("it is not renewed yet");
    assert!(
        matches!(error, Error::Unauthorized { .. }) && error.heals(),
        "{error}"
    );
    first.append("[2]");
    scene.put_token(&["--read", "runs/", "--lifetime", "3600"]);
    let news = next(&mut discovery).await;
    let [Change::Moved(moved)] = &news[..] else {
        panic!("it has moved meanwhile: {news:?}");
    };
    assert_eq!(
        payloads(&read_on(&source, moved, Offset::BEGINNING).await),
        [b"1", b"2"]
    );
    scene.server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_not_trusted_is_told_from_a_server_that_is_away() {
    let scene = Scene::new();
    scene.put_token(&["--read", "runs/", "--lifetime", "3600"]);
    let other = tailwater_e2e::authority::Authority::new("another");
    let path = scene.directory.path().join("other.pem");
    std::fs::write(&path, other.pem()).expect("it can be written");
    let distrusting = Settings {
        ca_path: Some(path),
        ..scene.settings()
    };
    let error = Source::new(distrusting)
        .expect("settings")
        .list("runs/", None)
        .await
        .expect_err("no trust");
    assert!(matches!(error, Error::Tls { .. }), "{error}");
    scene.server.stop();
}
