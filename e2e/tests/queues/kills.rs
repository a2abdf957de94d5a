//! Workers and the server are killed in turn under load: no job is lost, each run has one end, each event stands there once, and
//! nobody writes who has been fenced.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tailwater_e2e::{Request, Server, eventually};

use super::oracle;
use super::scene::{QUEUE, Worker, events, make_queue, send, stats};

/// More rounds are for `make soak`.
const ROUNDS_VARIABLE: &str = "TAILWATER_CRASH_ROUNDS";
const ROUNDS: usize = 3;
const JOBS_A_ROUND: usize = 8;
const WORKERS: usize = 3;
const LINES: u64 = 5;

/// Notes that it has begun, and writes its lines.
fn program(starts: &Path) -> String {
    format!(
        "echo \"$TAILWATER_RUN $TAILWATER_EPOCH\" >> {}; for i in 0 1 2 3 4; do echo \"$TAILWATER_EPOCH $i\"; sleep 0.02; done",
        starts.display()
    )
}

struct Campaign<'a> {
    mode: &'a str,
    settings: Vec<(&'a str, &'a str)>,
    starts: &'a Path,
    workers: Vec<Worker>,
    /// So many jobs were enqueued.
    jobs: usize,
}

impl Campaign<'_> {
    fn start_server(&self) -> Server {
        Server::start_with(&self.settings)
    }

    fn worker(&self, url: &str) -> Worker {
        Worker::start(url, &program(self.starts), &["--concurrency", "2"])
    }

    /// Appends jobs as any client of the protocol would, and again if the answer is lost.
    fn enqueue(&mut self, server: &Server) {
        for _ in 0..JOBS_A_ROUND {
            let job = json!({ "payload": { "number": self.jobs }, "id": format!("job-{}", self.jobs) });
            let request = Request::new("POST", &server.path(QUEUE))
                .header("Content-Type", "application/json")
                .header("Producer-Id", "campaign")
                .header("Producer-Epoch", "0")
                .header("Producer-Seq", &self.jobs.to_string())
                .body(job.to_string());
            let answer = server.send(&request);
            assert!(
                matches!(answer.status(), 200 | 204),
                "{}: {}",
                self.mode,
                answer.text()
            );
            self.jobs += 1;
        }
    }

    fn runs(&self) -> impl Iterator<Item = String> {
        (0..self.jobs).map(|number| format!("runs/{QUEUE}/job-{number}"))
    }

    fn judge(&self, server: &Server) {
        let mut leased = BTreeSet::new();
        for run in self.runs() {
            let events = events(server, &run);
            let told = oracle::judge(&run, &events, LINES);
            assert_eq!(told.end, "run.succeeded", "{}: {run}", self.mode);
            let head = server.send(&Request::new("HEAD", &server.path(&run))).expect(200);
            assert_eq!(head.header("stream-closed"), Some("true"), "{}: {run}", self.mode);
            leased.extend(told.epochs.into_iter().map(|epoch| format!("{run} {epoch}")));
        }
        let starts = fs::read_to_string(self.starts).expect("something has begun");
        let mut begun = BTreeSet::new();
        for start in starts.lines() {
            assert!(
                begun.insert(start.to_owned()),
                "{}: {start} began twice",
                self.mode
            );
            assert!(
                leased.contains(start),
                "{}: {start} began without a lease",
                self.mode
            );
        }
        let stats = stats(server);
        for (gauge, value) in [
            ("ready", 0),
            ("leased", 0),
            ("scheduled", 0),
            ("retrying", 0),
            ("dead", 0),
        ] {
            assert_eq!(stats[gauge], value, "{}: {gauge} in {stats}", self.mode);
        }
        assert_eq!(stats["totals"]["succeeded"], self.jobs, "{}: {stats}", self.mode);
    }
}

fn campaign(mode: &str) {
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |text| text.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir
        .path()
        .join("streams")
        .to_str()
        .expect("a plain path")
        .to_owned();
    let starts = dir.path().join("starts");
    let first = Server::start_with(&[("DS_STORAGE__MODE", mode), ("DS_STORAGE__DATA_DIR", &data)]);
    // Workers find it again where it was.
    let address = first.address().to_string();
    let mut campaign = Campaign {
        mode,
        settings: vec![
            ("DS_STORAGE__MODE", mode),
            ("DS_STORAGE__DATA_DIR", &data),
            ("DS_SERVER__BIND_ADDRESS", &address),
        ],
        starts: &starts,
        workers: Vec::new(),
        jobs: 0,
    };
    make_queue(&first);
    let url = super::scene::url(&first);
    campaign.workers = (0..WORKERS).map(|_| campaign.worker(&url)).collect();
    let mut server = first;
    for round in 0..rounds {
        campaign.enqueue(&server);
        std::thread::sleep(Duration::from_millis(fastrand::u64(20..200)));
        // Its programs go on, and write into pipes that nobody reads.
        let victim = fastrand::usize(..WORKERS);
        campaign.workers[victim].signal(Signal::KILL);
        campaign.workers[victim] = campaign.worker(&url);
        if mode != "memory" && round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(fastrand::u64(..100)));
            server.kill();
            server = campaign.start_server();
        }
    }
    eventually(&format!("{mode}: every job is done"), || {
        (stats(&server)["totals"]["succeeded"].as_u64() >= Some(campaign.jobs as u64)).then_some(())
    });
    campaign.judge(&server);
    let dead = send(&server, "GET", &format!("queues/{QUEUE}/dead"), &Value::Null)
        .expect(200)
        .json();
    assert_eq!(dead["dead"], json!([]), "{mode}");
    for worker in &mut campaign.workers {
        worker.signal(Signal::TERM);
        assert!(
            worker.ends().success(),
            "{mode}: a worker that is asked to stop does so"
        );
    }
    server.stop();
}

#[test]
fn killed_workers_lose_no_job_in_memory() {
    campaign("memory");
}

#[test]
fn killed_workers_and_servers_lose_no_job_in_file_durable() {
    campaign("file-durable");
}

#[test]
fn killed_workers_and_servers_lose_no_job_in_file_fast() {
    campaign("file-fast");
}

#[test]
fn killed_workers_and_servers_lose_no_job_in_acid() {
    campaign("acid");
}
