//! Authorities, the certificates that they issue, and clients that trust them. Nothing here outlives its test.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// Clients that speak TLS 1.2 and nothing newer.
pub static OLDER: &[&SupportedProtocolVersion] = &[&TLS12];
/// Clients that speak TLS 1.3 and nothing older.
pub static NEWER: &[&SupportedProtocolVersion] = &[&TLS13];
/// Clients that speak both.
pub static EITHER: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// Who signs certificates.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// An authority of that name, which nobody knows yet.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, new_key()).expect("an authority"))
    }

    /// A certificate for `localhost` that is valid.
    pub fn issue(&self) -> Issued {
        self.issue_between(2020, 2999)
    }

    /// One that is valid from the first day of one year until the first of another.
    pub fn issue_between(&self, from_year: i32, to_year: i32) -> Issued {
        self.issue_for("localhost", from_year, to_year)
    }

    /// The same for another host.
    pub fn issue_for(&self, host: &str, from_year: i32, to_year: i32) -> Issued {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
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

    /// Its own certificate in PEM, for those who are to trust it.
    pub fn pem(&self) -> String {
        self.0.pem()
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate in PEM.
    pub pem: String,
    /// Its private key in PEM (PKCS #8).
    pub key_pem: String,
    /// The certificate, to compare what a server shows with.
    pub der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Issued {
    /// What a server needs that shows this certificate, in whichever version and protocol.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(EITHER)
            .expect("versions that ring supports")
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], self.key());
        Arc::new(config.expect("a certificate and its key"))
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key_der.clone().into())
    }
}

/// A client that trusts `authority`, and speaks these versions and protocols.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Whom it trusts.
    pub authority: &'a Authority,
    /// Versions of TLS, such as [`EITHER`].
    pub versions: &'static [&'static SupportedProtocolVersion],
    /// Protocols that it offers (ALPN), such as `h2`; none for no choice.
    pub protocols: &'static [&'static str],
    /// What it shows to the server.
    pub identity: Option<&'a Issued>,
}

impl<'a> Client<'a> {
    /// A client without a certificate that leaves the choice of version and protocol to the server.
    pub fn new(authority: &'a Authority) -> Self {
        Self {
            authority,
            versions: EITHER,
            protocols: &[],
            identity: None,
        }
    }

    /// What connections of this client are made with.
    pub fn config(&self) -> Arc<ClientConfig> {
        let authority = self.authority.0.der().clone();
        configure(authority, self.versions, self.protocols, self.identity)
    }
}

/// A client that trusts one certificate in PEM, which may be a server's own, and offers these protocols.
#[track_caller]
pub fn trusting(pem: &str, protocols: &[&str]) -> Arc<ClientConfig> {
    let trusted = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate in PEM");
    configure(trusted, EITHER, protocols, None)
}

fn configure(
    trusted: CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
    identity: Option<&Issued>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).expect("a certificate to trust");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .expect("versions that ring supports")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(vec![own.der.clone()], own.key())
            .expect("a certificate and its key"),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}
