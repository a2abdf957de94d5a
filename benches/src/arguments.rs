//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::append::Append;
use crate::catch_up::CatchUp;
use crate::comparison::Plan;
use crate::contender::{Contender, Setting, parse_setting};
use crate::fan_out::FanOut;
use crate::idle::Idle;
use crate::in_turn::InTurn;
use crate::queue_comparison::QueueComparison;
use crate::scenario::{Mode, Pace, Scenario};
use crate::servers::{Durability, SERVERS, Server};
use crate::small_read::SmallRead;
use crate::streams::Streams;

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
    /// Compare the subject with itself under other settings and print a table.
    Versus(Versus),
    /// Compare numbers of shards of the mode `acid`, with `file-durable` beside them, and print a table.
    Shards(Shards),
    /// Compare job cycles of the subject with those in a table of PostgreSQL and print a table.
    Queues(QueueComparison),
    /// Compare appends of two kinds in many short turns and print a table.
    InTurn(InTurn),
    #[command(flatten)]
    One(Scenario),
}

/// What is the same for all scenarios.
#[derive(Debug, Clone, Args)]
pub(crate) struct Setup {
    /// The server under test.
    #[arg(long, global = true, default_value = "tailwater", value_parser = Server::by_name)]
    subject: &'static Server,
    /// What an acknowledged append is to survive.
    #[arg(long, global = true, value_enum, default_value = "memory")]
    durability: Durability,
    /// A variable in the environment of the subject, as NAME=VALUE; may be repeated.
    #[arg(long = "set", global = true, value_parser = parse_setting)]
    settings: Vec<Setting>,
    /// Where servers' data directories are made, and removed afterwards [default: the system's for temporary
    /// files].
    #[arg(long, global = true)]
    data_root: Option<PathBuf>,
    /// Run this binary for a server, as NAME=PATH; may be repeated.
    #[arg(long, global = true, value_parser = parse_binary)]
    binary: Vec<(&'static str, PathBuf)>,
    /// The core that servers run on.
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// The core that the generator runs on.
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) client_core: usize,
    /// Milliseconds of load before measuring starts [default: 1000; 5000 for appends on disk; 300 with --quick].
    #[arg(long, global = true)]
    warm_up_ms: Option<u64>,
    /// Milliseconds that are measured [default: 3000; 60000 for appends on disk; 1000 with --quick].
    #[arg(long, global = true)]
    window_ms: Option<u64>,
}

impl Setup {
    /// The binary to run for a server.
    pub(crate) fn binary(&self, server: &Server) -> PathBuf {
        let given = self.binary.iter().find(|(name, _)| *name == server.name);
        given.map_or_else(|| server.default_binary(), |(_, path)| path.clone())
    }

    /// The same, with this binary to run for a server.
    pub(crate) fn with_binary(&self, server: &Server, binary: PathBuf) -> Self {
        let others = self
            .binary
            .iter()
            .filter(|(name, _)| *name != server.name)
            .cloned();
        Self {
            binary: others.chain([(server.name, binary)]).collect(),
            ..self.clone()
        }
    }

    pub(crate) fn data_root(&self) -> PathBuf {
        self.data_root.clone().unwrap_or_else(std::env::temp_dir)
    }

    pub(crate) fn pace(&self, scenario: &Scenario, quick: bool) -> Pace {
        let (warm_up_ms, window_ms) = match quick {
            true => (300, 1_000),
            false if scenario.has_aftermath(self.durability) => (5_000, 60_000),
            false => (1_000, 3_000),
        };
        self.pace_unless_told(warm_up_ms, window_ms)
    }

    /// This pace, but for what the command line says.
    pub(crate) fn pace_unless_told(&self, warm_up_ms: u64, window_ms: u64) -> Pace {
        Pace {
            warm_up_ms: self.warm_up_ms.unwrap_or(warm_up_ms),
            window_ms: self.window_ms.unwrap_or(window_ms),
        }
    }

    pub(crate) fn subject(&self) -> Contender {
        Contender {
            server: self.subject,
            durability: self.durability,
            settings: self.settings.clone(),
        }
    }

    pub(crate) fn peer(&self, server: &'static Server) -> Contender {
        Contender {
            server,
            durability: self.durability,
            settings: Vec::new(),
        }
    }

    fn paced(&self, scenario: Scenario, quick: bool) -> (Scenario, Pace) {
        let pace = self.pace(&scenario, quick);
        (scenario, pace)
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
        let others = SERVERS
            .iter()
            .filter(|server| server.name != setup.subject.name && server.has(setup.durability));
        let peers = if self.peers.is_empty() {
            others.collect()
        } else {
            self.peers.clone()
        };
        let all = match setup.durability {
            Durability::Memory => scenarios(self.quick),
            Durability::Fast | Durability::Durable => scenarios_on_disk(self.quick),
            Durability::Acid => scenarios_in_shards(self.quick),
        };
        let chosen = all
            .into_iter()
            .filter(|(mode, _)| self.modes.is_empty() || self.modes.contains(mode));
        Plan {
            contenders: std::iter::once(setup.subject())
                .chain(peers.into_iter().map(|server| setup.peer(server)))
                .collect(),
            scenarios: chosen
                .map(|(_, scenario)| setup.paced(scenario, self.quick))
                .collect(),
            rounds: self.pairs.unwrap_or(if self.quick { 2 } else { 5 }),
        }
    }
}

