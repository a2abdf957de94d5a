//! What docs/mirror.md, docs/mirror-tables.md and docs/jobs.md have people write, taken out of them as it stands there: routes,
//! and questions in SQL, with what is answered.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};
use tailwater_e2e::{Request, Response, Server, eventually};

use crate::rig::{DATABASE, Rig};

const MIRROR: &str = include_str!("../../../docs/mirror.md");
const TABLES: &str = include_str!("../../../docs/mirror-tables.md");
const JOBS: &str = include_str!("../../../docs/jobs.md");

/// A page's blocks of code in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let is_code = page.split("```").skip(1).step_by(2);
    is_code
        .filter_map(|block| block.split_once('\n').filter(|(of, _)| *of == language))
        .map(|(_, text)| text.to_owned())
        .collect()
}

/// The only block of a page in a language.
#[track_caller]
fn block(page: &str, language: &str) -> String {
    let [block] = &blocks(page, language)[..] else {
        panic!("there is one block of {language}");
    };
    block.clone()
}

/// The questions of a page, each by the comment that it stands under.
fn questions(page: &str) -> BTreeMap<String, String> {
    let mut questions: BTreeMap<String, String> = BTreeMap::new();
    for block in blocks(page, "sql") {
        let mut about = None;
        for line in block.lines() {
            if let Some(comment) = line.strip_prefix("-- ") {
                about = Some(comment.to_owned());
            } else if let Some(about) = &about {
                let question = questions.entry(about.clone()).or_default();
                question.push_str(line);
                question.push('\n');
            }
        }
    }
    questions
}

/// Asks all questions of a page, and compares what some columns of the answers have. None is left out.
#[track_caller]
fn expect_answers(rig: &Rig, page: &str, answers: &[(&str, &str, &str)]) {
    let questions = questions(page);
    let asked: Vec<_> = questions.keys().map(String::as_str).collect();
    let mut expected: Vec<_> = answers.iter().map(|(about, ..)| *about).collect();
    expected.sort_unstable();
    assert_eq!(asked, expected);
    for (about, columns, answer) in answers {
        let question = questions[*about].trim_end().trim_end_matches(';');
        let printed = rig.ask(&format!("SELECT {columns} FROM ({question}) AS answer"));
        assert_eq!(printed, *answer, "{about}");
    }
}

/// Lets it be around noon for PostgreSQL, so that no day ends while a test runs.
fn set_time_to_noon(rig: &Rig) {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("it is later than 1970");
    let hour = since_1970.as_secs() / 3_600 % 24;
    // The sign is that of POSIX: west of Greenwich is plus.
    let zone = match hour {
        0..=12 => format!("Etc/GMT-{}", 12 - hour),
        hour => format!("Etc/GMT+{}", hour - 12),
    };
    rig.ask(&format!("ALTER DATABASE {DATABASE} SET timezone = '{zone}'"));
}

/// A call on a queue or a run.
fn call(server: &Server, method: &str, below: &str, body: &Value) -> Response {
    let request = Request::new(method, &server.path(&format!("__ds/{below}")));
    server.send(
        &request
            .header("Content-Type", "application/json")
            .body(body.to_string()),
    )
}

/// Claims the job of a run, which must be the next one, and appends events to it. Tells the epoch, and the number of the next
/// event.
#[track_caller]
fn work(server: &Server, run: &str, events: &[Value]) -> (u64, u64) {
    let claim = json!({ "worker": "w", "wait_ms": 10_000 });
    let claimed = call(server, "POST", "queues/jobs/mail/claim", &claim)
        .expect(200)
        .json();
    let job = &claimed["jobs"][0];
    assert_eq!(job["run"], run, "{claimed}");
    let number = |name: &str| job[name].as_u64().expect("a number");
    let (epoch, mut seq) = (number("epoch"), number("next_seq"));
    for event in events {
        let append = server
            .stream(run)
            .appending(event.to_string())
            .header("Producer-Id", "lease")
            .header("Producer-Epoch", &epoch.to_string())
            .header("Producer-Seq", &seq.to_string());
        server.send(&append).expect(200);
        seq += 1;
    }
    (epoch, seq)
}

/// Ends what [`work`] has begun by a call such as `complete`.
#[track_caller]
fn end(server: &Server, run: &str, how: &str, (epoch, seq): (u64, u64), more: &Value) {
    let mut body = json!({ "epoch": epoch, "seq": seq });
    let members = body.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    call(server, "POST", &format!("runs/{run}/{how}"), &body).expect(200);
}

