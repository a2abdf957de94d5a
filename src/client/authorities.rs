//! Whom a client believes that a server is the one it asks for. Knows no request.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::error::ClientError;
use crate::pem::PemFile;

/// How the file of authorities is named by whoever uses the command line.
const SETTING: &str = "TAILWATER_CA_FILE";

/// TLS that knows servers by the authorities of the system, and by those of a file. Plain HTTP needs none, and loading the
/// machine's takes longer than many a command.
pub(super) fn tls(is_tls: bool, file: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    if is_tls {
        if let Some(path) = file {
            add_file(&mut roots, path)?;
        }
        let of_system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(of_system.certs);
        if roots.is_empty() {
            let first = of_system.errors.into_iter().next();
            let source = first.map_or_else(|| io::ErrorKind::NotFound.into(), io::Error::other);
            return Err(ClientError::NoAuthorities { source });
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the versions of TLS that rustls deems safe")
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), ClientError> {
    let bad = |reason: String| ClientError::BadAuthorities {
        path: path.to_owned(),
        reason,
    };
    let certificates = PemFile::read(SETTING, path)
        .certificates()
        .map_err(|fault| bad(fault.to_string()))?;
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| bad(format!("has a certificate that cannot be used: {error}")))?;
    }
    Ok(())
}
