//! The keys that webhooks are signed with, which of them signs now, which are published, and how one follows another.
//! Knows no file and no clock: times come in, in seconds since 1970.
//!
//! A new key is published first and signs later, once whoever keeps the published set for as long as its `Cache-Control`
//! allows has seen it. The key before stays published for long behind its last signature (PROTOCOL.md §6.5).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

/// How long others may keep the published set, in seconds.
pub(super) const SET_MAX_AGE_SECS: u64 = 300;
/// How long a key stays published once another one signs. Receivers should accept signatures for five minutes; those
/// that keep requests for later have a day.
const PUBLISHED_SECS: u64 = 24 * 60 * 60;
/// More keys are not published at once.
pub(super) const KEYS_MAX: usize = 16;
pub(super) const SEED_BYTES: usize = 32;
pub(super) const SECRET_BYTES: usize = 32;

/// What tokens are signed with.
pub(super) type Secret = [u8; SECRET_BYTES];

/// A key for signatures.
pub(super) struct SigningKey {
    pub(super) seed: [u8; SEED_BYTES],
    /// It signs from then on, until the next one does.
    pub(super) signs_from_secs: u64,
    pair: Ed25519KeyPair,
    kid: String,
}

/// All keys, and the secret of tokens beside them.
pub(super) struct KeyRing {
    /// The oldest first. Never empty, and the times do not go back.
    pub(super) keys: Vec<SigningKey>,
    pub(super) token_secret: Secret,
}

/// How a new key takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It is published now and signs once everybody can know it. The keys before stay published for a day behind that.
    Gradual,
    /// It signs now, nothing else is published any more, and tokens that are out are void: somebody else may know the
    /// keys before.
    AtOnce,
}

/// Why there is no new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{KEYS_MAX} keys are published already, of which the oldest goes in {wait_secs} seconds; wait for that, or replace \
     all of them at once (--at-once)"
)]
pub struct TooManyKeys {
    wait_secs: u64,
}

impl SigningKey {
    pub(super) fn new(seed: [u8; SEED_BYTES], signs_from_secs: u64) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("every 32 bytes are the seed of a key");
        let kid = kid(pair.public_key().as_ref());
        Self {
            seed,
            signs_from_secs,
            pair,
            kid,
        }
    }

    fn random(signs_from_secs: u64) -> Self {
        Self::new(random(), signs_from_secs)
    }

    /// Names the key, for as long as it lives.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    /// A signature in unpadded base64url.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(message))
    }

    fn jwk(&self) -> Value {
        json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": self.kid,
            "use": "sig",
            "alg": "EdDSA",
            "x": URL_SAFE_NO_PAD.encode(self.pair.public_key()),
        })
    }
}

impl KeyRing {
    /// One new key.
    pub(super) fn random(now_secs: u64) -> Self {
        Self {
            keys: vec![SigningKey::random(now_secs)],
            token_secret: random(),
        }
    }

    /// The key that signs. If the clock has gone back behind all of them, the oldest does.
    pub(super) fn signing(&self, now_secs: u64) -> &SigningKey {
        let begun = self.keys.iter().rev().find(|key| key.signs_from_secs <= now_secs);
        begun.or(self.keys.first()).expect("a ring is never empty")
    }

    /// The published set (RFC 7517).
    pub(super) fn key_set(&self, now_secs: u64) -> Value {
        let keys: Vec<_> = self.published(now_secs).map(SigningKey::jwk).collect();
        json!({ "keys": keys })
    }

    /// The keys of the published set, those to come among them.
    fn published(&self, now_secs: u64) -> impl Iterator<Item = &SigningKey> {
        let successors = self.keys.iter().skip(1).map(Some).chain([None]);
        let with_successors = self.keys.iter().zip(successors);
        with_successors
            .filter(move |(_, successor)| {
                successor.is_none_or(|successor| {
                    now_secs < successor.signs_from_secs.saturating_add(PUBLISHED_SECS)
                })
            })
            .map(|(key, _)| key)
    }

