//! The kinds of load, and the shape of what they report.

use std::time::Duration;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use crate::append::Append;
use crate::catch_up::CatchUp;
use crate::fan_out::FanOut;
use crate::idle::Idle;
use crate::request::Target;
use crate::small_read::SmallRead;
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
}

/// The kinds of load by name, as `--modes` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Append,
    Read,
    FanOut,
    Idle,
    CatchUp,
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
    pub(crate) fn run(&self, target: &Target, pace: &Pace) -> Result<Outcome> {
        match self {
            Self::Append(append) => append.run(target, pace),
            Self::Read(read) => read.run(target, pace),
            Self::CatchUp(catch_up) => catch_up.run(target, pace),
            Self::FanOut(fan_out) => fan_out.run(target),
            Self::Idle(idle) => idle.run(target, pace),
        }
    }

    /// Names the load in the report.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Append(append) => format!("append, {} connections", append.connections),
            Self::Read(read) => format!("small read, {} connections", read.connections),
            Self::CatchUp(catch_up) => format!("catch-up, {} connections", catch_up.connections),
            Self::FanOut(fan_out) => format!("fan-out to {}", fan_out.subscribers),
            Self::Idle(idle) => format!("{} idle subscribers", idle.subscribers),
        }
    }
}
