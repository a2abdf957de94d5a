//! Workers at work while the server is killed again and again: no cursor goes back past an ack that was answered, and
//! nothing that was appended is forgotten.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tailwater_e2e::{Connection, Request, Server};

use super::client::{code, pull, request, send, send_with};

const STREAMS: [&str; 6] = ["jobs/0", "jobs/1", "jobs/2", "jobs/3", "jobs/4", "jobs/5"];
const WORKERS: [&str; 3] = ["one", "two", "three"];
const LIVES: usize = 4;
/// How long a life lasts at the least; it goes on until something was acknowledged.
const LIFE: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered, by whatever connection, before a kill.
#[derive(Default)]
struct Promised {
    /// The last offset that an append to a stream was answered with.
    appended: BTreeMap<&'static str, String>,
    /// The last offset of each subscription and stream that an ack was answered for.
    acked: BTreeMap<(&'static str, &'static str), String>,
    /// The last offset of each that an ack was sent for.
    sent: BTreeMap<(&'static str, &'static str), String>,
    /// The last generation of each subscription that a worker was told.
    generations: BTreeMap<&'static str, u64>,
    acks: usize,
}

impl Promised {
    /// A worker was told a generation, which is none that an earlier one was told.
    fn claimed(&mut self, id: &'static str, claimed: &Value) {
        let generation = claimed["generation"].as_u64().expect("a number");
        let before = self.generations.insert(id, generation);
        assert!(
            before.is_none_or(|before| generation > before),
            "{id}: generation {generation} was told after {before:?}"
        );
    }
}

fn start(mode: &str, dir: &str) -> Server {
    Server::start_with(&[("DS_STORAGE__MODE", mode), ("DS_STORAGE__DATA_DIR", dir)])
}

/// Ends all who are at work when it goes.
struct EndsAll<'a>(&'a AtomicBool);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sends a request; none if the server is gone.
fn try_send(connection: &mut Option<Connection>, server: &Server, request: &Request) -> Option<Value> {
    if connection.is_none() {
        *connection = Some(server.try_connect().ok()?);
    }
    let open = connection.as_mut()?;
    let answer = open
        .write(&request.encode())
        .and_then(|()| open.read_response(request.method()));
    let answer = answer.ok().flatten()?;
    let offset = answer.header("stream-next-offset").map(str::to_owned);
    let body = serde_json::from_slice(answer.text().as_bytes()).unwrap_or(Value::Null);
    Some(json!({ "status": answer.status(), "offset": offset, "body": body }))
}

fn append(server: &Server, stream: &'static str, promised: &Mutex<Promised>, is_over: &AtomicBool) {
    let mut connection = None;
    while !is_over.load(Ordering::SeqCst) {
        let request = server.stream(stream).appending("1");
        let Some(answer) = try_send(&mut connection, server, &request) else {
            return;
        };
        assert_eq!(answer["status"], 204, "{answer}");
        let offset = answer["offset"].as_str().expect("an offset").to_owned();
        promised.lock().expect("no panic").appended.insert(stream, offset);
    }
}

fn work(server: &Server, id: &'static str, promised: &Mutex<Promised>, is_over: &AtomicBool) {
    let mut connection = None;
    while !is_over.load(Ordering::SeqCst) {
        let claim = request(
            server,
            "POST",
            &format!("subscriptions/{id}/claim"),
            &json!({ "worker": "w" }),
        );
        let Some(answer) = try_send(&mut connection, server, &claim) else {
            return;
        };
        if answer["status"] != 200 {
            let code = answer["body"]["error"]["code"].as_str();
            assert!(
                matches!(code, Some("NO_PENDING_WORK" | "ALREADY_CLAIMED")),
                "{answer}"
            );
            continue;
        }
        let claimed = &answer["body"];
        let told = claimed["streams"].as_array().expect("streams");
        let mut promise = promised.lock().expect("no panic");
        promise.claimed(id, claimed);
        promise.sent.extend(offsets(id, told));
        drop(promise);
        let acks: Vec<_> = told
            .iter()
            .map(|one| json!({ "stream": one["path"], "offset": one["tail_offset"] }))
            .collect();
        let said = json!({
            "wake_id": claimed["wake_id"], "generation": claimed["generation"], "acks": acks, "done": true,
        });
        let token = claimed["token"].as_str().expect("a token");
        let ack = request(server, "POST", &format!("subscriptions/{id}/ack"), &said)
            .header("Authorization", &format!("Bearer {token}"));
        let Some(answer) = try_send(&mut connection, server, &ack) else {
            return;
        };
        if answer["status"] != 200 {
            // The machine was so busy that the lease has ended.
            assert_eq!(answer["body"]["error"]["code"], "FENCED", "{answer}");
            continue;
        }
        let mut promised = promised.lock().expect("no panic");
        promised.acks += 1;
        promised.acked.extend(offsets(id, told));
    }
}

