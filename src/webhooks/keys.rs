//! The keys of a running server: signs webhooks, publishes the public keys, and rotates. Where keys are kept stands in
//! `key_file.rs`, and how one follows another in `key_ring.rs`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use http::HeaderValue;
use serde_json::Value;
use tailwater_storage::clock::Clock;
use tailwater_storage::stream::Timestamp;

use super::key_file::{self, FILE_NAME, KeyFileError};
use super::key_ring::{KeyRing, Rotation, Secret, TooManyKeys};
use crate::config::Config;

/// What webhooks and tokens are signed with.
pub struct Keys {
    current: RwLock<Arc<KeyRing>>,
    /// One rotation at a time.
    rotating: Mutex<()>,
    /// None if they are kept in memory alone.
    path: Option<PathBuf>,
    clock: Arc<dyn Clock>,
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// There are too many.
    #[error(transparent)]
    TooMany(#[from] TooManyKeys),
    /// It could not be kept, so it is not used.
    #[error(transparent)]
    File(#[from] KeyFileError),
}

/// What a rotation has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The new key.
    pub kid: String,
    /// When it signs, in seconds from now.
    pub signs_in_secs: u64,
    /// How many keys are published now.
    pub published: usize,
}

impl Keys {
    /// Where a server with this configuration keeps its keys; none if in memory alone.
    pub fn path_of(config: &Config) -> Option<PathBuf> {
        let in_data_dir = || config.storage.data_dir.join(FILE_NAME);
        let named = config.subscriptions.signing_keys_path.clone();
        named.or_else(|| config.storage.mode.is_on_disk().then(in_data_dir))
    }

