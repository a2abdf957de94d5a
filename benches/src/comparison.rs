//! Runs every scenario on every server in turn, round after round, so that the runs of one round are
//! as near to each other in time as they can be.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use crate::arguments::Setup;
use crate::contender::Contender;
use crate::process::Process;
use crate::report::{Report, figure};
use crate::scenario::{Outcome, Pace, Scenario};

/// From this share of its core on, the generator sets the pace and not the server.
const CLIENT_BUSY_MAX: f64 = 0.95;

/// What to compare.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The subject, then its peers.
    pub(crate) contenders: Vec<Contender>,
    pub(crate) scenarios: Vec<(Scenario, Pace)>,
    pub(crate) rounds: u32,
}

/// Compares, and prints the table. A scenario that fails on any server has no figures; the others go
/// on, and the failure is the result.
pub(crate) fn run(plan: &Plan, setup: &Setup) -> Result<()> {
    let mut report = Report::new(plan.contenders.iter().map(Contender::label).collect());
    let mut failed = 0;
    for (scenario, pace) in &plan.scenarios {
        match run_scenario(scenario, pace, plan, setup) {
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
    let subject = setup.subject();
    let outcome = run_on(&subject, scenario, &setup.pace(scenario, false), setup)?;
    println!("{}: {}", scenario.title(), describe(&subject.label(), &outcome));
    Ok(())
}

/// By round, then by contender; none for one that cannot bear the load.
fn run_scenario(
    scenario: &Scenario,
    pace: &Pace,
    plan: &Plan,
    setup: &Setup,
) -> Result<Vec<Vec<Option<Outcome>>>> {
    let mut rounds = Vec::new();
    for round in 1..=plan.rounds {
        let mut outcomes = Vec::new();
        for contender in &plan.contenders {
            if !scenario.is_possible_on(contender.server, contender.durability) {
                outcomes.push(None);
                continue;
            }
            let outcome = run_on(contender, scenario, pace, setup)?;
            eprintln!(
                "{} [{round}/{}] {}",
                scenario.title(),
                plan.rounds,
                describe(&contender.label(), &outcome)
            );
            outcomes.push(Some(outcome));
        }
        rounds.push(outcomes);
    }
    Ok(rounds)
}

/// Starts a server for this run only, so that no run inherits another's memory or files.
pub(crate) fn run_on(
    contender: &Contender,
    scenario: &Scenario,
    pace: &Pace,
    setup: &Setup,
) -> Result<Outcome> {
    if !contender.server.has(contender.durability) {
        bail!("{} has no mode of that durability", contender.server.name);
    }
    let mut process = Process::start(contender, &scenario.needs(contender.durability), setup)?;
    scenario
        .run(&mut process, pace)
        .with_context(|| format!("on {}, whose log is {:?}", contender.label(), process.log()))
}

pub(crate) fn describe(label: &str, outcome: &Outcome) -> String {
    let mut line = label.to_owned();
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
