//! Authorities, what they issue, and the files of a server. Nothing here outlives its test.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tailwater_e2e::Server;
use tempfile::TempDir;

/// The file names of the settings, below the directory of [`Files`].
pub(crate) const CERT: &str = "cert.pem";
pub(crate) const KEY: &str = "key.pem";
pub(crate) const CLIENT_CA: &str = "clients.pem";

/// The versions of TLS that a client may speak: the older one, the newer one, either.
pub(crate) static OLDER: &[&SupportedProtocolVersion] = &[&TLS12];
pub(crate) static NEWER: &[&SupportedProtocolVersion] = &[&TLS13];
pub(crate) static EITHER: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, new_key()).expect("an authority"))
    }

    /// A certificate for `localhost` that is valid.
    pub(crate) fn issue(&self) -> Issued {
        self.issue_between(2020, 2999)
    }

    /// One that is valid from the first day of one year until the first of another.
    pub(crate) fn issue_between(&self, from_year: i32, to_year: i32) -> Issued {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(from_year, 1, 1);
        params.not_after = date_time_ymd(to_year, 1, 1);
        let key = new_key();
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Issued {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) pem: String,
    pub(crate) key_pem: String,
    pub(crate) der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

/// A client that trusts `authority`, and speaks these versions and protocols.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) protocols: &'static [&'static str],
    /// What it shows to the server.
    pub(crate) identity: Option<&'a Issued>,
}

impl<'a> Client<'a> {
    pub(crate) fn new(authority: &'a Authority) -> Self {
        Self {
            authority,
            versions: EITHER,
            protocols: &[],
            identity: None,
        }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.authority.0.der().clone())
            .expect("the authority's own certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(self.versions)
            .expect("versions that ring supports")
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::Pkcs8(own.key_der.clone().into());
                builder
                    .with_client_auth_cert(vec![own.der.clone()], key)
                    .expect("a certificate and its key")
            }
        };
        config.alpn_protocols = self
            .protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }
}

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
