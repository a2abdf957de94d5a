//! The servers that can be compared. All there is to know of them is in one table.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// What an acknowledged append survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// Nothing.
    Memory,
    /// A crash of the process: the kernel has it.
    Fast,
    /// A crash of the machine: it is synced.
    Durable,
    /// The same, kept in sharded redb databases by servers that have such a mode.
    Acid,
}

/// How to start a server and where its streams are. In arguments and environment `{port}` stands for
/// the port to listen on and `{data}` for a directory of its own.
#[derive(Debug)]
pub(crate) struct Server {
    /// As on the command line and in the report: the name of the crate.
    pub(crate) name: &'static str,
    home: Home,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// What is added for each durability.
    modes: &'static [Mode],
    /// The most streams that it can hold under the usual limit of 20,000 open files, if that limits them.
    pub(crate) streams_max: Option<usize>,
    /// What stands before a stream's name in a path.
    pub(crate) prefix: &'static str,
}

/// Arguments and environment for one durability.
#[derive(Debug)]
struct Mode {
    durability: Durability,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

/// Where a server's binary is.
#[derive(Debug)]
enum Home {
    /// Beside this program.
    Beside(&'static str),
    /// Below the workspace's root, where `bench.mk` installs it.
    Workspace(&'static str),
}

/// In memory the limits are such that no scenario reaches them. On disk they are the defaults, but for
/// connections; what a scenario needs beyond them, it says itself.
pub(crate) static SERVERS: [Server; 3] = [
    Server {
        name: "tailwater",
        home: Home::Beside("tailwater"),
        arguments: &[],
        environment: &[
            ("DS_SERVER__BIND_ADDRESS", "127.0.0.1:{port}"),
            ("DS_LIMITS__MAX_CONNECTIONS", "19000"),
            ("DS_LIMITS__MAX_LIVE_READERS", "19000"),
            // All of the generator's connections are one client's.
            ("DS_LIMITS__MAX_CLIENT_CONNECTIONS", "19000"),
            ("DS_LIMITS__MAX_CLIENT_LIVE_READERS", "19000"),
            ("RUST_LOG", "warn"),
        ],
        modes: &[
            Mode {
                durability: Durability::Memory,
                arguments: &[],
                environment: &[
                    ("DS_STORAGE__MODE", "memory"),
                    ("DS_LIMITS__MAX_MEMORY_BYTES", "17179869184"),
                    ("DS_LIMITS__MAX_STREAM_BYTES", "17179869184"),
                ],
            },
            Mode {
                durability: Durability::Fast,
                arguments: &[],
                environment: &[
                    ("DS_STORAGE__MODE", "file-fast"),
                    ("DS_STORAGE__DATA_DIR", "{data}"),
                ],
            },
            Mode {
                durability: Durability::Durable,
                arguments: &[],
                environment: &[
                    ("DS_STORAGE__MODE", "file-durable"),
                    ("DS_STORAGE__DATA_DIR", "{data}"),
                ],
            },
            Mode {
                durability: Durability::Acid,
                arguments: &[],
                environment: &[
                    ("DS_STORAGE__MODE", "acid"),
                    ("DS_STORAGE__ACID_SHARD_COUNT", "16"),
                    ("DS_STORAGE__DATA_DIR", "{data}"),
                ],
            },
        ],
        streams_max: None,
        prefix: "/v1/stream/",
    },
    Server {
        name: "durable-streams",
        home: Home::Workspace("target/peers/rival/bin/durable-streams-server"),
        arguments: &["--port", "{port}", "--data-dir", "{data}"],
        environment: &[],
        modes: &[
            Mode {
                durability: Durability::Memory,
                arguments: &["--durability", "memory"],
                environment: &[],
            },
            // It acknowledges what the kernel has, which is what `fast` asks for.
            Mode {
                durability: Durability::Fast,
                arguments: &["--durability", "memory"],
                environment: &[],
            },
            Mode {
                durability: Durability::Durable,
                arguments: &["--durability", "wal"],
                environment: &[],
            },
        ],
        // One file for each stream.
        streams_max: Some(19_000),
        prefix: "/",
    },
    Server {
        name: "durable-streams-server",
        home: Home::Workspace("target/peers/dss/bin/durable-streams-server"),
        arguments: &[],
        environment: &[
            ("DS_SERVER__BIND_ADDRESS", "127.0.0.1:{port}"),
            ("DS_STORAGE__DATA_DIR", "{data}"),
            ("DS_LIMITS__MAX_MEMORY_BYTES", "17179869184"),
            ("DS_LIMITS__MAX_STREAM_BYTES", "17179869184"),
            ("RUST_LOG", "warn"),
        ],
        modes: &[
            Mode {
                durability: Durability::Memory,
                arguments: &[],
                environment: &[("DS_STORAGE__MODE", "memory")],
            },
            Mode {
                durability: Durability::Fast,
                arguments: &[],
                environment: &[("DS_STORAGE__MODE", "file-fast")],
            },
            Mode {
                durability: Durability::Durable,
                arguments: &[],
                environment: &[("DS_STORAGE__MODE", "file-durable")],
            },
            Mode {
                durability: Durability::Acid,
                arguments: &[],
                environment: &[
                    ("DS_STORAGE__MODE", "acid"),
                    ("DS_STORAGE__ACID_SHARD_COUNT", "16"),
                ],
            },
        ],
        streams_max: Some(19_000),
        prefix: "/v1/stream/",
    },
];

impl Server {
    /// For the command line.
    pub(crate) fn by_name(name: &str) -> Result<&'static Self, String> {
        let names: Vec<&str> = SERVERS.iter().map(|server| server.name).collect();
        SERVERS
            .iter()
            .find(|server| server.name == name)
            .ok_or_else(|| format!("the servers are {}", names.join(", ")))
    }

    /// Where the binary is unless the command line says otherwise.
    pub(crate) fn default_binary(&self) -> PathBuf {
        match self.home {
            Home::Beside(name) => std::env::current_exe()
                .ok()
                .and_then(|own| Some(own.parent()?.join(name)))
                .unwrap_or_default(),
            Home::Workspace(path) => Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(path),
        }
    }

    pub(crate) fn arguments(&self, durability: Durability, port: u16, data: &Path) -> Vec<String> {
        let all = self.arguments.iter().chain(self.mode(durability).arguments);
        all.map(|template| fill(template, port, data)).collect()
    }

    pub(crate) fn environment(
        &self,
        durability: Durability,
        port: u16,
        data: &Path,
    ) -> Vec<(&'static str, String)> {
        let all = self.environment.iter().chain(self.mode(durability).environment);
        all.map(|(name, template)| (*name, fill(template, port, data)))
            .collect()
    }

    /// Whether it can be run so.
    pub(crate) fn has(&self, durability: Durability) -> bool {
        self.modes.iter().any(|mode| mode.durability == durability)
    }

    fn mode(&self, durability: Durability) -> &Mode {
        let mode = self.modes.iter().find(|mode| mode.durability == durability);
        mode.expect("only servers that have it are run so")
    }
}

fn fill(template: &str, port: u16, data: &Path) -> String {
    template
        .replace("{port}", &port.to_string())
        .replace("{data}", &data.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Durability, SERVERS, Server};

    #[test]
    fn every_server_has_a_mode_for_every_durability_but_one() {
        for server in &SERVERS {
            for durability in [Durability::Memory, Durability::Fast, Durability::Durable] {
                assert!(server.has(durability), "{} {durability:?}", server.name);
            }
        }
        let shards = SERVERS.iter().filter(|server| server.has(Durability::Acid));
        assert_eq!(shards.count(), 2);
    }

    #[test]
    fn templates_get_port_and_directory() {
        let rival = Server::by_name("durable-streams").expect("in the table");
        let arguments = rival.arguments(Durability::Durable, 7001, Path::new("/tmp/x"));
        assert_eq!(
            arguments,
            ["--port", "7001", "--data-dir", "/tmp/x", "--durability", "wal"]
        );
        let tailwater = Server::by_name("tailwater").expect("in the table");
        let environment = tailwater.environment(Durability::Fast, 7001, Path::new("/tmp/x"));
        for expected in [
            ("DS_SERVER__BIND_ADDRESS", "127.0.0.1:7001"),
            ("DS_STORAGE__DATA_DIR", "/tmp/x"),
        ] {
            let is_there = environment
                .iter()
                .any(|(name, value)| (*name, value.as_str()) == expected);
            assert!(is_there, "{expected:?}");
        }
    }

    #[test]
    fn an_unknown_server_is_answered_with_the_known_ones() {
        let error = Server::by_name("nobody").expect_err("not in the table");
        assert_eq!(
            error,
            "the servers are tailwater, durable-streams, durable-streams-server"
        );
    }

    #[test]
    fn installed_peers_are_below_the_workspace() {
        let binary = Server::by_name("durable-streams")
            .expect("in the table")
            .default_binary();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("a workspace");
        assert_eq!(
            binary,
            workspace.join("target/peers/rival/bin/durable-streams-server")
        );
    }
}
