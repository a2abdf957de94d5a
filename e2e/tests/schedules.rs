//! Schedules from outside: their documents and refusals, and a server that is killed around fire times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tailwater_e2e::{Request, Response, Server, eventually};

fn send(server: &Server, method: &str, below: &str, body: &Value) -> Response {
    let request = Request::new(method, &server.path(&format!("__ds/{below}")));
    server.send(&match body {
        Value::Null => request,
        body => request
            .header("Content-Type", "application/json")
            .body(body.to_string()),
    })
}

fn every_second() -> Value {
    json!({ "stream": "jobs", "cron": "* * * * * *", "payload": { "to": "all" }, "misfire": "all" })
}

#[test]
fn a_schedule_is_made_shown_listed_changed_and_deleted() {
    let server = Server::start();
    server.stream("jobs").create();
    let asked = json!({
        "stream": "jobs", "cron": "30 2 * * *", "time_zone": "Europe/Berlin", "payload": [1, 12345678901234567890_u64],
        "enqueue_as": "message", "misfire": "skip", "start_at": "2030-01-01T00:00:00Z",
    });
    let made = send(&server, "PUT", "schedules/nightly", &asked)
        .expect(201)
        .json();
    for (field, value) in [
        ("id", json!("nightly")),
        ("stream", json!("jobs")),
        ("time_zone", json!("Europe/Berlin")),
        ("payload", json!([1, 12345678901234567890_u64])),
        ("paused", json!(false)),
        ("start_at", json!("2030-01-01T00:00:00.000Z")),
        ("next_fire_at", json!("2030-01-01T01:30:00.000Z")),
        ("last_fire", Value::Null),
        ("fires", json!(0)),
    ] {
        assert_eq!(made[field], value, "{field} in {made}");
    }
    assert_eq!(
        send(&server, "PUT", "schedules/nightly", &asked)
            .expect(200)
            .json(),
        made
    );
    assert_eq!(
        send(&server, "GET", "schedules/nightly", &Value::Null)
            .expect(200)
            .json(),
        made
    );
    let mut changed = asked.clone();
    changed["paused"] = json!(true);
    let changed = send(&server, "PUT", "schedules/nightly", &changed)
        .expect(200)
        .json();
    assert_eq!(
        (&changed["paused"], &changed["next_fire_at"]),
        (&json!(true), &Value::Null)
    );
    send(&server, "PUT", "schedules/other", &asked).expect(201);
    let page = send(&server, "GET", "schedules?limit=1", &Value::Null)
        .expect(200)
        .json();
    assert_eq!(page, json!({ "schedules": [changed], "after": "nightly" }));
    let page = send(&server, "GET", "schedules?after=nightly", &Value::Null)
        .expect(200)
        .json();
    assert_eq!(
        (&page["schedules"][0]["id"], &page["after"]),
        (&json!("other"), &Value::Null)
    );
    send(&server, "DELETE", "schedules/nightly", &Value::Null).expect(204);
    send(&server, "DELETE", "schedules/nightly", &Value::Null).expect(204);
    let gone = send(&server, "GET", "schedules/nightly", &Value::Null)
        .expect(404)
        .json();
    assert_eq!(gone["code"], "schedule_not_found");
    let metrics = server.get("/metrics").expect(200);
    assert!(metrics.text().contains("\ntailwater_schedules 1\n"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_field() {
    let server = Server::start_with(&[("DS_SCHEDULES__MAX_SCHEDULES", "1")]);
    server.stream("jobs").create();
    server.stream("text").of_type("text/plain").create();
    let refused = |change: Value, status: u16| {
        let mut asked = every_second();
        for (field, value) in change.as_object().expect("fields") {
            asked[field] = value.clone();
        }
        send(&server, "PUT", "schedules/s", &asked).expect(status).json()
    };
    let invalid = |change: Value| {
        let problem = refused(change, 400);
        assert_eq!(problem["code"], "invalid_member", "{problem}");
        let detail = problem["detail"].as_str().expect("a text").to_owned();
        (problem["field"].as_str().expect("a field").to_owned(), detail)
    };
    let (field, detail) = invalid(json!({ "cron": "61 * * * *" }));
    assert!(field == "cron" && detail.contains("\"61 * * * *\""), "{detail}");
    let (field, detail) = invalid(json!({ "cron": "0 0 30 2 *" }));
    assert!(
        field == "cron" && detail.contains("nothing would be enqueued"),
        "{detail}"
    );
    let (field, detail) = invalid(json!({ "time_zone": "Europe/Atlantis" }));
    assert!(
        field == "time_zone" && detail.contains("\"Europe/Atlantis\""),
        "{detail}"
    );
    assert_eq!(invalid(json!({ "every": "day" })).0, "every");
    assert_eq!(
        refused(json!({ "stream": "missing" }), 409)["code"],
        "schedule_stream_missing"
    );
    assert_eq!(
        refused(json!({ "stream": "text" }), 409)["code"],
        "schedule_stream_not_json"
    );
    send(&server, "PUT", "schedules/a", &every_second()).expect(201);
    let full = send(&server, "PUT", "schedules/b", &every_second())
        .expect(507)
        .json();
    assert_eq!(
        (&full["code"], &full["max_schedules"]),
        (&json!("too_many_schedules"), &json!(1))
    );
    let not_allowed = send(&server, "POST", "schedules/a", &json!({})).expect(405);
    assert_eq!(not_allowed.header("allow"), Some("GET, HEAD, PUT, DELETE"));
}

/// Pauses until about when the next fire time comes, a little before or after it.
fn pause_until_about_the_next_second() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let left = 1_000 - u64::from(now.subsec_millis());
    let about = left + fastrand::u64(..40) - left.min(20);
    std::thread::sleep(Duration::from_millis(about));
}

fn fires(server: &Server) -> u64 {
    let shown = send(server, "GET", "schedules/s", &Value::Null)
        .expect(200)
        .json();
    shown["fires"].as_u64().expect("a number")
}

#[test]
fn a_server_that_is_killed_around_fire_times_enqueues_each_once() {
    for mode in ["file-durable", "acid"] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("streams");
        let dir = dir.to_str().expect("a plain path");
        let start = || Server::start_with(&[("DS_STORAGE__MODE", mode), ("DS_STORAGE__DATA_DIR", dir)]);
        let server = start();
        server.stream("jobs").create();
        send(&server, "PUT", "schedules/s", &every_second()).expect(201);
        let mut server = Some(server);
        for _ in 0..4 {
            let running = server.take().expect("one runs");
            eventually("it fires", || (fires(&running) > 0).then_some(()));
            pause_until_about_the_next_second();
            running.kill();
            server = Some(start());
        }
        let server = server.expect("one runs");
        let before = fires(&server);
        eventually("it goes on", || (fires(&server) > before).then_some(()));
        let seconds: Vec<_> = server.stream("jobs").messages().iter().map(second).collect();
        let first = seconds[0];
        let expected: Vec<_> = (first..).take(seconds.len()).collect();
        assert_eq!(seconds, expected, "{mode}: each second once, in order");
        server.stop();
    }
}

/// The second of a job's fire time, counted from 1970.
fn second(job: &Value) -> u64 {
    assert_eq!(job["payload"], json!({ "to": "all" }));
    let id = job["id"].as_str().expect("an id");
    let time = id
        .strip_prefix("s-")
        .and_then(|time| time.strip_suffix('Z'))
        .expect("a fire time");
    let (day, clock) = time.split_once('T').expect("a day and a time");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let clock: Vec<_> = clock.split(':').map(number).collect();
    let day: Vec<_> = day.split('-').map(number).collect();
    ((days_since_1970(day[0], day[1], day[2]) * 24 + clock[0]) * 60 + clock[1]) * 60 + clock[2]
}

/// By the civil calendar: years count from March, so that the day that leap years add is their last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_years = year * 365 + year / 4 - year / 100 + year / 400;
    of_years + (month * 153 + 2) / 5 + day - 719_469
}
