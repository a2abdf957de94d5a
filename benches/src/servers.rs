//! The servers that can be compared. All there is to know of them is in one table.

use std::path::{Path, PathBuf};

/// How to start a server and where its streams are. In arguments and environment `{port}` stands for
/// the port to listen on and `{data}` for a directory of its own.
#[derive(Debug)]
pub(crate) struct Server {
    /// As on the command line and in the report: the name of the crate.
    pub(crate) name: &'static str,
    home: Home,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// What stands before a stream's name in a path.
    pub(crate) prefix: &'static str,
}

/// Where a server's binary is.
#[derive(Debug)]
enum Home {
    /// Beside this program.
    Beside(&'static str),
    /// Below the workspace's root, where `bench.mk` installs it.
    Workspace(&'static str),
}

/// All servers keep streams in memory, and have limits that no scenario reaches.
pub(crate) static SERVERS: [Server; 3] = [
    Server {
        name: "tailwater",
        home: Home::Beside("tailwater"),
        arguments: &[],
        environment: &[
            ("DS_SERVER__BIND_ADDRESS", "127.0.0.1:{port}"),
            ("DS_STORAGE__MODE", "memory"),
            ("DS_LIMITS__MAX_MEMORY_BYTES", "17179869184"),
            ("DS_LIMITS__MAX_STREAM_BYTES", "17179869184"),
            ("DS_LIMITS__MAX_CONNECTIONS", "19000"),
            ("DS_LIMITS__MAX_LIVE_READERS", "19000"),
            ("RUST_LOG", "warn"),
        ],
        prefix: "/v1/stream/",
    },
    Server {
        name: "durable-streams",
        home: Home::Workspace("target/peers/rival/bin/durable-streams-server"),
        arguments: &[
            "--port",
            "{port}",
            "--data-dir",
            "{data}",
            "--durability",
            "memory",
        ],
        environment: &[],
        prefix: "/",
    },
    Server {
        name: "durable-streams-server",
        home: Home::Workspace("target/peers/dss/bin/durable-streams-server"),
        arguments: &[],
        environment: &[
            ("DS_SERVER__BIND_ADDRESS", "127.0.0.1:{port}"),
            ("DS_STORAGE__MODE", "memory"),
            ("DS_STORAGE__DATA_DIR", "{data}"),
            ("DS_LIMITS__MAX_MEMORY_BYTES", "17179869184"),
            ("DS_LIMITS__MAX_STREAM_BYTES", "17179869184"),
            ("RUST_LOG", "warn"),
        ],
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

    pub(crate) fn arguments(&self, port: u16, data: &Path) -> Vec<String> {
        self.arguments
            .iter()
            .map(|template| fill(template, port, data))
            .collect()
    }

    pub(crate) fn environment(&self, port: u16, data: &Path) -> Vec<(&'static str, String)> {
        self.environment
            .iter()
            .map(|(name, template)| (*name, fill(template, port, data)))
            .collect()
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

    use super::Server;

    #[test]
    fn templates_get_port_and_directory() {
        let rival = Server::by_name("durable-streams").expect("in the table");
        let arguments = rival.arguments(7001, Path::new("/tmp/x"));
        assert_eq!(
            arguments,
            ["--port", "7001", "--data-dir", "/tmp/x", "--durability", "memory"]
        );
        let tailwater = Server::by_name("tailwater").expect("in the table");
        assert_eq!(
            tailwater.environment(7001, Path::new("/tmp/x"))[0],
            ("DS_SERVER__BIND_ADDRESS", "127.0.0.1:7001".to_owned())
        );
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
