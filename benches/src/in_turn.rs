//! Appends of two kinds, each to a server of its own that stands still while it is the other's turn. A machine whose speed
//! changes by the minute says nothing of what two long runs differ by; of many short ones, turn about, the ratios do.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::append::Append;
use crate::arguments::Setup;
use crate::comparison::describe;
use crate::contender::{Contender, Setting};
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
    let sides = in_turn.sides(setup)?;
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
    /// Both have the memory of the one that needs more, so that they differ in nothing but what is said.
    fn sides(&self, setup: &Setup) -> Result<[Side; 2]> {
        let (subject, append) = (setup.subject(), self.append.clone());
        let other_append = Append {
            streams: self.other_streams.or(append.streams),
            producers: append.producers || self.other_producers,
            ..append
        };
        let other = self
            .other_server
            .filter(|server| server.name != subject.server.name)
            .map_or_else(|| subject.clone(), |server| setup.peer(server));
        let needs = [&append, &other_append]
            .into_iter()
            .max_by_key(|append| append.stream_count())
            .map(|append| Scenario::Append(append.clone()).needs(subject.durability))
            .unwrap_or_default();
        let (other_setup, build) = match &self.other_binary {
            Some(binary) => {
                let build = format!(" ({})", binary.display());
                (&setup.with_binary(other.server, binary.clone()), build)
            }
            None => (setup, String::new()),
        };
        let label = |contender: &Contender, build: &str, append: &Append| {
            format!("{}{build}, {}", contender.label(), append.title())
        };
        Ok([
            Side::begin(label(&subject, "", &append), append, &subject, &needs, setup)?,
            Side::begin(
                label(&other, &build, &other_append),
                other_append,
                &other,
                &needs,
                other_setup,
            )?,
        ])
    }
}

/// A server with its streams, and what is done to it.
struct Side {
    label: String,
    append: Append,
    process: Process,
}

impl Side {
    fn begin(
        label: String,
        append: Append,
        contender: &Contender,
        needs: &[Setting],
        setup: &Setup,
    ) -> Result<Self> {
        let Contender {
            server, durability, ..
        } = *contender;
        let scenario = Scenario::Append(append.clone());
        ensure!(
            server.has(durability),
            "{} has no mode of that durability",
            server.name
        );
        ensure!(
            scenario.is_possible_on(server, durability),
            "{} cannot hold so many streams: give its side fewer",
            server.name
        );
        let process = Process::start(contender, needs, setup)?;
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
