//! The project's Envoy in front of a server: the configurations and scripts of `envoy/`, as users run them. Nothing of
//! them is replaced but the values in `node.metadata`, which users fill in too.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::ClientConfig;
use tempfile::TempDir;

use crate::authority;
use crate::connection::Connection;
use crate::envoy::{Envoy, repository};
use crate::events::Events;
use crate::message::{Request, Response};
use crate::server::Server;

/// Where the configuration for production looks for its files.
const INSTALLED: &str = "/etc/tailwater-edge";

/// One of the two configurations, with values of its own, and the directory of its files.
#[derive(Debug)]
pub struct Configuration {
    text: String,
    directory: TempDir,
}

impl Configuration {
    /// `envoy/envoy.yaml` in front of the server at that address, after `envoy/setup`.
    #[track_caller]
    pub fn development(server: SocketAddr) -> Self {
        let configuration = Self::read("envoy.yaml");
        let directory = configuration.directory().to_owned();
        let made = run("setup", &[&directory.display().to_string()]);
        assert!(made.status.success(), "{}", crate::node::written(&made));
        configuration
            .set_path("jwks", &directory.join("jwks.json"))
            .set_path("certificate", &directory.join("certificate.pem"))
            .set_path("certificate_key", &directory.join("certificate-key.pem"))
            .set("server_address", &server.ip().to_string())
            .set("server_port", &server.port().to_string())
    }

    /// `envoy/envoy.production.yaml` and the file that it names its certificate in. What these look for below
    /// `/etc/tailwater-edge` has to be in the configuration's directory.
    #[track_caller]
    pub fn production() -> Self {
        let mut configuration = Self::read("envoy.production.yaml").set("listen_address", "127.0.0.1");
        let directory = configuration.directory().display().to_string();
        configuration.text = configuration.text.replace(INSTALLED, &directory);
        let certificate = std::fs::read_to_string(source("certificate.production.yaml"));
        let certificate = certificate
            .expect("the file is in the repository")
            .replace(INSTALLED, &directory);
        let path = configuration.directory().join("certificate.production.yaml");
        std::fs::write(path, certificate).expect("the file can be written");
        configuration
    }

    #[track_caller]
    fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(source(name)).expect("the configuration is in the repository");
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { text, directory }
            .set("listen_port", "0")
            .set("admin_port", "0")
            .set_path("authorize", &source("authorize.lua"))
    }

    /// Fills in one of the values of `node.metadata`; panics unless it stands there once.
    #[must_use]
    #[track_caller]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        let before = format!("\n    {name}: &{name} ");
        assert_eq!(
            self.text.matches(&before).count(),
            1,
            "{name} is not in node.metadata"
        );
        let begin = self.text.find(&before).expect("it is there once") + before.len();
        let end = begin + self.text[begin..].find('\n').expect("another line follows");
        self.text.replace_range(begin..end, value);
        self
    }

    /// Fills in the path of a file.
    #[must_use]
    #[track_caller]
    pub fn set_path(self, name: &str, path: &Path) -> Self {
        self.set(name, &path.display().to_string())
    }

    /// Takes the `#` out of the line that begins with that field, as the comment above it says; panics unless there is
    /// one such line.
    #[must_use]
    #[track_caller]
    pub fn ask_for(mut self, field: &str) -> Self {
        let out = format!(" #{field}:");
        assert_eq!(
            self.text.matches(&out).count(),
            1,
            "{field} is not there to be asked for"
        );
        self.text = self.text.replace(&out, &format!(" {field}:"));
        self
    }

    /// Where its files are; it goes with the edge.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes the configuration into its directory and says where it is.
    #[track_caller]
    pub fn write(&self) -> PathBuf {
        let path = self.directory().join("configuration.yaml");
        std::fs::write(&path, &self.text).expect("the configuration can be written");
        path
    }

    /// Starts an Envoy with it, which clients talk to as `tls` says.
    #[track_caller]
    pub fn start(self, tls: Arc<ClientConfig>) -> Edge {
        let envoy = Envoy::start(&self.write(), self.directory());
        Edge {
            address: envoy.listener("clients"),
            envoy,
            configuration: self,
            tls,
        }
    }
}

