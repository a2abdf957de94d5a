//! Whose signatures the certificates of receivers need: the authorities that the system trusts, and those of a file.
//! Knows no connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

use crate::pem::{PemFault, PemFile};

const SETTING: &str = "subscriptions.ca_path";

/// Why `subscriptions.ca_path` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{SETTING}` ({}) {fault}", path.display())]
pub struct AuthoritiesError {
    path: PathBuf,
    #[source]
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Pem(#[from] PemFault),
    #[error("has a certificate that is no authority's: {0}; name one that signs certificates")]
    NoAuthority(#[source] rustls::Error),
}

/// There is nobody whose signature would count.
#[derive(Debug, thiserror::Error)]
#[error(
    "this machine trusts no authority, so no certificate can be checked; install its certificates (the package \
     ca-certificates), or name some in subscriptions.ca_path"
)]
pub(super) struct NoAuthorities;

/// How receivers are known.
pub(super) struct Authorities {
    from_file: RootCertStore,
    /// Made when the first webhook goes over TLS: reading what the system trusts takes a while, and most servers send
    /// none.
    tls: OnceCell<Arc<ClientConfig>>,
}

impl Authorities {
    /// Reads the file of authorities that counts beside the system's, if one is named.
    ///
    /// # Errors
    /// [`AuthoritiesError`], which says what is wrong with the file.
    pub(super) fn read(path: Option<&Path>) -> Result<Self, AuthoritiesError> {
        let from_file = path.map(|path| {
            read(path).map_err(|fault| AuthoritiesError {
                path: path.to_owned(),
                fault,
            })
        });
        Ok(Self {
            from_file: from_file.transpose()?.unwrap_or_else(RootCertStore::empty),
            tls: OnceCell::new(),
        })
    }

    /// TLS that knows receivers by these authorities.
    pub(super) async fn tls(&self) -> Result<Arc<ClientConfig>, NoAuthorities> {
        let made = self.tls.get_or_try_init(|| async {
            let mut roots = self.from_file.clone();
            let of_system = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
            let of_system = of_system.map(|loaded| loaded.certs).unwrap_or_default();
            roots.add_parsable_certificates(of_system);
            if roots.is_empty() {
                return Err(NoAuthorities);
            }
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring supports the versions of TLS that rustls deems safe")
                .with_root_certificates(roots)
                .with_no_client_auth();
            Ok(Arc::new(config))
        });
        made.await.cloned()
    }
}

fn read(path: &Path) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in PemFile::read(SETTING, path).certificates()? {
        roots.add(certificate).map_err(Fault::NoAuthority)?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_authorities_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.pem");
        let said = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(&path, text).expect("written");
            }
            Authorities::read(Some(&path)).err().expect("refused").to_string()
        };
        assert!(said(None).contains("ca.pem) cannot be read: "));
        assert!(said(Some("nothing")).contains("ca.pem) has no certificate in PEM"));
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(said(Some(broken)).contains("ca.pem) is not PEM"));
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(said(Some(other)).contains("ca.pem) has a certificate that is no authority's"));
        let long = "x".repeat((1 << 20) + 1);
        assert!(said(Some(&long)).contains("ca.pem) has more than"));
        assert!(Authorities::read(None).is_ok());
    }
}
