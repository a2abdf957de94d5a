//! Subscriptions: what very many of them, and very many streams under a pattern of one, leave of the appends' rate and take
//! of memory; and how fast webhooks are delivered to one receiver.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::append::Append;
use crate::closed_loop::Window;
use crate::contender::Setting;
use crate::errands;
use crate::process::Process;
use crate::request::{BINARY, JSON, Target};
use crate::scenario::{Outcome, Pace, Reading};
use crate::statistics::{Spread, to_f64};
use crate::usage::{Meter, resident_kib};

/// Streams and subscriptions are made and deleted by so many connections.
const MAKERS: usize = 64;
/// Wakes that are not delivered for so long will never be.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// The webhooks' answer: all that the receiver was told of is processed.
const DONE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\n{\"done\":true}";

/// Nobody subscribes to the streams that are appended to. One subscription has a pattern over all idle streams; half of the
/// others name a stream each, and half have a pattern each.
#[derive(Debug, Clone, Args)]
pub(crate) struct Subscriptions {
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Subscriptions while which is appended, at least 1.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) subscriptions: u64,
    /// Idle streams under one pattern.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) idle_streams: u64,
    /// How often is appended without subscriptions and beside them, in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) turns: u32,
    /// Subscriptions that are woken by webhooks to one receiver.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) webhooks: u64,
    /// How often each of them is woken.
    #[arg(long, default_value_t = 5)]
    pub(crate) wakes: u64,
}

/// What was measured of appends and memory.
#[derive(Default)]
struct Measured {
    alone: Vec<f64>,
    beside: Vec<f64>,
    pattern_kib: f64,
    others_kib: f64,
}

impl Subscriptions {
    pub(crate) fn run(&self, process: &Process, pace: &Pace) -> Result<Outcome> {
        let target = process.target();
        let append = Append {
            connections: self.connections,
            streams: None,
            record_bytes: 256,
            producers: false,
        };
        append.create_streams(target)?;
        let idle_streams = self.idle_streams;
        errands::run(target, MAKERS, idle_streams, |index| {
            target.create(&format!("idle/{index}"), BINARY)
        })?;
        errands::run(target, 1, 1, |_| target.create("wakes", JSON))?;
        let mut measured = Measured::default();
        let mut spent = None;
        for turn in 0..self.turns {
            let alone = append.measure(target, pace)?;
            let before = resident_kib(target.pid)?;
            self.make(target, 0..1)?;
            let with_pattern = resident_kib(target.pid)?;
            self.make(target, 1..self.subscriptions)?;
            // What a first turn has taken is used again by the next ones.
            if turn == 0 {
                measured.pattern_kib = to_f64(with_pattern) - to_f64(before);
                measured.others_kib = to_f64(resident_kib(target.pid)?) - to_f64(with_pattern);
            }
            let beside = append.measure(target, pace)?;
            self.delete_all(target)?;
            measured.alone.push(rate(&alone));
            measured.beside.push(rate(&beside));
            spent = Some(beside.spent);
        }
        let deliveries = self.deliver(target)?;
        Ok(Outcome {
            readings: self.report(&measured, deliveries)?,
            spent: spent.context("nothing was measured")?,
        })
    }

    /// Also in a report.
    pub(crate) fn title(&self) -> String {
        format!(
            "{} subscriptions, {} idle streams, {} webhooks",
            self.subscriptions, self.idle_streams, self.webhooks
        )
    }

    /// Webhooks to this machine, and as many subscriptions as are made.
    pub(crate) fn needs(&self) -> Vec<Setting> {
        let most = self.subscriptions.max(self.webhooks);
        vec![
            (
                "DS_SUBSCRIPTIONS__ALLOW_HTTP_LOCALHOST".to_owned(),
                "true".to_owned(),
            ),
            ("DS_SUBSCRIPTIONS__MAX_SUBSCRIPTIONS".to_owned(), most.to_string()),
        ]
    }