#[test]
fn runs_are_rows_by_the_route_of_the_document_and_its_questions_are_answered() {
    let rig = Rig::new("file-durable").configured(&block(JOBS, "toml"));
    set_time_to_noon(&rig);
    let mirror = rig.mirror();
    let server = &rig.server;
    let queue = json!({ "max_attempts": 2, "backoff": { "base_ms": 1, "cap_ms": 1, "jitter": 0.0 } });
    call(server, "PUT", "queues/jobs/mail", &queue).expect(201);
    let run = |id: &str| format!("runs/jobs/mail/{id}");
    let enqueue = |id: &str| {
        let job = json!({ "payload": { "to": id }, "id": id });
        call(server, "POST", "queues/jobs/mail/enqueue", &job).expect(201);
    };
    let log = |line: &str| json!({ "type": "log", "line": line });

    // The first attempt fails, the second one does not.
    let ada = run("welcome-ada");
    enqueue("welcome-ada");
    let first = work(server, &ada, &[log("connected"), log("refused")]);
    end(server, &ada, "fail", first, &json!({ "error": "no such host" }));
    let progress = json!({ "type": "progress", "done": 1 });
    let second = work(server, &ada, &[log("connected again"), progress, log("sent")]);
    end(
        server,
        &ada,
        "complete",
        second,
        &json!({ "result": { "id": 7 } }),
    );
    // One is given up, one is called off, one is at work, and one waits and came twice.
    for id in ["bob", "eve", "mia", "zoe"] {
        enqueue(id);
    }
    let bob = work(server, &run("bob"), &[]);
    let failure = json!({ "error": { "status": 550 }, "retry": false });
    end(server, &run("bob"), "fail", bob, &failure);
    call(server, "POST", &format!("runs/{}/cancel", run("eve")), &json!({})).expect(200);
    work(server, &run("mia"), &[log("dialling")]);
    server
        .stream("jobs/mail")
        .append(r#"{"payload":{"to":"zoe"},"id":"zoe"}"#);
    eventually("the second one is known to be the same job", || {
        (server.stream(&run("zoe")).messages().len() == 2).then_some(())
    });
    for id in ["welcome-ada", "bob", "eve", "mia", "zoe"] {
        rig.expect_mirrored(&run(id));
    }

    let of_ada = |what: &str| {
        rig.ask(&format!(
            "SELECT {what} FROM tailwater.events WHERE stream = '{ada}'"
        ))
    };
    let took = of_ada("max(appended_at) - min(appended_at) FILTER (WHERE payload ->> 'type' = 'run.leased')");
    expect_answers(
        &rig,
        JOBS,
        &[
            (
                "How the runs of a queue stand.",
                "stream, state, attempt, appended_at <= now()",
                "runs/jobs/mail/bob|run.dead|1|t\nruns/jobs/mail/eve|run.cancelled||t\n\
                 runs/jobs/mail/mia|run.leased|1|t\nruns/jobs/mail/welcome-ada|run.succeeded|2|t\n\
                 runs/jobs/mail/zoe|run.queued||t",
            ),
            (
                "What the last attempt of a run has written.",
                "*",
                "connected again\nsent",
            ),
            (
                "How long runs took from their first attempt to their end, by day.",
                "*",
                &format!("{}|1|{took}", of_ada("date_trunc('day', max(appended_at))")),
            ),
            (
                "Runs that have ended, and how.",
                "*",
                "bob|run.dead||{\"status\": 550}\neve|run.cancelled||\nwelcome-ada|run.succeeded|{\"id\": 7}|",
            ),
        ],
    );
    assert_eq!(
        rig.ask(
            "SELECT job, event, run FROM app.mail WHERE event NOT LIKE 'run.%' OR job = 'zoe' ORDER BY job"
        ),
        "mia|log|runs/jobs/mail/mia\nzoe|run.duplicate|runs/jobs/mail/zoe"
    );
    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.dead_letters"), "0");
    mirror.stop();
    let (code, said, complaints) = rig.command(&["verify"], &[]);
    assert_eq!(code, Some(0), "{said}{complaints}");
}

/// A run that goes on, one that has ended, and one with an event that cannot be a row.
fn append_runs(rig: &Rig) {
    let append = |name: &str, events: &str| {
        let stream = rig.server.stream(name).create();
        stream.append(events);
        stream
    };
    append("runs/42", r#"[{"step":"started"},{"step":"rendered"}]"#);
    append(
        "runs/43",
        r#"[{"step":"started"},{"step":"rendered","error":"no paper"}]"#,
    )
    .close();
    append("runs/44", r#"[{"step":"\u0000"}]"#);
}

#[test]
fn questions_about_the_mirror_are_answered() {
    let rig = Rig::new("file-durable");
    set_time_to_noon(&rig);
    append_runs(&rig);
    let mirror = rig.mirror();
    for name in ["runs/42", "runs/43", "runs/44"] {
        rig.expect_mirrored(name);
    }
    rig.expect("SELECT closed FROM tailwater.streams WHERE name = 'runs/43'", "t");
    expect_answers(
        &rig,
        MIRROR,
        &[
            (
                "A run, in its order.",
                "index, appended_at <= now(), payload",
                "0|t|{\"step\": \"started\"}\n1|t|{\"step\": \"rendered\"}",
            ),
            (
                "Runs that are not done, and their last step.",
                "name, events, step, since >= '0'",
                "runs/42|2|rendered|t",
            ),
            (
                "Steps, and how often each failed, by day.",
                "day = date_trunc('day', now()), step, failed",
                "t|rendered|1\nt|started|0",
            ),
            (
                "What could not be a row, and why.",
                "stream, index, route, reason LIKE 'it has the character %'",
                "runs/44|0||t",
            ),
        ],
    );
    mirror.stop();
}

#[test]
fn questions_about_the_tables_are_answered_and_partitions_are_made_and_dropped() {
    let rig = Rig::with("file-durable", &[], &[("DS_SYNC__ON_UNMAPPABLE", "halt")]);
    set_time_to_noon(&rig);
    append_runs(&rig);
    let mirror = rig.mirror();
    for name in ["runs/42", "runs/43"] {
        rig.expect_mirrored(name);
    }
    rig.expect(
        "SELECT lag_events FROM tailwater.streams WHERE name = 'runs/44'",
        "1",
    );
    expect_answers(
        &rig,
        TABLES,
        &[
            (
                "A run, in its order.",
                "index, appended_at <= now(), payload",
                "0|t|{\"step\": \"started\"}\n1|t|{\"step\": \"rendered\"}",
            ),
            (
                "The last step of each run of today.",
                "*",
                "runs/42|rendered\nruns/43|rendered",
            ),
            (
                "What is behind.",
                "name, lag_events, last_error LIKE '%cannot be a row%'",
                "runs/44|1|t",
            ),
        ],
    );
    // What stands under no comment: a month's partition.
    let partitions: Vec<_> = blocks(TABLES, "sql")
        .into_iter()
        .filter(|block| !block.starts_with("--"))
        .collect();
    let [month] = &partitions[..] else {
        panic!("there is one such block: {partitions:?}");
    };
    let (make, drop) = month.split_once(";\n").expect("two statements");
    rig.ask(make);
    let later = rig.ask(
        "INSERT INTO tailwater.events (stream, incarnation, position, index, appended_at, content_type) \
         VALUES ('later', extract(epoch FROM timestamptz '2027-01-15Z') * 1e6, 1, 0, now(), 'x') \
         RETURNING tableoid::regclass",
    );
    assert_eq!(later, "tailwater.events_2027_01");
    rig.ask(drop);
    assert_eq!(
        rig.ask("SELECT count(*), count(DISTINCT stream) FROM tailwater.events"),
        "4|2"
    );
    mirror.stop();
}

#[test]
fn the_route_of_the_mirrors_page_fills_its_table() {
    let rig = Rig::new("file-durable").configured(&block(MIRROR, "toml"));
    let mirror = rig.mirror();
    let id = "0b8e7f3c-6a52-4d3f-9a57-0d5f3c9f2a11";
    let run = rig.server.stream(&format!("runs/{id}")).create();
    run.append(
        r#"[{"run":{"status":"begun"},"begun":1795000000000},
            {"run":{"status":"done"},"tries":3,"begun":1795000000000,"tags":["a"]},
            {"other":1}]"#,
    );
    rig.server
        .stream("runs/42")
        .create()
        .append(r#"{"run":{"status":"begun"}}"#);
    for name in [&format!("runs/{id}"), "runs/42"] {
        rig.expect_mirrored(name);
    }
    assert_eq!(
        rig.ask(
            "SELECT run_id, status, tries, begun = to_timestamp(1795000000), tags, at <= now() FROM app.runs"
        ),
        format!("{id}|done|3|t|[\"a\"]|t")
    );
    assert_eq!(
        rig.ask("SELECT stream, index, route FROM tailwater.dead_letters ORDER BY 1"),
        format!("runs/{id}|2|runs\nruns/42|0|runs")
    );
    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.events"), "4");
    mirror.stop();
}
