//! Idle subscribers: how much memory a server needs for each SSE connection on which nothing happens.

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::channels::{Channels, Handler};
use crate::client::Client;
use crate::connection::{Connection, Fault};
use crate::request::{TEXT, Target};
use crate::response::{Head, Piece};
use crate::scenario::{Outcome, Pace, Reading};
use crate::statistics::to_f64;
use crate::subscribers::{Audience, subscribe};
use crate::usage::{Meter, resident_kib};

const STREAM: &str = "idle";

/// So many subscribe first and do not count: what a server sets up once is not theirs.
const FIRST_SUBSCRIBERS: usize = 100;

/// All subscribe to one stream that has one record.
#[derive(Debug, Clone, Args)]
pub(crate) struct Idle {
    #[arg(long, default_value_t = 5_000)]
    pub(crate) subscribers: usize,
}

impl Idle {
    pub(crate) fn run(&self, target: &Target, pace: &Pace) -> Result<Outcome> {
        let mut client = Client::connect(target.address)?;
        client.create(target, STREAM, TEXT)?;
        client.append(target, STREAM, TEXT, b"a record")?;
        let mut channels = Channels::new()?;
        let mut sleepers = Sleepers { established: 0 };
        let meter = Meter::start(target.pid, None)?;

        subscribe(&mut channels, target, STREAM, FIRST_SUBSCRIBERS, &mut sleepers)?;
        hold(&mut channels, &mut sleepers, pace)?;
        let before_kib = resident_kib(target.pid)?;
        subscribe(&mut channels, target, STREAM, self.subscribers, &mut sleepers)?;
        hold(&mut channels, &mut sleepers, pace)?;
        let growth_kib = to_f64(resident_kib(target.pid)?) - to_f64(before_kib);

        let per_subscriber = growth_kib / to_f64(self.subscribers as u64);
        Ok(Outcome {
            readings: vec![Reading::lower_is_better("KiB per subscriber", per_subscriber)],
            spent: meter.stop()?,
        })
    }
}

/// Leaves the subscribers idle for as long as a warm-up, so that what served their arrival is given back.
fn hold(channels: &mut Channels, sleepers: &mut Sleepers, pace: &Pace) -> Result<()> {
    let deadline = Instant::now() + pace.warm_up();
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return channels.check();
        }
        channels.poll(remaining, sleepers)?;
    }
}

/// Subscribers that look at nothing they receive.
struct Sleepers {
    established: usize,
}

impl Handler for Sleepers {
    fn take(
        &mut self,
        _index: usize,
        piece: &Piece<'_>,
        _head: &Head,
        _connection: &mut Connection,
    ) -> Result<(), Fault> {
        match piece {
            Piece::Head => self.established += 1,
            Piece::Body(_) => {}
            Piece::End => return Err(Fault::Closed),
        }
        Ok(())
    }
}

impl Audience for Sleepers {
    fn established(&self) -> usize {
        self.established
    }
}
