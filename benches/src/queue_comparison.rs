//! Job cycles on the subject and in PostgreSQL, in turn, on the same machine and disk.

use anyhow::{Context, Result};
use clap::Args;

use crate::arguments::Setup;
use crate::comparison::{describe, run_on};
use crate::job_cycles::JobCycles;
use crate::postgres_queue;
use crate::report::Report;
use crate::scenario::Scenario;

const POSTGRES: &str = "PostgreSQL, SKIP LOCKED";

/// Which cycles, and how often.
#[derive(Debug, Args)]
pub(crate) struct QueueComparison {
    /// Rounds in which each side runs once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    #[command(flatten)]
    cycles: JobCycles,
}

/// Compares, and prints the table.
pub(crate) fn run(comparison: &QueueComparison, setup: &Setup) -> Result<()> {
    let scenario = Scenario::Jobs(comparison.cycles.clone());
    let pace = setup.pace(&scenario, false);
    let subject = setup.subject();
    let title = scenario.title();
    let mut report = Report::new(vec![subject.label(), POSTGRES.to_owned()]);
    let mut rounds = Vec::new();
    for round in 1..=comparison.pairs {
        let ours = run_on(&subject, &scenario, &pace, setup)?;
        eprintln!(
            "{title} [{round}/{}] {}",
            comparison.pairs,
            describe(&subject.label(), &ours)
        );
        let theirs = postgres_queue::run(&comparison.cycles, &pace, setup).context("in PostgreSQL")?;
        eprintln!(
            "{title} [{round}/{}] {}",
            comparison.pairs,
            describe(POSTGRES, &theirs)
        );
        rounds.push(vec![Some(ours), Some(theirs)]);
    }
    report.add(&title, &rounds);
    println!("{report}");
    Ok(())
}
