//! Settings, commands, endpoints and signals of `tailwater-sync`.

use std::net::TcpListener;

use tailwater_e2e::Server;
use tailwater_e2e::mirror::Mirror;
use tailwater_e2e::postgres::Postgres;

use crate::rig::{DATABASE, Rig, root};

/// What a command says that must be refused, after a check of its exit code.
#[track_caller]
fn refusal(arguments: &[&str], settings: &[(&str, &str)], code: i32) -> String {
    let output = Mirror::run(arguments, settings);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_wrong_setting_is_named_with_its_origin_and_the_nearest_name_and_secrets_are_not_told() {
    let said = refusal(&[], &[], 2);
    assert!(said.contains("`sync.postgres_url` is not set"), "{said}");
    let said = refusal(
        &["--set", "sync.reader=3"],
        &[
            ("DS_SYNC__POSTGRES_URL", "mysql://me:hush@h/db"),
            ("DS_SYNC__POSTGERS_URL", "postgres://me:hush@h/db"),
            ("DS_SYNC__SOURCE_URL", "ftp://me:hush@h/x"),
            ("DS_SYNC__STREAMS", "a//b"),
        ],
        2,
    );
    for part in [
        "--set sync.reader: unknown setting `sync.reader`",
        "did you mean `sync.readers`?",
        "DS_SYNC__POSTGERS_URL: unknown setting",
        "did you mean `DS_SYNC__POSTGRES_URL`?",
        "DS_SYNC__POSTGRES_URL: `sync.postgres_url` cannot be",
        "DS_SYNC__SOURCE_URL: `sync.source_url` cannot be",
        "DS_SYNC__STREAMS: `sync.streams` cannot be `a//b`",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    assert!(!said.contains("hush"), "{said}");
}

#[test]
fn settings_come_from_a_file_and_variables_and_flags_and_secrets_from_files_of_their_own() {
    let rig = Rig::new("memory");
    let secret = rig.postgres.file(
        "url",
        &format!("{}\n", rig.postgres.url_of("postgres:hush", DATABASE)),
    );
    let config = rig.postgres.file(
        "sync.toml",
        &format!(
            "[sync]\nsource_url = \"{}\"\nstreams = [\"a/*\", \"b\"]\nreaders = 2\nbatch_ms = 1\n",
            root(rig.server.address())
        ),
    );
    let output = Mirror::run(
        &[
            "check",
            "--config",
            config.to_str().expect("a plain path"),
            "--set",
            "sync.readers=4",
        ],
        &[
            (
                "DS_SYNC__POSTGRES_URL_FILE",
                secret.to_str().expect("a plain path"),
            ),
            ("DS_SYNC__READERS", "3"),
            // Those of the server may be there as well.
            ("DS_STORAGE__MODE", "memory"),
        ],
    );
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for line in [
        "streams = [\"a/*\", \"b\"] # ",
        "readers = 4 # --set sync.readers",
        "batch_ms = 1 # ",
        "postgres_url = \"\" # default",
        "# source: http://",
        "and the tables will be made",
    ] {
        assert!(printed.contains(line), "{line} is not in\n{printed}");
    }
    assert!(!printed.contains("hush"), "{printed}");
}

#[test]
fn a_server_that_will_not_do_is_named_by_check_and_by_the_start() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let (server, postgres) = (Server::start(), Postgres::start());
    postgres.sql(DATABASE, "CREATE ROLE guest LOGIN");
    let source = root(server.address());
    let guest = postgres.url_of("guest", DATABASE);
    let both = |url: &str| {
        [
            ("DS_SYNC__SOURCE_URL".to_owned(), source.clone()),
            ("DS_SYNC__POSTGRES_URL".to_owned(), url.to_owned()),
        ]
    };
    let said = |arguments: &[&str], settings: &[(String, String)]| {
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        refusal(arguments, &settings, 1)
    };
    let unreachable = said(
        &["check"],
        &[
            ("DS_SYNC__SOURCE_URL".to_owned(), root(nobody)),
            (
                "DS_SYNC__POSTGRES_URL".to_owned(),
                format!("postgres://me@{nobody}/db"),
            ),
        ],
    );
    assert!(
        unreachable.contains("source: no server answered at"),
        "{unreachable}"
    );
    assert!(
        unreachable.contains("postgres: PostgreSQL at"),
        "both are asked: {unreachable}"
    );
    for arguments in [&["check"][..], &[]] {
        let rights = said(arguments, &both(&guest));
        assert!(rights.contains("GRANT CREATE ON DATABASE"), "{rights}");
        let database = said(arguments, &both(&postgres.url("nowhere")));
        assert!(
            database.contains("nowhere") && database.contains("CREATE DATABASE"),
            "{database}"
        );
    }
    let elsewhere = said(
        &[],
        &[
            (
                "DS_SYNC__SOURCE_URL".to_owned(),
                format!("http://{}/elsewhere", server.address()),
            ),
            ("DS_SYNC__POSTGRES_URL".to_owned(), postgres.url(DATABASE)),
        ],
    );
    assert!(elsewhere.contains("/elsewhere"), "{elsewhere}");
    assert_eq!(
        postgres.sql(DATABASE, "SELECT to_regnamespace('tailwater') IS NULL OR true"),
        "t"
    );
}

#[test]
fn it_is_ready_once_both_servers_answer_and_not_while_one_of_them_does_not() {
    let mut rig = Rig::new("file-durable");
    rig.postgres.stop();
    let mirror = rig.mirror();
    assert_eq!(mirror.get("/healthz").expect(200).text(), "ok\n");
    let answer = mirror.get("/readyz").expect(503);
    assert!(
        answer.text().contains("postgres not answering"),
        "{}",
        answer.text()
    );
    tailwater_e2e::eventually("it has tried", || {
        (mirror.metric("tailwater_sync_retries_total{what=\"postgres\"}") >= Some(1.0)).then_some(())
    });
    rig.postgres.restart();
    mirror.expect_ready();
    // Nothing is there to be mirrored, and so nothing would tell that PostgreSQL has gone: an event does.
    let stream = rig.server.stream("s").create();
    rig.postgres.kill();
    stream.append("1");
    tailwater_e2e::eventually("it is not ready", || {
        (mirror.get("/readyz").status() == 503).then_some(())
    });
    rig.postgres.restart();
    mirror.expect_ready();
    rig.expect_mirrored("s");
    let retries = mirror.metric("tailwater_sync_retries_total{what=\"postgres\"}");
    assert!(retries >= Some(1.0), "{retries:?}");
    assert!(mirror.metric("tailwater_sync_reconnections_total{side=\"postgres\"}") >= Some(1.0));
    let said = mirror.stop();
    assert!(
        said.contains("side=\"postgres\"") && said.contains("wait_ms="),
        "{said}"
    );
}

/// One that writes, and one that keeps the leases. PostgreSQL would refuse a third.
#[test]
fn an_instance_has_two_connections_to_postgresql_whatever_it_has_to_do() {
    let rig = Rig::new("file-durable");
    rig.ask("CREATE ROLE mirror LOGIN CONNECTION LIMIT 2; GRANT CREATE ON DATABASE postgres TO mirror");
    let url = rig.postgres.url_of("mirror", DATABASE);
    let mirror = rig.mirror_with(&[
        ("DS_SYNC__POSTGRES_URL", &url),
        ("DS_SYNC__DELETE_AFTER_SYNC", "true"),
    ]);
    for number in 0..40 {
        let stream = rig.server.stream(&format!("runs/{number}")).create();
        stream.append(r#"[1,"\u0000",1e200000,4]"#);
        stream.close();
    }
    rig.expect(
        "SELECT count(*) FROM tailwater.streams WHERE closed AND deleted_at IS NOT NULL",
        "40",
    );
    assert_eq!(
        rig.ask(
            "SELECT (SELECT count(*) FROM tailwater.events), (SELECT count(*) FROM tailwater.dead_letters)"
        ),
        "80|80"
    );
    assert_eq!(
        rig.ask("SELECT count(*) FROM pg_stat_activity WHERE usename = 'mirror'"),
        "2"
    );
    mirror.stop();
    let log = rig.postgres.log();
    assert!(!log.contains("too many connections"), "{log}");
}

#[test]
fn sigterm_ends_it_with_a_whole_transaction_and_what_is_left_comes_with_the_next_run() {
    let rig = Rig::new("file-durable");
    let stream = rig.server.stream("s").create();
    for batch in 0..50 {
        let events: Vec<_> = (0..200)
            .map(|number| (batch * 200 + number).to_string())
            .collect();
        stream.append(format!("[{}]", events.join(",")));
    }
    let small = [("DS_SYNC__BATCH_ROWS", "100"), ("DS_SYNC__BATCH_BYTES", "64KiB")];
    let mirror = rig.mirror_with(&small);
    rig.expect("SELECT count(*) > 0 FROM tailwater.events", "t");
    mirror.stop();
    let (rows, place) = (
        "SELECT count(*) FROM tailwater.events",
        "SELECT events FROM tailwater.streams",
    );
    assert_eq!(
        rig.ask(rows),
        rig.ask(place),
        "rows and place are of one transaction"
    );
    let _mirror = rig.mirror_with(&small);
    rig.expect_mirrored("s");
    assert_eq!(
        rig.ask("SELECT count(*), bool_and(payload = to_jsonb(index)) FROM tailwater.events"),
        "10000|t"
    );
}

#[test]
fn sigterm_does_not_wait_for_a_postgresql_that_is_not_there() {
    let mut rig = Rig::with(
        "file-durable",
        &[],
        &[("DS_SYNC__SHUTDOWN_TIMEOUT_SECS", "86400")],
    );
    let mirror = rig.mirror();
    let stream = rig.server.stream("s").create();
    stream.append("1");
    rig.expect_mirrored("s");
    rig.postgres.kill();
    stream.append("2");
    tailwater_e2e::eventually("it is not ready", || {
        (mirror.get("/readyz").status() == 503).then_some(())
    });
    mirror.stop();
    rig.mirror().stop();
    rig.postgres.restart();
    let _mirror = rig.mirror();
    rig.expect_mirrored("s");
}

#[test]
fn status_and_verify_tell_how_far_the_mirror_is_and_whether_rows_are_what_events_are() {
    let rig = Rig::new("file-durable");
    let mirror = rig.mirror();
    let stream = rig.server.stream("a").create();
    stream.append(r#"[{"n":1},{"n":2},{"n":3},"\u0000"]"#);
    rig.server.stream("b").create().close();
    rig.expect_mirrored("a");
    rig.expect("SELECT closed FROM tailwater.streams WHERE name = 'b'", "t");
    mirror.stop();
    stream.append("[4]");
    rig.server.stream("c").create().append("1");
    let (code, printed, said) = rig.command(&["status"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(printed, "a\topen\t4\t2\t\nb\tclosed\t0\t0\t\nc\tnew\t0\t2\t\n");

    let verify = || rig.command(&["verify"], &[]);
    let (code, printed, said) = verify();
    assert_eq!(code, Some(0), "{printed}{said}");
    assert!(printed.starts_with("4 events of 2 streams compared"), "{printed}");
    rig.ask("UPDATE tailwater.events SET payload = '{\"n\":9}' WHERE index = 0");
    rig.ask("DELETE FROM tailwater.events WHERE index = 1");
    rig.ask(
        "INSERT INTO tailwater.events SELECT stream, incarnation, position - 1, 7, appended_at, content_type, '7' \
         FROM tailwater.events WHERE index = 2",
    );
    rig.ask("UPDATE tailwater.dead_letters SET payload = 'x'");
    let (code, printed, _) = verify();
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains("a: 1 missing, 1 without an event, 2 different"),
        "{printed}"
    );
}
