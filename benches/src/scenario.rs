//! The kinds of load, and the shape of what they report.

use std::time::Duration;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use crate::append::Append;
use crate::catch_up::CatchUp;
use crate::claim_wait::ClaimWait;
use crate::contender::Setting;
use crate::fan_out::FanOut;
use crate::idle::Idle;
use crate::job_cycles::JobCycles;
use crate::overload::Overload;
use crate::process::Process;
use crate::servers::{Durability, Server};
use crate::small_read::SmallRead;
use crate::streams::Streams;
use crate::subscriptions::Subscriptions;
use crate::usage::Spent;

/// One kind of load with its parameters.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Scenario {
    /// Appends of small records, each connection with one outstanding.
    Append(Append),
    /// Reads of a stream with one small record, each connection with one outstanding.
    Read(SmallRead),
    /// Reads of large streams from their start to their tail, over and over.
    CatchUp(CatchUp),
    /// Records appended at a fixed rate to one stream with many SSE subscribers.
    FanOut(FanOut),
    /// SSE subscribers of a stream in which nothing happens.
    Idle(Idle),
    /// Very many streams with one record each: what it takes to have them, and to start with them.
    Streams(Streams),
    /// Appends alone, then beside many readers that never pause.
    Overload(Overload),
    /// Appends without and beside very many subscriptions, and webhooks to one receiver.
    Subscriptions(Subscriptions),
    /// Workers that each enqueue a job, claim one and complete it.
    Jobs(JobCycles),
    /// Jobs that are enqueued into an idle queue for a worker who waits.
    ClaimWait(ClaimWait),
}

/// The kinds of load by name, as `--modes` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Append,
    Read,
    FanOut,
    Idle,
    CatchUp,
    Streams,
}

/// How long the closed loops warm up and measure.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    pub(crate) warm_up_ms: u64,
    pub(crate) window_ms: u64,
}

impl Pace {
    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_millis(self.warm_up_ms)
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }
}

/// Which way a figure should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One measured figure.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// What was measured, with its unit.
    pub(crate) measure: &'static str,
    pub(crate) better: Better,
    pub(crate) value: f64,
}

impl Reading {
    pub(crate) fn higher_is_better(measure: &'static str, value: f64) -> Self {
        Self {
            measure,
            better: Better::Higher,
            value,
        }
    }

    pub(crate) fn lower_is_better(measure: &'static str, value: f64) -> Self {
        Self {
            measure,
            better: Better::Lower,
            value,
        }
    }
}

/// What one run of a scenario found.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Always the same measures in the same order for the same scenario.
    pub(crate) readings: Vec<Reading>,
    /// Time, and what server and generator used in it.
    pub(crate) spent: Spent,
}

impl Scenario {
    /// Runs once against a server that nobody else uses.
    pub(crate) fn run(&self, process: &mut Process, pace: &Pace) -> Result<Outcome> {
        match self {
            Self::Append(append) => append.run(process, pace),
            Self::Read(read) => read.run(process.target(), pace),
            Self::CatchUp(catch_up) => catch_up.run(process, pace),
            Self::FanOut(fan_out) => fan_out.run(process.target()),
            Self::Idle(idle) => idle.run(process.target(), pace),
            Self::Streams(streams) => streams.run(process),
            Self::Overload(overload) => overload.run(process, pace),
            Self::Subscriptions(subscriptions) => subscriptions.run(process, pace),
            Self::Jobs(cycles) => cycles.run(process, pace),
            Self::ClaimWait(wait) => wait.run(process),
        }
    }

    /// Names the load in the report.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Append(append) => append.title(),
            Self::Read(read) => format!("small read, {} connections", read.connections),
            Self::CatchUp(catch_up) => catch_up.title(),
            Self::FanOut(fan_out) => format!("fan-out to {}", fan_out.subscribers),
            Self::Idle(idle) => format!("{} idle subscribers", idle.subscribers),
            Self::Streams(streams) => format!("{} streams", streams.streams),
            Self::Overload(overload) => overload.title(),
            Self::Subscriptions(subscriptions) => subscriptions.title(),
            Self::Jobs(cycles) => cycles.title(),
            Self::ClaimWait(wait) => format!("{} jobs, one at a time", wait.jobs),
        }
    }

    /// Settings of Tailwater without which this load would measure something else.
    pub(crate) fn needs(&self, durability: Durability) -> Vec<Setting> {
        match self {
            Self::Subscriptions(subscriptions) => subscriptions.needs(),
            _ if durability == Durability::Memory => Vec::new(),
            Self::Append(append) => append.needs(),
            Self::CatchUp(catch_up) => catch_up.needs(),
            Self::Read(_)
            | Self::FanOut(_)
            | Self::Idle(_)
            | Self::Streams(_)
            | Self::Overload(_)
            | Self::Jobs(_)
            | Self::ClaimWait(_) => Vec::new(),
        }
    }

    /// Whether a server can hold the streams of this load.
    pub(crate) fn is_possible_on(&self, server: &Server, durability: Durability) -> bool {
        let streams = match self {
            Self::Append(append) => append.stream_count(),
            Self::Streams(streams) => usize::try_from(streams.streams).unwrap_or(usize::MAX),
            Self::Subscriptions(subscriptions) => {
                usize::try_from(subscriptions.idle_streams).unwrap_or(usize::MAX)
            }
            Self::Read(_)
            | Self::CatchUp(_)
            | Self::FanOut(_)
            | Self::Idle(_)
            | Self::Overload(_)
            | Self::Jobs(_)
            | Self::ClaimWait(_) => 0,
        };
        // In shards no server has a file for each stream.
        let streams_max = server.streams_max.filter(|_| durability != Durability::Acid);
        streams_max.is_none_or(|streams_max| streams <= streams_max)
    }

    /// Whether what a server does later belongs to the cost of this load, so that it must be measured for long.
    pub(crate) fn has_aftermath(&self, durability: Durability) -> bool {
        durability != Durability::Memory && matches!(self, Self::Append(_) | Self::Jobs(_))
    }
}
