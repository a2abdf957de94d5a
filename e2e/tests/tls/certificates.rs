//! The files of a server, with certificates that are made for each test.

use std::path::PathBuf;

use tailwater_e2e::Server;
pub(crate) use tailwater_e2e::authority::{Authority, Client, EITHER, Issued, NEWER, OLDER};
use tempfile::TempDir;

/// The file names of the settings, below the directory of [`Files`].
pub(crate) const CERT: &str = "cert.pem";
pub(crate) const KEY: &str = "key.pem";
pub(crate) const CLIENT_CA: &str = "clients.pem";

/// The files that a server is told of.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new(own: &Issued) -> Self {
        let files = Self(tempfile::tempdir().expect("a temporary directory"));
        files.put(own);
        files
    }

    /// Writes the server's certificate and its key over what is there.
    pub(crate) fn put(&self, own: &Issued) {
        self.write(CERT, &own.pem);
        self.write(KEY, &own.key_pem);
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the file can be written");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Settings that name the certificate and the key, and the clients' authorities if there is such a file.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let path = |name| self.path(name).display().to_string();
        let mut settings = vec![("DS_TLS__CERT_PATH", path(CERT)), ("DS_TLS__KEY_PATH", path(KEY))];
        if self.path(CLIENT_CA).exists() {
            settings.push(("DS_TLS__CLIENT_CA_PATH", path(CLIENT_CA)));
        }
        settings
    }

    /// Starts a server with these files and settings, to be talked to by `client`.
    #[track_caller]
    pub(crate) fn serve(&self, client: &Client<'_>, more: &[(&str, &str)]) -> Server {
        let settings = self.settings();
        let own = settings.iter().map(|(name, value)| (*name, value.as_str()));
        let all: Vec<_> = own.chain(more.iter().copied()).collect();
        Server::start_with(&all).by_tls(&client.config())
    }
}

/// The value of a metric.
#[track_caller]
pub(crate) fn metric(server: &Server, name: &str) -> u64 {
    let page = server.get("/metrics").expect(200).text().to_owned();
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {page}"))
}
