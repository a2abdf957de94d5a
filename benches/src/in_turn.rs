//! Appends of two kinds, each to a server of its own that stands still while it is the other's turn. A machine whose speed
//! changes by the minute says nothing of what two long runs differ by; of many short ones, turn about, the ratios do.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::append::Append;
use crate::arguments::Setup;
use crate::comparison::describe;
use crate::contender::Contender;
use crate::process::Process;
use crate::report::Report;
use crate::scenario::{Outcome, Pace, Scenario};
use crate::servers::Server;

/// Before its first turn a server gets load for so long, so that it compacts as it will later.
const FIRST_WARM_UP_MS: u64 = 10_000;
const WARM_UP_MS: u64 = 500;
const WINDOW_MS: u64 = 2_500;

/// The first side is the subject; the other one is it as well, but for what is said.
#[derive(Debug, Args)]
pub(crate) struct InTurn {
    /// How many turns each side has.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    #[command(flatten)]
    append: Append,
    /// Streams that the other side appends to.
    #[arg(long)]
    other_streams: Option<usize>,
    /// The other side appends as idempotent producers.
    #[arg(long)]
    other_producers: bool,
    /// The other side is this server.
    #[arg(long, value_parser = Server::by_name)]
    other_server: Option<&'static Server>,
    /// The other side runs this binary.
    #[arg(long)]
    other_binary: Option<PathBuf>,
}

/// Compares, and prints the table.
pub(crate) fn run(in_turn: &InTurn, setup: &Setup) -> Result<()> {
    let sides = [
        Side::begin(in_turn.append.clone(), &setup.subject(), setup)?,
        in_turn.other_side(setup)?,
    ];
    let pace = setup.pace_unless_told(WARM_UP_MS, WINDOW_MS);
    let mut report = Report::new(sides.iter().map(|side| side.label.clone()).collect());
    let mut rounds = Vec::new();
    for round in 1..=in_turn.pairs {
        let mut outcomes = Vec::new();
        for side in &sides {
            let first = Pace {
                warm_up_ms: pace.warm_up_ms.max(FIRST_WARM_UP_MS),
                ..pace
            };
            let outcome = side.turn(round, if round == 1 { &first } else { &pace })?;
            eprintln!("[{round}/{}] {}", in_turn.pairs, describe(&side.label, &outcome));
            outcomes.push(Some(outcome));
        }
        rounds.push(outcomes);
    }
    report.add("in turn", &rounds);
    println!("{report}");
    Ok(())
}

impl InTurn {
    fn other_side(&self, setup: &Setup) -> Result<Side> {
        let append = Append {
            streams: self.other_streams.or(self.append.streams),
            producers: self.append.producers || self.other_producers,
            ..self.append
        };
        let contender = self
            .other_server
            .map_or_else(|| setup.subject(), |server| setup.peer(server));
        let setup = match &self.other_binary {
            Some(binary) => &setup.with_binary(contender.server, binary.clone()),
            None => setup,
        };
        Side::begin(append, &contender, setup)
    }
}

/// A server with its streams, and what is done to it.
struct Side {
    label: String,
    append: Append,
    process: Process,
}

impl Side {
    fn begin(append: Append, contender: &Contender, setup: &Setup) -> Result<Self> {
        let label = format!("{}, {}", contender.label(), append.title());
        let needs = Scenario::Append(append.clone()).needs(contender.durability);
        let process = Process::start(contender, &needs, setup)?;
        append.create_streams(process.target())?;
        process.stand_still()?;
        Ok(Self {
            label,
            append,
            process,
        })
    }

    fn turn(&self, round: u32, pace: &Pace) -> Result<Outcome> {
        self.process.go_on()?;
        let outcome = self.append.measure_round(&self.process, pace, round);
        self.process.stand_still()?;
        outcome.with_context(|| format!("on {}, whose log is {:?}", self.label, self.process.log()))
    }
}