    /// The ring with a new key. Keys that are no longer published are left out.
    ///
    /// # Errors
    /// [`TooManyKeys`] if it would publish too many.
    pub(super) fn rotated(&self, rotation: Rotation, now_secs: u64) -> Result<Self, TooManyKeys> {
        if rotation == Rotation::AtOnce {
            return Ok(Self::random(now_secs));
        }
        let mut keys: Vec<_> = self
            .published(now_secs)
            .map(|key| SigningKey::new(key.seed, key.signs_from_secs))
            .collect();
        if keys.len() >= KEYS_MAX {
            let oldest_until = keys[1].signs_from_secs.saturating_add(PUBLISHED_SECS);
            return Err(TooManyKeys {
                wait_secs: oldest_until.saturating_sub(now_secs),
            });
        }
        let last = keys.last().map_or(0, |key| key.signs_from_secs);
        keys.push(SigningKey::random(last.max(now_secs + SET_MAX_AGE_SECS)));
        Ok(Self {
            keys,
            token_secret: self.token_secret,
        })
    }
}

/// The thumbprint of a public key (RFC 7638), behind a prefix by which this protocol's keys are known.
fn kid(public: &[u8]) -> String {
    // The members that the thumbprint is made of, in the order of their names and without spaces.
    let members = format!(
        r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#,
        URL_SAFE_NO_PAD.encode(public)
    );
    let thumbprint = digest::digest(&digest::SHA256, members.as_bytes());
    format!("ds_{}", URL_SAFE_NO_PAD.encode(thumbprint))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8037, appendix A.
    #[test]
    fn a_kid_is_the_thumbprint_of_the_public_key() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
        let seed = seed.expect("base64").try_into().expect("32 bytes");
        let key = SigningKey::new(seed, 0);
        assert_eq!(key.jwk()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.kid(), "ds_kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(
            key.sign(b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    fn kids(ring: &KeyRing, now_secs: u64) -> Vec<String> {
        let set = ring.key_set(now_secs);
        let keys = set["keys"].as_array().expect("a list");
        keys.iter()
            .map(|key| key["kid"].as_str().expect("a kid").to_owned())
            .collect()
    }

    #[test]
    fn a_new_key_is_published_before_it_signs_and_the_old_one_behind_its_last_signature() {
        let old = KeyRing::random(1000);
        let first = old.signing(1000).kid().to_owned();
        let ring = old.rotated(Rotation::Gradual, 5000).expect("room");
        let second = ring.keys[1].kid().to_owned();
        let both = vec![first.clone(), second.clone()];
        assert_eq!(kids(&ring, 5000), both);
        for (now_secs, signing) in [
            (5000, &first),
            (5299, &first),
            (5300, &second),
            (1_000_000, &second),
        ] {
            assert_eq!(ring.signing(now_secs).kid(), signing, "{now_secs}");
        }
        assert_eq!(kids(&ring, 5300 + PUBLISHED_SECS - 1), both);
        assert_eq!(kids(&ring, 5300 + PUBLISHED_SECS), [second]);
        assert_eq!(ring.signing(0).kid(), first, "a clock that went back");
        assert_eq!(
            ring.token_secret, old.token_secret,
            "tokens that are out stay good"
        );
    }

    #[test]
    fn at_once_nothing_of_the_old_keys_counts_any_more() {
        let old = KeyRing::random(1000);
        let ring = old.rotated(Rotation::AtOnce, 5000).expect("always");
        assert_eq!(ring.keys.len(), 1);
        assert_ne!(ring.signing(5000).kid(), old.signing(5000).kid());
        assert_eq!(kids(&ring, 5000), [ring.signing(5000).kid()]);
        assert_ne!(ring.token_secret, old.token_secret);
    }

    #[test]
    fn keys_that_nobody_needs_go_and_too_many_are_refused() {
        let mut ring = KeyRing::random(0);
        for _ in 1..KEYS_MAX {
            ring = ring.rotated(Rotation::Gradual, 1000).expect("room");
        }
        let refused = ring.rotated(Rotation::Gradual, 1100).map(|ring| ring.keys.len());
        let wait_secs = 1000 + SET_MAX_AGE_SECS + PUBLISHED_SECS - 1100;
        assert_eq!(refused, Err(TooManyKeys { wait_secs }));
        let later = ring.rotated(Rotation::Gradual, 1100 + wait_secs).expect("room");
        assert_eq!(later.keys.len(), 2, "the last one and a new one");
        assert_eq!(later.keys[0].kid(), ring.keys[KEYS_MAX - 1].kid());
    }
}
