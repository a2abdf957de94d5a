//! Connections that each have one request outstanding. What is asked and what a good answer is, a
//! [`Workload`] says.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::channels::{Channels, Handler};
use crate::connection::{Connection, Fault};
use crate::request::Target;
use crate::response::{Head, Piece};
use crate::scenario::Pace;
use crate::statistics::{nanos, new_latencies};
use crate::usage::{Meter, Spent};

/// What the connections of a closed loop do.
pub(crate) trait Workload {
    /// The next request of a connection.
    fn request(&mut self, connection: usize) -> &[u8];

    /// Takes note of a complete 2xx answer, and says what is wrong with it, if anything.
    fn answered(&mut self, connection: usize, head: &Head, body_bytes: u64) -> Result<(), String>;
}

/// What happened between the end of the warm-up and the end of the window.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) tally: Tally,
    pub(crate) spent: Spent,
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    /// Body bytes as they arrived, also of answers that were not complete when the window ended.
    pub(crate) body_bytes: u64,
    /// Nanoseconds from a request's first byte out to its answer's last byte in.
    pub(crate) latencies: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        Self {
            operations: 0,
            body_bytes: 0,
            latencies: new_latencies(),
        }
    }
}

/// Opens the connections, warms up, and measures one window.
pub(crate) fn run(
    target: &Target,
    connections: usize,
    workload: &mut impl Workload,
    pace: &Pace,
) -> Result<Window> {
    let mut channels = Channels::new()?;
    let mut ring = Ring {
        workload,
        outstanding: Vec::with_capacity(connections),
        tally: Tally::new(),
    };
    for index in 0..connections {
        channels.open(target.address)?;
        channels.send(index, ring.workload.request(index));
        ring.outstanding.push(Outstanding {
            sent_at: Instant::now(),
            body_bytes: 0,
        });
    }
    drive(&mut channels, &mut ring, pace.warm_up())?;
    ring.tally = Tally::new();
    let meter = Meter::start(target.pid, target.disk)?;
    drive(&mut channels, &mut ring, pace.window())?;
    let spent = meter.stop()?;
    channels.check()?;
    Ok(Window {
        tally: ring.tally,
        spent,
    })
}

fn drive(channels: &mut Channels, handler: &mut impl Handler, span: Duration) -> Result<()> {
    let deadline = Instant::now() + span;
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Ok(());
        }
        channels.poll(remaining, handler)?;
    }
}

/// Answers every answer with the connection's next request.
struct Ring<'w, W> {
    workload: &'w mut W,
    /// By connection.
    outstanding: Vec<Outstanding>,
    tally: Tally,
}

/// A request under way, and how much of its answer's body has arrived.
struct Outstanding {
    sent_at: Instant,
    body_bytes: u64,
}

impl<W: Workload> Handler for Ring<'_, W> {
    fn take(
        &mut self,
        index: usize,
        piece: &Piece<'_>,
        head: &Head,
        connection: &mut Connection,
    ) -> Result<(), Fault> {
        match piece {
            Piece::Head => Ok(()),
            Piece::Body(bytes) => {
                self.outstanding[index].body_bytes += bytes.len() as u64;
                self.tally.body_bytes += bytes.len() as u64;
                Ok(())
            }
            Piece::End => self.finish(index, head, connection),
        }
    }
}

impl<W: Workload> Ring<'_, W> {
    /// Counts an answer and sends the connection's next request.
    fn finish(&mut self, index: usize, head: &Head, connection: &mut Connection) -> Result<(), Fault> {
        let now = Instant::now();
        let finished = std::mem::replace(
            &mut self.outstanding[index],
            Outstanding {
                sent_at: now,
                body_bytes: 0,
            },
        );
        self.tally.operations += 1;
        self.tally
            .latencies
            .saturating_record(nanos(now - finished.sent_at));
        self.workload
            .answered(index, head, finished.body_bytes)
            .map_err(Fault::WrongAnswer)?;
        Ok(connection.send(self.workload.request(index))?)
    }
}

#[cfg(test)]
#[path = "closed_loop_tests.rs"]
mod tests;
