//! Makes tokens that the edge's own script would not make, and publishes keys as an issuer does, by TLS.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// Signs tokens with a key that `envoy/setup` has made.
#[derive(Debug)]
pub struct Signer(RsaKeyPair);

impl Signer {
    /// The signer with the key in that directory.
    #[track_caller]
    pub fn of(directory: &Path) -> Self {
        let key = PrivatePkcs8KeyDer::from_pem_file(directory.join("token-key.pem")).expect("a private key");
        Self(RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).expect("an RSA key"))
    }

    /// A token of these claims, as the edge expects them to be signed.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(
            &json!({"alg": "RS256", "typ": "JWT", "kid": "development"}),
            claims,
        )
    }

    /// A token with another header, which is signed by RS256 whatever that says.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and claims of a token, without the point that a signature follows.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A token signed by HMAC (HS256) with any bytes as the key.
pub fn sign_with_secret(secret: &[u8], claims: &Value) -> String {
    let signed = unsigned(
        &json!({"alg": "HS256", "typ": "JWT", "kid": "development"}),
        claims,
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let tag = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Claims that the edge for development accepts: alice, for five minutes, with these entries in `streams`.
pub fn claims(streams: &[&str]) -> Value {
    json!({
        "iss": "https://issuer.localhost/",
        "aud": "tailwater",
        "sub": "alice",
        "exp": now() + 300,
        "streams": streams,
    })
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("the clock is behind 1970").as_secs()
}

/// Publishes keys at every path. Its threads end with the process of the test.
#[derive(Debug)]
pub struct KeyServer {
    address: SocketAddr,
    keys: Arc<Mutex<String>>,
    asked: Arc<Mutex<usize>>,
}

impl KeyServer {
    /// Publishes the keys of that text (a JWK set) by TLS.
    pub fn start(keys: &str, tls: &Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let keys = Arc::new(Mutex::new(keys.to_owned()));
        let asked = Arc::new(Mutex::new(0));
        let (shown, counted, tls) = (Arc::clone(&keys), Arc::clone(&asked), Arc::clone(tls));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let keys = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if answer(socket, &tls, &keys).is_ok() {
                    *counted.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                }
            }
        });
        Self { address, keys, asked }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Publishes other keys from here on.
    pub fn publish(&self, keys: &str) {
        keys.clone_into(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How often it was asked and has answered.
    pub fn asked(&self) -> usize {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one request and hangs up.
fn answer(socket: TcpStream, tls: &Arc<ServerConfig>, keys: &str) -> std::io::Result<()> {
    let session = ServerConnection::new(Arc::clone(tls)).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(session, socket));
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        line.clear();
    }
    let to = stream.get_mut();
    write!(
        to,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{keys}",
        keys.len()
    )?;
    to.conn.send_close_notify();
    to.flush()
}
