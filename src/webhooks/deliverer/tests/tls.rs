//! Receivers with this or that certificate.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tailwater_storage::subscriptions::deliver::WebhookAnswer;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

use super::{deliver, failure};
use crate::webhooks::scene::{Line, Scene, deliverer, leads_to, read_request};

const DONE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"done\":true}";

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { issuer, dir }
    }

    fn path(&self) -> String {
        self.dir.path().join("ca.pem").display().to_string()
    }

    /// A receiver with a certificate for these names, which says that all is done.
    fn receiver(&self, names: &[&str]) -> Line {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Line::Receiver(Box::new(move |wire| {
            let acceptor = acceptor.clone();
            Box::pin(async move {
                // A sender that does not trust it goes away.
                let Ok(mut wire) = acceptor.accept(wire).await else {
                    return;
                };
                let request = read_request(&mut wire).await;
                assert!(request.contains("\r\nhost: hooks.example.com\r\n"), "{request}");
                wire.write_all(DONE).await.expect("the sender reads");
                wire.flush().await.expect("the sender reads");
            })
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_is_known_by_its_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (issuer, names, is_known) in [
        (&authority, &["hooks.example.com"][..], true),
        (&authority, &["*.example.com"], true),
        (&authority, &["example.com", "other.example.com"], false),
        (&other, &["hooks.example.com"], false),
    ] {
        let scene = Scene::with(issuer.receiver(names), &[leads_to(&["1.1.1.1"])]);
        let deliverer = deliverer(&scene, &[("ca_path", &authority.path())]);
        let answer = deliver(&deliverer, "https://hooks.example.com/").await;
        assert_eq!(scene.dialled(), ["1.1.1.1:443"]);
        if is_known {
            assert_eq!(answer, WebhookAnswer::Done, "{names:?}");
        } else {
            let error = failure(answer).expect("a failure");
            assert!(
                error.starts_with("no TLS with `hooks.example.com`: "),
                "{names:?}: {error}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_receiver_says_in_clear_on_a_port_of_tls_is_not_believed() {
    let authority = Authority::new();
    let in_clear = Line::Receiver(Box::new(|mut wire| {
        Box::pin(async move {
            wire.write_all(DONE).await.expect("the sender reads");
            std::future::pending::<()>().await;
        })
    }));
    let scene = Scene::with(in_clear, &[leads_to(&["1.1.1.1"])]);
    let deliverer = deliverer(&scene, &[("ca_path", &authority.path())]);
    let error = failure(deliver(&deliverer, "https://hooks.example.com/").await).expect("a failure");
    assert!(error.starts_with("no TLS with `hooks.example.com`: "), "{error}");
}
