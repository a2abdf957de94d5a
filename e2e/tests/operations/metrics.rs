//! The metrics that rules and dashboards name are those that the two programs give out.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tailwater_e2e::authority::{self, Authority};
use tailwater_e2e::envoy::repository;
use tailwater_e2e::mirror::Mirror;
use tailwater_e2e::node;
use tailwater_e2e::postgres::Postgres;
use tailwater_e2e::{Request, Server, eventually};

use crate::commands::url;

/// Names a promtool other than the one that `make test` unpacks.
const PROMTOOL_VARIABLE: &str = "PROMTOOL";
/// Where `make test` unpacks it, from the top of the repository.
const UNPACKED: &str = "target/tools/prometheus/usr/bin/promtool";
/// How names of metrics begin: ours, and those that every program has.
const PREFIXES: [&str; 2] = ["tailwater_", "process_"];
/// What Prometheus makes of histograms.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// The pages of a server in each storage mode, one of them with TLS, and of a mirror with a route. Each has been used, so
/// that what is shown only once it has happened is there.
fn pages() -> Vec<(String, String)> {
    let own = Authority::new("ours");
    let issued = own.issue();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, &issued.pem).expect("it can be written");
    std::fs::write(&key, &issued.key_pem).expect("it can be written");
    let [cert, key] = [&cert, &key].map(|path| path.to_str().expect("a plain path"));
    let mut pages = Vec::new();
    for (mode, tls) in [
        (
            "memory",
            &[("DS_TLS__CERT_PATH", cert), ("DS_TLS__KEY_PATH", key)][..],
        ),
        ("file-durable", &[]),
        ("acid", &[]),
    ] {
        let mut server = Server::start_with(&[&[("DS_STORAGE__MODE", mode)], tls].concat());
        if !tls.is_empty() {
            server = server.by_tls(&authority::trusting(&own.pem(), &[]));
        }
        server.stream("x").create().append("[1]");
        server.stream("x").read("-1");
        server.stream("nobody").read("-1");
        server
            .send(&Request::new("PUT", &server.path("__ds/queues/jobs")))
            .expect(201);
        pages.push((
            mode.to_owned(),
            server.get("/metrics").expect(200).text().to_owned(),
        ));
        server.stop();
    }
    let (server, postgres) = (Server::start(), Postgres::start());
    let routes = postgres.file(
        "sync.toml",
        "[[route]]\nname = \"all\"\nstreams = \"**\"\ntable = \"public.rows\"\ncreate_tables = true\n\
         [route.columns]\nat = { field = \"appended_at\" }\n",
    );
    server.stream("x").create().append("[1]");
    let mirror = Mirror::start_with(
        &["--config", routes.to_str().expect("a plain path")],
        &[
            ("DS_SYNC__SOURCE_URL", &url(&server)),
            ("DS_SYNC__POSTGRES_URL", &postgres.url("postgres")),
        ],
    );
    eventually("a row is written", || {
        (mirror.metric("tailwater_sync_rows_total")? >= 1.0).then_some(())
    });
    pages.push((
        "mirror".to_owned(),
        mirror.get("/metrics").expect(200).text().to_owned(),
    ));
    mirror.stop();
    pages
}

/// The names of all metrics of a page, those that histograms are made of among them.
fn given_out(page: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let names = samples.filter_map(|line| line.split(['{', ' ']).next());
    names.map(str::to_owned).collect()
}

/// The names that begin as those of metrics do, wherever they stand in a text. Names of jobs, files and the like are none: they have
/// hyphens, or no underscore.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_-:.".contains(character);
    let words = text.split(|character| !is_part(character));
    words
        .map(|word| word.trim_end_matches(['.', ':']))
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

fn files_below(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("the directory is in the repository") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            files_below(&path, into);
        } else {
            into.push(path);
        }
    }
}

#[track_caller]
fn promtool() -> PathBuf {
    let path = std::env::var_os(PROMTOOL_VARIABLE).map_or_else(|| repository().join(UNPACKED), PathBuf::from);
    assert!(
        path.exists(),
        "there is no {}: run `make test-needs`, or name a promtool in {PROMTOOL_VARIABLE}",
        path.display()
    );
    path
}

#[test]
fn every_metric_of_the_rules_the_dashboards_and_the_documents_is_given_out_and_each_is_documented() {
    let pages = pages();
    let mut given = BTreeSet::new();
    for (whose, page) in &pages {
        let mut promtool = Command::new(promtool())
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool can be run");
        let mut stdin = promtool.stdin.take().expect("it was asked for");
        stdin.write_all(page.as_bytes()).expect("promtool reads");
        drop(stdin);
        let output = promtool.wait_with_output().expect("promtool ends");
        assert!(
            output.status.success(),
            "{whose}: {}\n{page}",
            node::written(&output)
        );
        given.extend(given_out(page));
    }

    let mut files = Vec::new();
    files_below(&repository().join("deploy/observability"), &mut files);
    let documents = [
        "docs/metrics.md",
        "docs/mirror.md",
        "docs/production.md",
        "docs/overload.md",
    ];
    files.extend(documents.iter().map(|name| repository().join(name)));
    let mut wanted = 0;
    for path in &files {
        let text = std::fs::read_to_string(path).expect("a text");
        for name in named(&text) {
            let is_histogram = OF_HISTOGRAMS
                .iter()
                .any(|end| given.contains(&format!("{name}{end}")));
            assert!(
                given.contains(&name) || is_histogram,
                "{} names {name}, which nobody gives out",
                path.display()
            );
            wanted += 1;
        }
    }
    assert!(wanted > 150, "only {wanted} names were found");

    let tables: String = documents[..2]
        .iter()
        .map(|name| std::fs::read_to_string(repository().join(name)).expect("a text"))
        .collect();
    let documented = named(&tables);
    for name in &given {
        let base = OF_HISTOGRAMS.iter().find_map(|end| name.strip_suffix(end));
        let is_told = documented.contains(name) || base.is_some_and(|base| documented.contains(base));
        assert!(is_told, "{name} is in neither docs/metrics.md nor docs/mirror.md");
    }
}

/// Prometheus sees no growth from nothing to the first refusal: `increase` would miss the first storm of them.
#[test]
fn each_refusal_that_a_limit_is_behind_is_told_of_before_it_has_happened() {
    let told = std::fs::read_to_string(repository().join("docs/troubleshooting.md")).expect("a text");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (codes, status) = (cells.next()?, cells.next()?);
        let is_of_limits = ["408", "413", "429", "503", "507"].contains(&status);
        is_of_limits.then(|| codes.replace('`', ""))
    };
    let codes: Vec<_> = told.lines().filter_map(row).collect();
    let codes: Vec<_> = codes.iter().flat_map(|codes| codes.split(", ")).collect();
    assert!(codes.len() >= 18, "{codes:?}");
    let server = Server::start();
    let page = server.get("/metrics").expect(200);
    for code in codes {
        let sample = format!("tailwater_refusals_total{{code=\"{code}\"}} 0");
        assert!(
            page.text().lines().any(|line| line == sample),
            "{sample} is not in\n{}",
            page.text()
        );
    }
    server.stop();
}