/// Two settings of one server, and the load.
#[derive(Debug, Args)]
pub(crate) struct Versus {
    /// A variable in the environment of the other side, as NAME=VALUE; may be repeated. The subject's are `--set`.
    #[arg(long = "other", value_parser = parse_setting)]
    others: Vec<Setting>,
    /// How many times each side runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    #[command(subcommand)]
    scenario: Scenario,
}

impl Versus {
    pub(crate) fn plan(&self, setup: &Setup) -> Plan {
        let other = Contender {
            settings: self.others.clone(),
            ..setup.subject()
        };
        Plan {
            contenders: vec![setup.subject(), other],
            scenarios: vec![setup.paced(self.scenario.clone(), false)],
            rounds: self.pairs,
        }
    }
}

/// How often each number of shards runs.
#[derive(Debug, Args)]
pub(crate) struct Shards {
    /// Rounds in which each runs once.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
}

impl Shards {
    pub(crate) fn plan(&self, setup: &Setup) -> Plan {
        let contender = |durability, settings: Vec<Setting>| Contender {
            durability,
            settings,
            ..setup.subject()
        };
        // The default is what the others are compared with.
        let shards = [16, 1, 4, 64].map(|count| {
            let count = ("DS_STORAGE__ACID_SHARD_COUNT".to_owned(), count.to_string());
            contender(Durability::Acid, vec![count])
        });
        let file = contender(Durability::Durable, Vec::new());
        let append = |(connections, streams)| {
            let append = Append {
                connections,
                streams: Some(streams),
                record_bytes: 256,
                producers: false,
            };
            (Scenario::Append(append), setup.pace_unless_told(2_000, 10_000))
        };
        let loads = [16, 256].map(|connections| [1, 64, 1_000].map(|streams| (connections, streams)));
        Plan {
            contenders: shards.into_iter().chain([file]).collect(),
            scenarios: loads.into_iter().flatten().map(append).collect(),
            rounds: self.pairs,
        }
    }
}

/// All that a comparison in memory measures, in the order of its table.
fn scenarios(quick: bool) -> Vec<(Mode, Scenario)> {
    let append = |connections| {
        Scenario::Append(Append {
            connections,
            streams: None,
            record_bytes: 256,
            producers: false,
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
                append_bytes: 256 * 1024,
                restart: false,
            }),
        ),
    ]
}

/// All that a comparison on disk measures, in the order of its table.
fn scenarios_on_disk(quick: bool) -> Vec<(Mode, Scenario)> {
    let append = |connections, streams, producers| {
        let append = Append {
            connections,
            streams: Some(streams),
            record_bytes: 256,
            producers,
        };
        (Mode::Append, Scenario::Append(append))
    };
    let (many, stream_mib, streams) = if quick {
        (20_000, 16, 20_000)
    } else {
        (100_000, 1024, 1_000_000)
    };
    let catch_up = |append_bytes| {
        let catch_up = CatchUp {
            connections: 4,
            streams: 1,
            stream_mib,
            append_bytes,
            restart: true,
        };
        (Mode::CatchUp, Scenario::CatchUp(catch_up))
    };
    let many_streams = Streams {
        streams,
        connections: 256,
        record_bytes: 256,
    };
    vec![
        append(64, 1, false),
        append(64, 1_000, false),
        append(64, 1_000, true),
        append(64, 10_000, false),
        append(256, 1, false),
        append(256, 1_000, false),
        append(256, 10_000, false),
        append(256, 10_000, true),
        append(256, many, false),
        catch_up(4096),
        catch_up(256),
        (Mode::Streams, Scenario::Streams(many_streams)),
    ]
}

/// All that a comparison of sharded databases measures, in the order of its table.
fn scenarios_in_shards(quick: bool) -> Vec<(Mode, Scenario)> {
    let append = |streams| {
        let append = Append {
            connections: 64,
            streams: Some(streams),
            record_bytes: 256,
            producers: false,
        };
        (Mode::Append, Scenario::Append(append))
    };
    let many_streams = Streams {
        streams: if quick { 2_000 } else { 100_000 },
        connections: 256,
        record_bytes: 256,
    };
    vec![
        append(1),
        append(64),
        append(1_000),
        (Mode::Streams, Scenario::Streams(many_streams)),
    ]
}

fn parse_binary(argument: &str) -> Result<(&'static str, PathBuf), String> {
    let (name, path) = argument.split_once('=').ok_or("expected NAME=PATH")?;
    Ok((Server::by_name(name)?.name, path.into()))
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
