//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::append::Append;
use crate::catch_up::CatchUp;
use crate::comparison::Plan;
use crate::fan_out::FanOut;
use crate::idle::Idle;
use crate::scenario::{Mode, Pace, Scenario};
use crate::servers::{SERVERS, Server};
use crate::small_read::SmallRead;

/// Puts load on durable-stream servers and compares them.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) setup: Setup,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compare the subject with its peers in all scenarios and print a table.
    Peers(Peers),
    #[command(flatten)]
    One(Scenario),
}

/// What is the same for all scenarios.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// The server under test.
    #[arg(long, global = true, default_value = "tailwater", value_parser = Server::by_name)]
    pub(crate) subject: &'static Server,
    /// Run this binary for a server, as NAME=PATH; may be repeated.
    #[arg(long, global = true, value_parser = parse_binary)]
    binary: Vec<(&'static str, PathBuf)>,
    /// The core that servers run on.
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// The core that the generator runs on.
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) client_core: usize,
    /// Milliseconds of load before measuring starts [default: 1000, with --quick 300].
    #[arg(long, global = true)]
    warm_up_ms: Option<u64>,
    /// Milliseconds that are measured [default: 3000, with --quick 1000].
    #[arg(long, global = true)]
    window_ms: Option<u64>,
}

impl Setup {
    /// The binary to run for a server.
    pub(crate) fn binary(&self, server: &Server) -> PathBuf {
        let given = self.binary.iter().find(|(name, _)| *name == server.name);
        given.map_or_else(|| server.default_binary(), |(_, path)| path.clone())
    }

    pub(crate) fn pace(&self, quick: bool) -> Pace {
        let (warm_up_ms, window_ms) = if quick { (300, 1_000) } else { (1_000, 3_000) };
        Pace {
            warm_up_ms: self.warm_up_ms.unwrap_or(warm_up_ms),
            window_ms: self.window_ms.unwrap_or(window_ms),
        }
    }
}

/// Which comparison to make.
#[derive(Debug, Args)]
pub(crate) struct Peers {
    /// Compare with this server; may be repeated. All others unless given.
    #[arg(long = "peer", value_parser = Server::by_name)]
    peers: Vec<&'static Server>,
    /// Only these kinds of load, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    modes: Vec<Mode>,
    /// Rounds in which every server runs once [default: 5, with --quick 2].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: Option<u32>,
    /// Short and small: shows that everything works, not who is faster.
    #[arg(long)]
    quick: bool,
}

impl Peers {
    pub(crate) fn plan(&self, setup: &Setup) -> Plan {
        let others = SERVERS.iter().filter(|server| server.name != setup.subject.name);
        let peers = if self.peers.is_empty() {
            others.collect()
        } else {
            self.peers.clone()
        };
        let scenarios = scenarios(self.quick)
            .into_iter()
            .filter(|(mode, _)| self.modes.is_empty() || self.modes.contains(mode));
        Plan {
            servers: std::iter::once(setup.subject).chain(peers).collect(),
            scenarios: scenarios.map(|(_, scenario)| scenario).collect(),
            rounds: self.pairs.unwrap_or(if self.quick { 2 } else { 5 }),
            pace: setup.pace(self.quick),
        }
    }
}

/// All that a comparison measures, in the order of its table.
fn scenarios(quick: bool) -> Vec<(Mode, Scenario)> {
    let append = |connections| {
        Scenario::Append(Append {
            connections,
            streams: None,
            record_bytes: 256,
        })
    };
    let (records, idle_subscribers, stream_mib) = if quick { (20, 1_000, 16) } else { (100, 5_000, 64) };
    vec![
        (Mode::Append, append(64)),
        (Mode::Append, append(256)),
        (
            Mode::Read,
            Scenario::Read(SmallRead {
                connections: 64,
                record_bytes: 256,
            }),
        ),
        (
            Mode::FanOut,
            Scenario::FanOut(FanOut {
                subscribers: 1_000,
                rate: 20,
                records,
                record_bytes: 256,
            }),
        ),
        (
            Mode::Idle,
            Scenario::Idle(Idle {
                subscribers: idle_subscribers,
            }),
        ),
        (
            Mode::CatchUp,
            Scenario::CatchUp(CatchUp {
                connections: 16,
                streams: 4,
                stream_mib,
            }),
        ),
    ]
}

fn parse_binary(argument: &str) -> Result<(&'static str, PathBuf), String> {
    let (name, path) = argument.split_once('=').ok_or("expected NAME=PATH")?;
    Ok((Server::by_name(name)?.name, path.into()))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, Command};
    use crate::comparison::Plan;

    fn plan(arguments: &[&str]) -> Plan {
        let arguments = Arguments::parse_from([&["loadgen", "peers"], arguments].concat());
        let Command::Peers(peers) = &arguments.command else {
            panic!("the command was peers")
        };
        peers.plan(&arguments.setup)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_subject_is_compared_with_all_others_in_five_rounds() {
        let plan = plan(&[]);
        let names: Vec<&str> = plan.servers.iter().map(|server| server.name).collect();
        assert_eq!(names, ["tailwater", "durable-streams", "durable-streams-server"]);
        assert_eq!((plan.rounds, plan.scenarios.len()), (5, 6));
    }

    #[test]
    fn subject_peer_modes_and_pairs_can_be_chosen() {
        let plan = plan(&[
            "--subject=durable-streams",
            "--peer=tailwater",
            "--modes=append,idle",
            "--pairs=7",
            "--quick",
        ]);
        let names: Vec<&str> = plan.servers.iter().map(|server| server.name).collect();
        assert_eq!(names, ["durable-streams", "tailwater"]);
        let titles: Vec<String> = plan
            .scenarios
            .iter()
            .map(crate::scenario::Scenario::title)
            .collect();
        assert_eq!(
            titles,
            [
                "append, 64 connections",
                "append, 256 connections",
                "1000 idle subscribers"
            ]
        );
        assert_eq!((plan.rounds, plan.pace.window_ms), (7, 1_000));
    }
}