    fn make(&self, target: &Target, numbers: std::ops::Range<u64>) -> Result<()> {
        let count = numbers.end - numbers.start;
        errands::run(target, MAKERS, count, |index| {
            let number = numbers.start + index;
            let wanted = match number {
                0 => r#""pattern":"idle/*""#.to_owned(),
                odd if odd % 2 == 1 => format!(r#""streams":["named-{number}"]"#),
                _ => format!(r#""pattern":"tenant-{number}/**""#),
            };
            let body = format!(r#"{{"type":"pull-wake","wake_stream":"wakes",{wanted}}}"#);
            target.subscription("PUT", number, &body)
        })?;
        Ok(())
    }

    fn delete_all(&self, target: &Target) -> Result<()> {
        errands::run(target, MAKERS, self.subscriptions, |number| {
            target.subscription("DELETE", number, "")
        })?;
        Ok(())
    }

    /// Appends to the stream of each webhook, and waits until all wakes are delivered, so often. Answers deliveries in a
    /// second; none if there are no webhooks.
    fn deliver(&self, target: &Target) -> Result<Option<f64>> {
        if self.webhooks == 0 || self.wakes == 0 {
            return Ok(None);
        }
        let receiver = Receiver::start()?;
        errands::run(target, MAKERS, self.webhooks, |number| {
            target.create(&format!("delivered-{number}"), BINARY)
        })?;
        errands::run(target, MAKERS, self.webhooks, |number| {
            let body = format!(
                r#"{{"type":"webhook","streams":["delivered-{number}"],"webhook":{{"url":"{}"}}}}"#,
                receiver.url
            );
            target.subscription("PUT", number, &body)
        })?;
        let meter = Meter::start(target.pid, None)?;
        for wake in 1..=self.wakes {
            errands::run(target, MAKERS, self.webhooks, |number| {
                target.append(&format!("delivered-{number}"), BINARY, b"one record")
            })?;
            receiver.wait_for(wake * self.webhooks)?;
        }
        let elapsed = meter.stop()?.elapsed.as_secs_f64();
        Ok(Some(to_f64(self.webhooks * self.wakes) / elapsed))
    }

    fn report(&self, measured: &Measured, deliveries: Option<f64>) -> Result<Vec<Reading>> {
        let median = |values: &[f64]| Spread::of(values).map(|spread| spread.median);
        let left = Spread::of_ratios(&measured.beside, &measured.alone).map(|spread| spread.median);
        let turns = "each turn has a rate";
        let mut readings = vec![
            Reading::higher_is_better(
                "append/s without subscriptions",
                median(&measured.alone).context(turns)?,
            ),
            Reading::higher_is_better("append/s beside them", median(&measured.beside).context(turns)?),
            Reading::higher_is_better("share of the rate that is left", left.context(turns)?),
            Reading::lower_is_better(
                "MiB for the pattern over idle streams",
                measured.pattern_kib / 1024.0,
            ),
        ];
        if self.subscriptions > 1 {
            let others = to_f64(self.subscriptions - 1);
            readings.push(Reading::lower_is_better(
                "KiB for each other subscription",
                measured.others_kib / others,
            ));
        }
        readings.extend(deliveries.map(|rate| Reading::higher_is_better("webhooks/s", rate)));
        Ok(readings)
    }
}

fn rate(window: &Window) -> f64 {
    to_f64(window.tally.operations) / window.spent.elapsed.as_secs_f64()
}

/// A receiver of webhooks that is done with each at once, one after the other.
struct Receiver {
    url: String,
    delivered: Arc<AtomicU64>,
}

impl Receiver {
    /// Listens until the process ends, on a thread of its own, which stays on this one's core.
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no receiver")?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let delivered = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&delivered);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                // One that breaks off is tried again, and the others are not to wait for it.
                if connection.is_ok_and(|mut connection| serve(&mut connection).is_ok()) {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Ok(Self { url, delivered })
    }

    fn wait_for(&self, count: u64) -> Result<()> {
        let began = Instant::now();
        loop {
            let delivered = self.delivered.load(Ordering::SeqCst);
            if delivered >= count {
                return Ok(());
            }
            ensure!(
                began.elapsed() < DELIVERY_TIMEOUT,
                "{delivered} of {count} webhooks were delivered"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reads a request with its body, and answers.
fn serve(connection: &mut TcpStream) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !is_whole(&request) {
        let count = connection.read(&mut piece)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&piece[..count]);
    }
    connection.write_all(DONE)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn a_request_is_whole_with_its_body() {
        assert!(!is_whole(b"POST /hook HTTP/1.1\r\ncontent-length: 3\r\n"));
        assert!(!is_whole(b"POST /hook HTTP/1.1\r\ncontent-length: 3\r\n\r\nab"));
        assert!(is_whole(b"POST /hook HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"));
    }
}
