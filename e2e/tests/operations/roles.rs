//! The roles that `docker-compose.yml` has PostgreSQL make, with what the mirror and Electric do by them.

use std::process::Command;

use tailwater_e2e::Server;
use tailwater_e2e::envoy::repository;
use tailwater_e2e::mirror::Mirror;
use tailwater_e2e::node;
use tailwater_e2e::postgres::{Postgres, programs};

use crate::commands::url;

#[test]
fn the_mirror_makes_its_tables_and_electric_follows_them_by_the_roles_of_compose() {
    let server = Server::start();
    let postgres = Postgres::start_with(&["wal_level=logical"]);
    postgres.sql("postgres", "CREATE DATABASE logs");
    let secrets = tempfile::tempdir().expect("a temporary directory");
    let script = || {
        let mut command = Command::new(repository().join("deploy/compose/postgres/10-roles.sh"));
        let path = std::env::var_os("PATH").expect("a path");
        let path = std::env::join_paths(std::iter::once(programs()).chain(std::env::split_paths(&path)));
        command
            .env("PATH", path.expect("directories without colons"))
            .env("PGHOST", "localhost")
            .env("PGPORT", postgres.address().port().to_string())
            .env("SECRETS_DIRECTORY", secrets.path());
        command
    };
    let refused = script().output().expect("the script runs");
    assert!(!refused.status.success(), "without passwords");
    assert!(node::written(&refused).contains("run deploy/compose/setup"));
    let write_passwords = |before: &str| {
        for name in ["mirror", "electric"] {
            let path = secrets.path().join(format!("{name}_password"));
            std::fs::write(path, format!("{before}password-of-{name}\n")).expect("it can be written");
        }
    };
    // The image runs it once, and what it had not done then stayed undone.
    postgres.sql("logs", "CREATE ROLE mirror");
    write_passwords("old-");
    node::run(&mut script());
    write_passwords("");
    node::run(&mut script());

    let mirror = Mirror::start(&[
        ("DS_SYNC__SOURCE_URL", &url(&server)),
        (
            "DS_SYNC__POSTGRES_URL",
            &postgres.url_of("mirror:password-of-mirror", "logs"),
        ),
    ]);
    mirror.expect_ready();

    // What Electric does when it starts and when a shape is asked for.
    let as_electric = |sql: &str| {
        let sql = format!("SET SESSION AUTHORIZATION electric; {sql}");
        postgres.sql("logs", &sql)
    };
    as_electric("CREATE PUBLICATION electric_publication_default");
    as_electric("ALTER TABLE tailwater.events REPLICA IDENTITY FULL");
    as_electric("ALTER PUBLICATION electric_publication_default ADD TABLE tailwater.events");
    as_electric("SELECT pg_create_logical_replication_slot('electric_slot_default', 'pgoutput')");
    let as_mirror = postgres.try_sql(
        "logs",
        "SET SESSION AUTHORIZATION mirror; SELECT pg_create_logical_replication_slot('other', 'pgoutput')",
    );
    assert!(as_mirror.is_err(), "the mirror need not replicate: {as_mirror:?}");
    // What docs/production.md tells the operator to ask, in its order: slots are dropped in the end.
    let document =
        std::fs::read_to_string(repository().join("docs/production.md")).expect("the document is there");
    let asked = questions(&document);
    assert!(asked.len() >= 5, "{asked:?}");
    for sql in asked {
        postgres.sql("logs", &sql);
    }
    let left = postgres.sql("logs", "SELECT count(*) FROM pg_replication_slots");
    assert_eq!(left, "0", "the document says how a slot is dropped");
    mirror.stop();
}

/// All SQL of a document: its blocks, and what stands in a line and begins with `SELECT` or `DROP`.
fn questions(document: &str) -> Vec<String> {
    let mut parts = document.split("```");
    let mut all = Vec::new();
    while let Some(text) = parts.next() {
        let inline = text.split('`').skip(1).step_by(2);
        let is_sql = |code: &&str| code.starts_with("SELECT ") || code.starts_with("DROP ");
        all.extend(inline.filter(is_sql).map(str::to_owned));
        let block = parts.next().unwrap_or_default();
        all.extend(block.strip_prefix("sql\n").map(str::to_owned));
    }
    all
}
