//! TLS of a connection to PostgreSQL, by rustls. Knows nothing of what is spoken over it.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ring::digest::{self, SHA256, SHA384, SHA512};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::{TlsConnector, client};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Authorities that no server can be checked with.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The file cannot be read, or is no PEM.
    #[error("the file of authorities {} cannot be used: {source}; name a readable file in PEM", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// There is no usable certificate in it.
    #[error(
        "the file of authorities {} has no certificate of an authority; name one that signs certificates",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Makes TLS out of connections to servers that an authority vouches for.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the authorities of that file, or those of this machine.
    pub(super) fn trusting(ca_path: Option<&Path>) -> Result<Self, CaError> {
        let roots = match ca_path {
            Some(path) => read_roots(path)?,
            None => machine_roots(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the versions of TLS that rustls deems safe")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, CaError> {
    let unreadable = |source| CaError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        // One that no server can be checked with does not spoil the others.
        let _ = roots.add(certificate.map_err(unreadable)?);
    }
    if roots.is_empty() {
        return Err(CaError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(roots)
}

/// A machine without authorities can still reach servers in clear; any other is then told that nobody vouches for it.
fn machine_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = InvalidDnsNameError;

    /// Also called for connections that will not speak TLS, such as those by Unix sockets, which have no name.
    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, InvalidDnsNameError> {
        Ok(Handshake {
            connector: TlsConnector::from(Arc::clone(&self.0)),
            host: ServerName::try_from(host.to_owned()),
        })
    }
}

/// A handshake that is about to be made.
pub(super) struct Handshake {
    connector: TlsConnector,
    host: Result<ServerName<'static>, InvalidDnsNameError>,
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = BoxedError;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted<S>, BoxedError>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let stream = self.connector.connect(self.host?, stream).await?;
            Ok(Encrypted(stream))
        })
    }
}

/// A connection that speaks TLS.
pub(super) struct Encrypted<S>(client::TlsStream<S>);

impl<S> TlsStream for Encrypted<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let own = session.peer_certificates().and_then(|chain| chain.first());
        match own.and_then(|certificate| end_point(certificate)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

/// The hash of a server's certificate that passwords are bound to (RFC 5929 §4.1): with the hash function of its
/// signature, or SHA-256 if that is an older one. A signature without one, such as Ed25519's, has no such binding.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const OLDER: [&str; 2] = ["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5"];
    const WITH_SHA256: [&str; 2] = ["1.2.840.113549.1.1.11", "1.2.840.10045.4.3.2"];
    const WITH_SHA384: [&str; 2] = ["1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3"];
    const WITH_SHA512: [&str; 2] = ["1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4"];

    let parsed = Certificate::from_der(certificate).ok()?;
    let signature: ObjectIdentifier = parsed.signature_algorithm().oid;
    let is_one_of = |all: [&str; 2]| all.contains(&signature.to_string().as_str());
    let algorithm = if is_one_of(OLDER) || is_one_of(WITH_SHA256) {
        &SHA256
    } else if is_one_of(WITH_SHA384) {
        &SHA384
    } else if is_one_of(WITH_SHA512) {
        &SHA512
    } else {
        return None;
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
