//! Runs every scenario on every server in turn, round after round, so that the runs of one round are
//! as near to each other in time as they can be.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use crate::arguments::Setup;
use crate::process::Process;
use crate::report::{Report, figure};
use crate::scenario::{Outcome, Pace, Scenario};
use crate::servers::Server;

/// From this share of its core on, the generator sets the pace and not the server.
const CLIENT_BUSY_MAX: f64 = 0.95;

/// What to compare.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The subject, then its peers.
    pub(crate) servers: Vec<&'static Server>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) rounds: u32,
    pub(crate) pace: Pace,
}

/// Compares, and prints the table. A scenario that fails on any server has no figures; the others go
/// on, and the failure is the result.
pub(crate) fn run(plan: &Plan, setup: &Setup) -> Result<()> {
    let mut report = Report::new(&plan.servers);
    let mut failed = 0;
    for scenario in &plan.scenarios {
        match run_scenario(scenario, plan, setup) {
            Ok(rounds) => report.add(&scenario.title(), &rounds),
            Err(error) => {
                eprintln!("FAILED: {}: {error:#}", scenario.title());
                report.add_failure(&scenario.title());
                failed += 1;
            }
        }
    }
    println!("{report}");
    match failed {
        0 => Ok(()),
        failed => bail!("{failed} of {} scenarios failed", plan.scenarios.len()),
    }
}

/// Runs one scenario once on the subject.
pub(crate) fn run_one(scenario: &Scenario, setup: &Setup) -> Result<()> {
    let outcome = run_on(setup.subject, scenario, &setup.pace(false), setup)?;
    println!("{}: {}", scenario.title(), describe(setup.subject, &outcome));
    Ok(())
}

/// By round, then by server.
fn run_scenario(scenario: &Scenario, plan: &Plan, setup: &Setup) -> Result<Vec<Vec<Outcome>>> {
    let mut rounds = Vec::new();
    for round in 1..=plan.rounds {
        let mut outcomes = Vec::new();
        for server in &plan.servers {
            let outcome = run_on(server, scenario, &plan.pace, setup)?;
            eprintln!(
                "{} [{round}/{}] {}",
                scenario.title(),
                plan.rounds,
                describe(server, &outcome)
            );
            outcomes.push(outcome);
        }
        rounds.push(outcomes);
    }
    Ok(rounds)
}

/// Starts a server for this run only, so that no run inherits another's memory or files.
fn run_on(server: &Server, scenario: &Scenario, pace: &Pace, setup: &Setup) -> Result<Outcome> {
    let process = Process::start(server, setup)?;
    scenario
        .run(process.target(), pace)
        .with_context(|| format!("on {}, whose log is {:?}", server.name, process.log()))
}

fn describe(server: &Server, outcome: &Outcome) -> String {
    let mut line = server.name.to_owned();
    for reading in &outcome.readings {
        let _ = write!(line, " | {} {}", reading.measure, figure(reading.value));
    }
    let (server_busy, client_busy) = (outcome.spent.server_busy(), outcome.spent.client_busy());
    let _ = write!(
        line,
        " | server {:.0}% busy, generator {:.0}%",
        server_busy * 100.0,
        client_busy * 100.0
    );
    if client_busy > CLIENT_BUSY_MAX {
        line.push_str(": it sets the pace, so rates are too low");
    }
    line
}
