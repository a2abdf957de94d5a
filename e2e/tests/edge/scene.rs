//! Whoever has a part when the configuration for production runs: an authority, an issuer, a server by TLS, the edge.

use std::path::Path;

use tailwater_e2e::authority::{Authority, Client, Issued};
use tailwater_e2e::edge::{self, Configuration};
use tailwater_e2e::issuer::KeyServer;
use tailwater_e2e::{Edge, Server};
use tempfile::TempDir;

pub(crate) const ISSUER: &str = "https://issuer.example.com/";
const AUDIENCE: &str = "https://streams.example.com";

/// Whoever has a part in it: an authority, an issuer, a server by TLS, and the edge that is about to start.
pub(crate) struct Scene {
    pub(crate) authority: Authority,
    /// The keys of the issuer, as `envoy/setup` makes them.
    pub(crate) keys: TempDir,
    pub(crate) key_server: KeyServer,
    pub(crate) server: Server,
    pub(crate) configuration: Configuration,
    /// The files of the server.
    _files: TempDir,
}

impl Scene {
    /// A scene in which everybody trusts one authority, whose server has these settings besides.
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let authority = Authority::new("ours");
        let own = authority.issue();
        Self::with_server_certificate(authority, &own, settings)
    }

    pub(crate) fn with_server_certificate(
        authority: Authority,
        own: &Issued,
        settings: &[(&str, &str)],
    ) -> Self {
        let files = directory();
        put(files.path(), "cert.pem", &own.pem);
        put(files.path(), "key.pem", &own.key_pem);
        let path = |name: &str| files.path().join(name).display().to_string();
        let (certificate, key) = (path("cert.pem"), path("key.pem"));
        let tls = [
            ("DS_TLS__CERT_PATH", certificate.as_str()),
            ("DS_TLS__KEY_PATH", key.as_str()),
        ];
        let server = edge::server(&[&tls, settings].concat()).by_tls(&Client::new(&authority).config());

        let keys = directory();
        let made = edge::run("setup", &[&keys.path().display().to_string()]);
        assert!(made.status.success(), "{made:?}");
        let published = read(keys.path(), "jwks.json");
        let key_server = KeyServer::start(&published, &authority.issue().server_config());

        let configuration = Configuration::production();
        let place = configuration.directory().to_owned();
        put(&place, "server-ca.pem", &authority.pem());
        put(&place, "issuer-ca.pem", &authority.pem());
        std::fs::create_dir(place.join("certificate")).expect("it is not there");
        put(&place, "certificate/tls.crt", &authority.issue().pem);
        let configuration = configuration
            .set("jwks_uri", "https://localhost/keys")
            .set("jwks_host", "localhost")
            .set("jwks_port", &key_server.address().port().to_string())
            .set_path("jwks_authorities", &place.join("issuer-ca.pem"))
            .set("server_address", "127.0.0.1")
            .set("server_port", &server.address().port().to_string())
            .set("server_name", "localhost")
            .set("requests_at_once", "1000000")
            .set("requests_each_second", "1000000");
        let scene = Self {
            authority,
            keys,
            key_server,
            server,
            configuration,
            _files: files,
        };
        scene.put_certificate(&scene.authority.issue());
        scene
    }

    /// Gives the edge a certificate before it starts.
    pub(crate) fn put_certificate(&self, own: &Issued) {
        let place = self.configuration.directory();
        put(place, "certificate/tls.crt", &own.pem);
        put(place, "certificate/tls.key", &own.key_pem);
    }

    /// Changes the configuration.
    pub(crate) fn configure(mut self, change: impl FnOnce(Configuration) -> Configuration) -> Self {
        self.configuration = change(self.configuration);
        self
    }

    /// Starts the edge, for clients that trust the authority.
    pub(crate) fn start(self) -> (Edge, Production) {
        let edge = self.configuration.start(Client::new(&self.authority).config());
        let production = Production {
            authority: self.authority,
            keys: self.keys,
            key_server: self.key_server,
            server: self.server,
            _files: self._files,
        };
        (edge, production)
    }
}

/// What stands behind the edge once that runs.
pub(crate) struct Production {
    pub(crate) authority: Authority,
    pub(crate) keys: TempDir,
    pub(crate) key_server: KeyServer,
    pub(crate) server: Server,
    _files: TempDir,
}

impl Production {
    pub(crate) fn token(&self) -> String {
        token(self.keys.path())
    }
}

pub(crate) fn token(keys: &Path) -> String {
    let options = [
        "--issuer",
        ISSUER,
        "--audience",
        AUDIENCE,
        "--read",
        "runs/",
        "--write",
        "runs/",
    ];
    edge::token(keys, &options)
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

pub(crate) fn put(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).expect("the file can be written");
}

pub(crate) fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).expect("the file is there")
}
