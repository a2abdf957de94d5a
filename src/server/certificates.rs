//! Makes a TLS configuration of PEM files, or says which file is wrong, how, and what to do. Knows no connection and
//! no clock.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::Certificate;
use x509_cert::der::{self, DateTime, Decode as _};
use x509_cert::time::{Time, Validity};

use crate::config::TlsConfig;
use crate::pem::{PemFault, PemFile};

/// What may be spoken over TLS, the best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// HTTP/2's name among the protocols that TLS negotiates.
pub(super) const HTTP2: &[u8] = b"h2";

/// A file that TLS cannot do with.
#[derive(Debug, thiserror::Error)]
#[error("`{setting}` ({}) {fault}", path.display())]
pub struct TlsError {
    /// The setting that names the file.
    setting: &'static str,
    path: PathBuf,
    #[source]
    fault: Fault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Pem(#[from] PemFault),
    #[error(
        "has an encrypted private key; decrypt it, for example with `openssl pkey`, and protect the file instead"
    )]
    Encrypted,
    #[error("has a certificate, number {number}, that cannot be read: {source}; make or copy it again")]
    Unparsable { number: usize, source: der::Error },
    #[error("has a certificate that expired at {0}; renew it, or check the clock of this machine")]
    Expired(DateTime),
    #[error(
        "has a certificate that is not valid before {0}; wait until then, or check the clock of this machine"
    )]
    NotYetValid(DateTime),
    #[error(
        "has a private key that cannot be used: {0}; make one for ECDSA P-256, Ed25519 or RSA with 2048 bits"
    )]
    BadKey(#[source] rustls::Error),
    #[error(
        "is not the private key of the certificate in `tls.cert_path` ({}); name the two that were made together",
        _0.display()
    )]
    OtherKey(PathBuf),
    #[error("has a certificate that cannot be used: {0}; make it again")]
    Unusable(#[source] rustls::Error),
    #[error("has no authority that clients could be checked with: {0}; name one that signs certificates")]
    NoAuthority(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the files held when they were read.
#[derive(Debug)]
pub(super) struct Files {
    cert: TlsFile,
    key: TlsFile,
    client_ca: Option<TlsFile>,
}

/// What new connections are to use.
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// The end of the server's certificate, in seconds since 1970.
    pub(super) expires_secs: u64,
}

impl Files {
    /// Reads the files that the settings name; none if there is to be no TLS. May take as long as the disk.
    pub(super) fn read(settings: &TlsConfig) -> Option<Self> {
        let (cert, key) = (settings.cert_path.as_deref()?, settings.key_path.as_deref()?);
        let client_ca = settings.client_ca_path.as_deref();
        Some(Self {
            cert: TlsFile::read("tls.cert_path", cert),
            key: TlsFile::read("tls.key_path", key),
            client_ca: client_ca.map(|path| TlsFile::read("tls.client_ca_path", path)),
        })
    }

    /// A certificate and a key of these texts.
    #[cfg(test)]
    pub(super) fn holding(cert: &str, key: &str) -> Self {
        let file = |setting, text: &str| TlsFile(PemFile::holding(setting, text));
        Self {
            cert: file("tls.cert_path", cert),
            key: file("tls.key_path", key),
            client_ca: None,
        }
    }

    /// Whether they hold the same, or cannot be read for the same reason.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let client_ca = match (&self.client_ca, &other.client_ca) {
            (Some(one), Some(other)) => one.0.same_as(&other.0),
            (None, None) => true,
            _ => false,
        };
        client_ca && self.cert.0.same_as(&other.cert.0) && self.key.0.same_as(&other.key.0)
    }

    /// Checks them, `now` being a time since 1970, and makes the configuration of them.
    pub(super) fn load(&self, now: Duration) -> Result<Loaded, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, validity) = self.chain(now)?;
        let certified = self.certified(chain, &provider)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring supports the versions of TLS that rustls deems safe");
        let builder = match &self.client_ca {
            Some(file) => builder.with_client_cert_verifier(file.verifier(now, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(Loaded {
            config: Arc::new(config),
            expires_secs: validity.not_after.to_unix_duration().as_secs(),
        })
    }

    /// The server's certificate with those behind it, and when it is valid: now. Those behind it may have ended: some
    /// authorities hand out such chains on purpose, and it is the client that decides.
    fn chain(&self, now: Duration) -> Result<(Vec<CertificateDer<'static>>, Validity), TlsError> {
        let chain = self.cert.certificates()?;
        let own = self.cert.validities(&chain)?[0];
        check(&own, now).map_err(|fault| self.cert.error(fault))?;
        Ok((chain, own))
    }

    fn certified(
        &self,
        chain: Vec<CertificateDer<'static>>,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, TlsError> {
        let key = self.key.private_key()?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| self.key.error(Fault::BadKey(error)))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(self.key.error(Fault::OtherKey(self.cert.0.path.clone())))
            }
            Err(error) => Err(self.cert.error(Fault::Unusable(error))),
        }
    }
}

/// A file, whose faults are told by its name.
#[derive(Debug)]
struct TlsFile(PemFile);

impl TlsFile {
    fn read(setting: &'static str, path: &Path) -> Self {
        Self(PemFile::read(setting, path))
    }

    fn error(&self, fault: impl Into<Fault>) -> TlsError {
        TlsError {
            setting: self.0.setting,
            path: self.0.path.clone(),
            fault: fault.into(),
        }
    }

    /// At least one.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        self.0.certificates().map_err(|fault| self.error(fault))
    }

    fn validities(&self, certificates: &[CertificateDer<'_>]) -> Result<Vec<Validity>, TlsError> {
        let parsed = certificates.iter().zip(1..).map(|(certificate, number)| {
            Certificate::from_der(certificate)
                .map(|certificate| *certificate.tbs_certificate().validity())
                .map_err(|source| self.error(Fault::Unparsable { number, source }))
        });
        parsed.collect()
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
        let bytes = self.0.bytes().map_err(|fault| self.error(fault))?;
        PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
            self.error(match error {
                pem::Error::NoItemsFound if memchr::memmem::find(bytes, ENCRYPTED).is_some() => {
                    Fault::Encrypted
                }
                pem::Error::NoItemsFound => PemFault::Lacks("private key", "PRIVATE KEY").into(),
                error => PemFault::NotPem(error).into(),
            })
        })
    }

    /// Lets only clients in whose certificate one of the file's authorities has signed. A bundle may have authorities
    /// that have ended, but not only such.
    fn verifier(
        &self,
        now: Duration,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let authorities = self.certificates()?;
        let validities = self.validities(&authorities)?;
        let faults = validities.iter().map(|validity| check(validity, now).err());
        if let Some(mut of_all) = faults.collect::<Option<Vec<_>>>()
            && let Some(fault) = of_all.pop()
        {
            return Err(self.error(fault));
        }
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots
                .add(authority)
                .map_err(|error| self.error(Fault::NoAuthority(error.into())))?;
        }
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .map_err(|error| self.error(Fault::NoAuthority(error.into())))
    }
}

fn check(validity: &Validity, now: Duration) -> Result<(), Fault> {
    let since_1970 = |time: &Time| time.to_unix_duration();
    if now > since_1970(&validity.not_after) {
        return Err(Fault::Expired(validity.not_after.to_date_time()));
    }
    if now < since_1970(&validity.not_before) {
        return Err(Fault::NotYetValid(validity.not_before.to_date_time()));
    }
    Ok(())
}