/// How far a worker was told that streams reach.
fn offsets<'t>(
    id: &'static str,
    told: &'t [Value],
) -> impl Iterator<Item = ((&'static str, &'static str), String)> + 't {
    told.iter().map(move |one| {
        let mut jobs = STREAMS.into_iter();
        let stream = jobs.find(|stream| one["path"] == *stream).expect("a job");
        let offset = one["tail_offset"].as_str().expect("an offset").to_owned();
        ((id, stream), offset)
    })
}

/// The cursors of a subscription.
fn cursors(server: &Server, id: &str) -> BTreeMap<String, String> {
    let one = send(server, "GET", &format!("subscriptions/{id}"), &Value::Null)
        .expect(200)
        .json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let streams = one["streams"].as_array().expect("streams").iter();
    streams
        .map(|one| (text(&one["path"]), text(&one["acked_offset"])))
        .collect()
}

/// What a worker is told that claims once the lease of the one that the kill has silenced is over.
fn told(server: &Server, id: &'static str, promised: &mut Promised) -> BTreeMap<String, String> {
    let began = Instant::now();
    let claimed = loop {
        let answer = send(
            server,
            "POST",
            &format!("subscriptions/{id}/claim"),
            &json!({ "worker": "after" }),
        );
        if answer.status() == 200 {
            break answer.json();
        }
        if code(&answer) == "NO_PENDING_WORK" {
            return BTreeMap::new();
        }
        assert!(began.elapsed() < PATIENCE, "the lease never ends");
        std::thread::sleep(Duration::from_millis(20));
    };
    promised.claimed(id, &claimed);
    let said = json!({ "wake_id": claimed["wake_id"], "generation": claimed["generation"] });
    let token = claimed["token"].as_str().expect("a token");
    send_with(server, token, &format!("subscriptions/{id}/release"), &said).expect(204);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let streams = claimed["streams"].as_array().expect("streams").iter();
    streams
        .map(|one| (text(&one["path"]), text(&one["tail_offset"])))
        .collect()
}

fn judge(server: &Server, promised: &mut Promised) {
    for id in WORKERS {
        let kept = cursors(server, id);
        for ((_, stream), acked) in promised.acked.iter().filter(|((of, _), _)| *of == id) {
            let cursor = kept
                .get(*stream)
                .unwrap_or_else(|| panic!("{id}: the link of {stream} is gone"));
            assert!(
                cursor >= acked,
                "{id}: the cursor of {stream} went back from {acked} to {cursor}"
            );
        }
        for (stream, cursor) in &kept {
            let mut jobs = STREAMS.into_iter();
            let stream = jobs.find(|job| job == stream).expect("a job");
            let sent = promised.sent.get(&(id, stream));
            let is_at_start = cursor.ends_with("_0000000000000000");
            assert!(
                is_at_start || sent.is_some_and(|sent| cursor <= sent),
                "{id}: the cursor of {stream} is at {cursor}, and acks were sent up to {sent:?}"
            );
        }
        let told = told(server, id, promised);
        for (stream, appended) in &promised.appended {
            let is_done = kept.get(*stream).is_some_and(|cursor| cursor >= appended);
            let is_told = told.get(*stream).is_some_and(|tail| tail >= appended);
            assert!(is_done || is_told, "{id}: {stream} up to {appended} is forgotten");
        }
    }
}

#[test]
fn no_ack_is_taken_back_and_nothing_is_forgotten_by_a_server_that_is_killed() {
    for mode in ["file-durable", "file-fast", "acid"] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("streams");
        let dir = dir.to_str().expect("a plain path");
        let promised = Mutex::new(Promised::default());
        for life in 0..LIVES {
            let server = start(mode, dir);
            if life == 0 {
                server.stream("wakes").of_type("application/json").create();
                for stream in STREAMS {
                    server.stream(stream).create();
                }
                for id in WORKERS {
                    send(&server, "PUT", &format!("subscriptions/{id}"), &pull("jobs/*")).expect(201);
                }
            } else {
                judge(&server, &mut promised.lock().expect("no panic"));
            }
            let before = promised.lock().expect("no panic").acks;
            let is_over = AtomicBool::new(false);
            let began = Instant::now();
            std::thread::scope(|scope| {
                for stream in STREAMS {
                    scope.spawn(|| append(&server, stream, &promised, &is_over));
                }
                for id in WORKERS {
                    scope.spawn(|| work(&server, id, &promised, &is_over));
                }
                // A failure here must not leave the others at work.
                let _ends = EndsAll(&is_over);
                loop {
                    let acks = promised.lock().expect("no panic").acks - before;
                    if began.elapsed() > LIFE && acks >= 10 {
                        break;
                    }
                    assert!(began.elapsed() < PATIENCE, "{mode}: nobody gets any work");
                    std::thread::sleep(Duration::from_millis(5));
                }
                // Killed in the midst of it all.
                server.cut_off();
            });
            server.kill();
        }
        let server = start(mode, dir);
        judge(&server, &mut promised.lock().expect("no panic"));
        server.stop();
    }
}
