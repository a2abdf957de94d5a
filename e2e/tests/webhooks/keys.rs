//! Signatures, as somebody else's code verifies them, and the life of keys.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use tailwater_e2e::{Server, server};
use tempfile::TempDir;

use crate::receiver::{Receiver, body, header};
use crate::{DEVELOPMENT, published, subscribe, wake};

/// What stands before the 32 bytes of a public key of Ed25519 in DER (RFC 8410).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

fn start(dir: &Path) -> Server {
    Server::start_with(&[
        DEVELOPMENT,
        ("DS_STORAGE__MODE", "file-durable"),
        ("DS_STORAGE__DATA_DIR", dir.to_str().expect("a plain path")),
    ])
}

fn tailwater(arguments: &[&str], dir: &Path) -> Output {
    Command::new(server::binary())
        .args(arguments)
        .arg("--data-dir")
        .arg(dir)
        .output()
        .expect("the binary starts")
}

/// Whether OpenSSL says that a webhook is signed by the key of the set that it names.
fn openssl_verifies(request: &str, body: &str, set: &Value) -> bool {
    let signature = header(request, "webhook-signature");
    let (time, rest) = signature.split_once(",kid=").expect("a key");
    let (kid, signature) = rest.split_once(",ed25519=").expect("a signature");
    let time = time.strip_prefix("t=").expect("a time");
    let keys = set["keys"].as_array().expect("a list");
    let key = keys
        .iter()
        .find(|key| key["kid"] == kid)
        .expect("a published key");
    let public = URL_SAFE_NO_PAD
        .decode(key["x"].as_str().expect("a text"))
        .expect("base64url");
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode([&SPKI[..], &public].concat())
    );
    let verified = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"])
        .arg(file("key.pem", pem.as_bytes()))
        .arg("-in")
        .arg(file("message", format!("{time}.{body}").as_bytes()))
        .arg("-sigfile")
        .arg(file(
            "signature",
            &URL_SAFE_NO_PAD.decode(signature).expect("base64url"),
        ))
        .output()
        .expect("openssl is there");
    verified.status.success()
}

fn kids(server: &Server) -> Vec<String> {
    let set = published(server);
    let keys = set["keys"].as_array().expect("a list").iter();
    keys.map(|key| key["kid"].as_str().expect("a text").to_owned())
        .collect()
}

#[test]
fn openssl_verifies_what_is_sent_and_nothing_else() {
    let server = Server::start_with(&[DEVELOPMENT]);
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    subscribe(&server, "s", &receiver.url()).expect(201);
    wake(&server, "s");
    let request = receiver.request();
    let set = published(&server);
    assert!(openssl_verifies(&request, body(&request), &set));
    assert!(!openssl_verifies(
        &request,
        &body(&request).replace("s/x", "s/y"),
        &set
    ));
    server.stop();
}

#[test]
fn keys_outlive_restarts_and_go_along_with_copies() {
    let above = tempfile::tempdir().expect("a directory");
    let (dir, copy) = (above.path().join("data"), above.path().join("copy"));
    let first = start(&dir);
    let known = kids(&first);
    let mode = dir
        .join("webhook-keys")
        .metadata()
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let copied = tailwater(&["backup", "--to", copy.to_str().expect("a plain path")], &dir);
    assert!(copied.status.success(), "{copied:?}");
    first.stop();
    let again = start(&dir);
    assert_eq!(kids(&again), known);
    let of_copy = start(&copy);
    assert_eq!(kids(&of_copy), known);
    of_copy.stop();
    again.stop();
    // Also without a server.
    let second = above.path().join("second");
    let copied = tailwater(&["backup", "--to", second.to_str().expect("a plain path")], &dir);
    assert!(copied.status.success(), "{copied:?}");
    let of_second = start(&second);
    assert_eq!(kids(&of_second), known);
    of_second.stop();
    let verified = tailwater(&["verify"], &second);
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn keys_are_rotated_while_the_server_runs() {
    let dir = TempDir::new().expect("a directory");
    let server = start(dir.path());
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let old = kids(&server);
    let rotated = tailwater(&["sub", "rotate-key", "--json"], dir.path());
    assert!(rotated.status.success(), "{rotated:?}");
    let rotated: Value = serde_json::from_slice(&rotated.stdout).expect("JSON");
    let kid = rotated["kid"].as_str().expect("a text").to_owned();
    assert_eq!(
        (&rotated["signs_in_secs"], &rotated["published"]),
        (&300.into(), &2.into())
    );
    assert_eq!(kids(&server), [old[0].clone(), kid]);
    // Nobody can know the new one yet.
    subscribe(&server, "before", &receiver.url()).expect(201);
    wake(&server, "before");
    let request = receiver.request();
    assert!(header(&request, "webhook-signature").contains(&old[0]));
    assert!(openssl_verifies(&request, body(&request), &published(&server)));

    let rotated = tailwater(&["sub", "rotate-key", "--at-once"], dir.path());
    assert!(rotated.status.success(), "{rotated:?}");
    let now = kids(&server);
    let said = String::from_utf8_lossy(&rotated.stdout).into_owned();
    assert_eq!(
        said,
        format!("{} signs from now on; keys that are published: 1\n", now[0])
    );
    assert!(now.len() == 1 && now != old);
    subscribe(&server, "after", &receiver.url()).expect(201);
    wake(&server, "after");
    let request = std::iter::repeat_with(|| receiver.request())
        .find(|request| body(request).contains(r#""subscription_id":"after""#))
        .expect("one comes");
    assert!(openssl_verifies(&request, body(&request), &published(&server)));
    server.stop();
    let nobody = tailwater(&["sub", "rotate-key"], dir.path());
    assert_eq!(nobody.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&nobody.stderr).contains("no server listens in "),
        "{nobody:?}"
    );
}

#[test]
fn a_damaged_file_of_keys_is_told_of_and_not_replaced() {
    let dir = TempDir::new().expect("a directory");
    start(dir.path()).stop();
    let path = dir.path().join("webhook-keys");
    let mut text = std::fs::read(&path).expect("there");
    text[60] ^= 1;
    std::fs::write(&path, &text).expect("written");
    let dir = dir.path().to_str().expect("a plain path");
    let (code, said) = Server::refusal(&[
        ("DS_STORAGE__MODE", "file-durable"),
        ("DS_STORAGE__DATA_DIR", dir),
    ]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("webhook-keys, is damaged: its checksum is not that of its text; put it back"),
        "{said}"
    );
    assert_eq!(std::fs::read(&path).expect("there"), text);
}