/// A running Envoy in front of a server.
#[derive(Debug)]
pub struct Edge {
    envoy: Envoy,
    configuration: Configuration,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Edge {
    /// The edge for development in front of the server at that address.
    #[track_caller]
    pub fn before(server: SocketAddr) -> Self {
        Self::of(Configuration::development(server))
    }

    /// The edge for development with values of its own.
    #[track_caller]
    pub fn of(configuration: Configuration) -> Self {
        let certificate = std::fs::read_to_string(configuration.directory().join("certificate.pem"));
        let certificate = certificate.expect("envoy/setup has made a certificate");
        configuration.start(authority::trusting(&certificate, &[]))
    }

    /// Its Envoy.
    pub fn envoy(&self) -> &Envoy {
        &self.envoy
    }

    /// Where clients come in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its root, as `https://localhost:8443`.
    pub fn origin(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// A file in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.configuration.directory().join(name)
    }

    /// A token of `envoy/token` with these options, for a subject `alice` unless they name one.
    #[track_caller]
    pub fn token(&self, options: &[&str]) -> String {
        token(self.configuration.directory(), options)
    }

    /// A new connection.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::try_open_tls(self.address, &self.tls)
            .unwrap_or_else(|error| panic!("cannot connect to the edge: {error}"))
    }

    /// A new connection of another client.
    ///
    /// # Errors
    /// What went wrong before or within the handshake.
    pub fn try_connect_as(&self, tls: &Arc<ClientConfig>) -> std::io::Result<Connection> {
        Connection::try_open_tls(self.address, tls)
    }

    /// Sends a request on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.connect().send(request)
    }

    /// What somebody may do who has that token.
    pub fn caller(&self, token: &str) -> Caller<'_> {
        Caller {
            edge: self,
            authorization: format!("Bearer {token}"),
        }
    }
}

/// Somebody who comes to the edge with a token. Requests carry it, and `application/json`.
#[derive(Clone, Debug)]
pub struct Caller<'e> {
    edge: &'e Edge,
    authorization: String,
}

impl Caller<'_> {
    /// A request for a path below the stream root, such as `runs/42?offset=-1`.
    pub fn request(&self, method: &str, below: &str) -> Request {
        self.request_to(method, &format!("/v1/stream/{below}"))
    }

    /// A request for any path.
    pub fn request_to(&self, method: &str, path: &str) -> Request {
        Request::new(method, path)
            .header("Authorization", &self.authorization)
            .header("Content-Type", "application/json")
    }

    /// Sends a request without a body on a connection of its own.
    #[track_caller]
    pub fn send(&self, method: &str, below: &str) -> Response {
        self.edge.send(&self.request(method, below))
    }

    /// Creates a stream.
    #[track_caller]
    pub fn create(&self, name: &str) {
        self.send("PUT", name).expect(201);
    }

    /// Appends to a stream and returns the new tail.
    #[track_caller]
    pub fn append(&self, name: &str, body: &str) -> String {
        let answer = self.edge.send(&self.request("POST", name).body(body)).expect(204);
        answer.expect_header("stream-next-offset").to_owned()
    }

    /// Follows a stream by Server-Sent Events on a connection of its own.
    #[track_caller]
    pub fn follow(&self, name: &str, offset: &str) -> Events {
        let request = self.request("GET", &format!("{name}?offset={offset}&live=sse"));
        self.edge.connect().follow(&request)
    }
}

/// Starts a server that believes what an edge on this machine says of its clients, with these settings besides.
#[track_caller]
pub fn server(settings: &[(&str, &str)]) -> Server {
    let trust = [("DS_PROXY__TRUSTED", "127.0.0.1")];
    Server::start_with(&[&trust, settings].concat())
}

/// A file of `envoy/`.
pub fn source(name: &str) -> PathBuf {
    repository().join("envoy").join(name)
}

/// A token of `envoy/token` with these options, signed by the key in that directory.
#[track_caller]
pub fn token(keys: &Path, options: &[&str]) -> String {
    let keys = keys.display().to_string();
    let mut all = vec!["--keys", &keys];
    if !options.contains(&"--subject") {
        all.extend(["--subject", "alice"]);
    }
    all.extend(options);
    let made = run("token", &all);
    assert!(made.status.success(), "{}", crate::node::written(&made));
    String::from_utf8(made.stdout).expect("a token").trim().to_owned()
}

/// Runs a script of `envoy/` to its end.
#[track_caller]
pub fn run(script: &str, arguments: &[&str]) -> Output {
    let path = source(script);
    Command::new(&path)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", path.display()))
}