    /// Reads the keys of a file, or makes the file with a new one. Without a file there is a new key each time.
    /// May take as long as the disk.
    ///
    /// # Errors
    /// [`KeyFileError`] if the file is damaged, or cannot be read or made.
    pub fn open(path: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, KeyFileError> {
        let kept = path.map(key_file::read).transpose()?.flatten();
        let ring = match kept {
            Some(ring) => ring,
            None => {
                let ring = KeyRing::random(now_secs(clock.as_ref()));
                path.map_or(Ok(()), |path| key_file::write(path, &ring))?;
                ring
            }
        };
        Ok(Self {
            current: RwLock::new(Arc::new(ring)),
            rotating: Mutex::new(()),
            path: path.map(Path::to_owned),
            clock,
        })
    }

    /// Names the key that signs now.
    pub fn kid(&self) -> String {
        self.current().signing(self.now_secs()).kid().to_owned()
    }

    /// The published set of public keys: the body of `GET __ds/jwks.json`.
    pub fn key_set(&self) -> Value {
        self.current().key_set(self.now_secs())
    }

    /// `Webhook-Signature` of a body that is sent now (PROTOCOL.md §7.1).
    pub(super) fn signature(&self, body: &[u8]) -> HeaderValue {
        let (ring, now_secs) = (self.current(), self.now_secs());
        let key = ring.signing(now_secs);
        let mut message = format!("{now_secs}.").into_bytes();
        message.extend_from_slice(body);
        let value = format!("t={now_secs},kid={},ed25519={}", key.kid(), key.sign(&message));
        HeaderValue::try_from(value).expect("digits and base64 may stand in a header")
    }

    /// Makes a new key. It is kept before anybody can see it. May take as long as the disk.
    ///
    /// # Errors
    /// [`RotateError`]; the keys are as they were then.
    pub fn rotate(&self, rotation: Rotation) -> Result<Rotated, RotateError> {
        let _alone = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let now_secs = self.now_secs();
        let ring = self.current().rotated(rotation, now_secs)?;
        if let Some(path) = &self.path {
            key_file::write(path, &ring)?;
        }
        let newest = ring.keys.last().expect("a ring is never empty");
        let rotated = Rotated {
            kid: newest.kid().to_owned(),
            signs_in_secs: newest.signs_from_secs.saturating_sub(now_secs),
            published: ring.keys.len(),
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(rotated)
    }

    pub(super) fn token_secret(&self) -> Secret {
        self.current().token_secret
    }

    pub(super) fn now_secs(&self) -> u64 {
        now_secs(self.clock.as_ref())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn current(&self) -> Arc<KeyRing> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn now_secs(clock: &dyn Clock) -> u64 {
    clock.now_micros() / 1_000_000
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::signature::{ED25519, UnparsedPublicKey};
    use tailwater_storage::clock::ManualClock;

    use super::*;

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::at_millis(1_800_000_000_999))
    }

    /// As a receiver does it: with the key of the set that the signature names.
    fn verifies(keys: &Keys, signature: &HeaderValue, body: &[u8]) -> bool {
        let text = signature.to_str().expect("text");
        let parts: Vec<_> = text.splitn(3, ',').collect();
        let part = |at: usize, name: &str| parts[at].strip_prefix(name).expect("the part").to_owned();
        let (time, kid, signature) = (part(0, "t="), part(1, "kid="), part(2, "ed25519="));
        let set = keys.key_set();
        let Some(key) = set["keys"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|key| key["kid"] == kid)
        else {
            return false;
        };
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url without padding");
        let public = UnparsedPublicKey::new(&ED25519, decode(key["x"].as_str().expect("a text")));
        let message = [format!("{time}.").as_bytes(), body].concat();
        public.verify(&message, &decode(&signature)).is_ok()
    }

    #[test]
    fn a_signature_is_of_the_time_and_the_body() {
        let keys = Keys::open(None, clock()).expect("in memory");
        let signature = keys.signature(b"{}");
        assert!(
            signature
                .to_str()
                .expect("text")
                .starts_with("t=1800000000,kid=ds_"),
            "{signature:?}"
        );
        assert!(verifies(&keys, &signature, b"{}"));
        assert!(!verifies(&keys, &signature, b"{ }"));
        let text = signature.to_str().expect("text").replace("t=18", "t=19");
        assert!(!verifies(
            &keys,
            &HeaderValue::try_from(text).expect("good"),
            b"{}"
        ));
    }

    #[test]
    fn a_restart_keeps_the_keys_and_without_a_file_they_are_new() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        let open = |path| Keys::open(path, clock()).expect("good");
        let first = open(Some(path.as_path()));
        let signature = first.signature(b"x");
        let again = open(Some(path.as_path()));
        assert_eq!((first.kid(), first.key_set()), (again.kid(), again.key_set()));
        assert_eq!(first.token_secret(), again.token_secret());
        assert!(verifies(&again, &signature, b"x"));
        assert_ne!(open(None).kid(), open(None).kid());
    }

    #[test]
    fn signatures_of_before_and_after_a_rotation_are_verified_by_what_is_published() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        let clock = clock();
        let keys = Keys::open(Some(path.as_path()), Arc::clone(&clock) as _).expect("good");
        let before = keys.signature(b"x");
        let rotated = keys.rotate(Rotation::Gradual).expect("room");
        assert_eq!((rotated.signs_in_secs, rotated.published), (300, 2));
        assert_ne!(keys.kid(), rotated.kid, "it does not sign yet");
        let between = keys.signature(b"x");
        clock.advance_millis(300_000);
        assert_eq!(keys.kid(), rotated.kid);
        let after = keys.signature(b"x");
        let again = Keys::open(Some(path.as_path()), Arc::clone(&clock) as _).expect("good");
        for signature in [&before, &between, &after] {
            assert!(verifies(&again, signature, b"x"), "{signature:?}");
        }
        let at_once = again.rotate(Rotation::AtOnce).expect("always");
        assert_eq!((at_once.signs_in_secs, at_once.published), (0, 1));
        assert!(!verifies(&again, &after, b"x"), "nothing of before counts");
        assert!(verifies(&again, &again.signature(b"x"), b"x"));
    }

    #[test]
    fn a_key_that_cannot_be_kept_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("below").join("keys");
        std::fs::create_dir(dir.path().join("below")).expect("made");
        let keys = Keys::open(Some(path.as_path()), clock()).expect("good");
        let set = keys.key_set();
        std::fs::remove_dir_all(dir.path().join("below")).expect("removed");
        let error = keys.rotate(Rotation::AtOnce).expect_err("there is no directory");
        assert!(
            error
                .to_string()
                .starts_with("cannot write the file of webhook keys"),
            "{error}"
        );
        assert_eq!(keys.key_set(), set);
    }
}
