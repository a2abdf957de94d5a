//! Tokens by which receivers and workers answer for one wake (PROTOCOL.md §7.1, §7.2, §12.9): JSON Web Tokens under
//! HMAC-SHA-256. A token tells which wake it was given for; whether that wake still counts is for others to say.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::keys::Keys;

/// The header of every token, encoded: `{"alg":"HS256","typ":"JWT"}`. No other one is looked into, so nobody can choose
/// another algorithm.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
/// How long a token may be used. A lease ends long before, unless it is extended all the time: then its holder has to let
/// it go once a day. It is the wake that bounds what a token is good for, not this.
const TOKEN_SECS: u64 = 24 * 60 * 60;
/// A longer token is none of ours.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// What a token is for. One for callbacks is of no use for acks of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenUse {
    /// Given with a webhook, for its `callback_url`.
    Callback,
    /// Given to a worker that has claimed a subscription, for `ack` and `release`.
    Claim,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The subscription.
    #[serde(rename = "sub")]
    pub subscription: String,
    /// What it is for.
    #[serde(rename = "use")]
    pub purpose: TokenUse,
    /// The generation of the wake.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// The wake.
    #[serde(rename = "wake")]
    pub wake_id: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(flatten)]
    token: Token,
    exp: u64,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of this server, or was changed, or the keys were replaced at once.
    #[error(
        "the token is none that this server has given out; send the one that came with the wake, as it came"
    )]
    Invalid,
    /// It was given for another subscription.
    #[error("the token is for another subscription; send the one that came with this one's wake")]
    OtherSubscription,
    /// It was given for other requests.
    #[error(
        "the token is for other requests: callback tokens are for callbacks, claim tokens for ack and release"
    )]
    OtherUse,
    /// Its time is over.
    #[error("the token expired {ago_secs} seconds ago; wait for the next wake, or claim again")]
    Expired {
        /// Seconds since then.
        ago_secs: u64,
    },
}

impl TokenError {
    /// The code of the protocol's error body.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid | Self::OtherSubscription | Self::OtherUse => "TOKEN_INVALID",
            Self::Expired { .. } => "TOKEN_EXPIRED",
        }
    }
}

impl Keys {
    /// Gives out a token.
    pub fn issue(&self, token: &Token) -> String {
        let claims = Claims {
            token: token.clone(),
            exp: self.now_secs().saturating_add(TOKEN_SECS),
        };
        let claims = serde_json::to_vec(&claims).expect("texts and numbers can be written");
        let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&self.token_key(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// Reads a token that came with a request to a subscription.
    ///
    /// # Errors
    /// [`TokenError`]. Nothing of a token is believed before its signature is checked, which takes the same time for
    /// every wrong one.
    pub fn verify(&self, text: &str, subscription: &str, purpose: TokenUse) -> Result<Token, TokenError> {
        let Claims { token, exp } = self.claims(text).ok_or(TokenError::Invalid)?;
        if token.subscription != subscription {
            return Err(TokenError::OtherSubscription);
        }
        if token.purpose != purpose {
            return Err(TokenError::OtherUse);
        }
        let now_secs = self.now_secs();
        if now_secs >= exp {
            return Err(TokenError::Expired {
                ago_secs: now_secs - exp,
            });
        }
        Ok(token)
    }

    fn claims(&self, text: &str) -> Option<Claims> {
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, tag) = text.rsplit_once('.')?;
        let claims = signed.strip_prefix(HEADER)?.strip_prefix('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.token_key(), signed.as_bytes(), &tag).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    fn token_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.token_secret())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tailwater_storage::clock::ManualClock;

    use super::*;
    use crate::webhooks::Rotation;

    fn keys() -> (Keys, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at_millis(1_800_000_000_000));
        (
            Keys::open(None, Arc::clone(&clock) as _).expect("in memory"),
            clock,
        )
    }

    fn token() -> Token {
        Token {
            subscription: "sub-1".to_owned(),
            purpose: TokenUse::Callback,
            generation: 7,
            wake_id: "w_abc".to_owned(),
        }
    }

    #[test]
    fn a_token_says_what_it_was_given_for_and_is_a_jwt() {
        let (keys, _clock) = keys();
        let text = keys.issue(&token());
        assert_eq!(keys.verify(&text, "sub-1", TokenUse::Callback), Ok(token()));
        let parts: Vec<_> = text
            .split('.')
            .map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64"))
            .collect();
        assert_eq!(parts[0], br#"{"alg":"HS256","typ":"JWT"}"#);
        assert_eq!(
            String::from_utf8_lossy(&parts[1]),
            r#"{"sub":"sub-1","use":"callback","gen":7,"wake":"w_abc","exp":1800086400}"#
        );
    }

    #[test]
    fn a_token_is_refused_where_and_when_it_was_not_given_for() {
        let (keys, clock) = keys();
        let text = keys.issue(&token());
        let refused = |subscription, purpose| keys.verify(&text, subscription, purpose).expect_err("refused");
        assert_eq!(
            refused("sub-2", TokenUse::Callback),
            TokenError::OtherSubscription
        );
        assert_eq!(refused("sub-1", TokenUse::Claim), TokenError::OtherUse);
        clock.advance_millis(86_399_999);
        assert_eq!(keys.verify(&text, "sub-1", TokenUse::Callback), Ok(token()));
        clock.advance_millis(5_001);
        let expired = refused("sub-1", TokenUse::Callback);
        assert_eq!(
            (expired, expired.code()),
            (TokenError::Expired { ago_secs: 5 }, "TOKEN_EXPIRED")
        );
    }

    #[test]
    fn a_gradual_rotation_keeps_tokens_and_one_at_once_ends_them() {
        let (keys, _clock) = keys();
        let text = keys.issue(&token());
        keys.rotate(Rotation::Gradual).expect("room");
        assert_eq!(keys.verify(&text, "sub-1", TokenUse::Callback), Ok(token()));
        keys.rotate(Rotation::AtOnce).expect("always");
        assert_eq!(
            keys.verify(&text, "sub-1", TokenUse::Callback),
            Err(TokenError::Invalid)
        );
    }

    #[test]
    fn what_this_server_has_not_signed_is_no_token() {
        let (keys, _clock) = keys();
        let text = keys.issue(&token());
        let other = Keys::open(None, Arc::new(ManualClock::at_millis(1_800_000_000_000))).expect("in memory");
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let claims = text.split('.').nth(1).expect("claims");
        for wrong in [
            String::new(),
            "x".to_owned(),
            "..".to_owned(),
            other.issue(&token()),
            format!("{none}.{claims}."),
            format!("{HEADER}.{claims}."),
            format!("{HEADER}.{claims}"),
            format!("{text}."),
            format!("{text}A"),
            format!(".{text}"),
            "x".repeat(1 << 20),
        ] {
            let verified = keys.verify(&wrong, "sub-1", TokenUse::Callback);
            assert_eq!(verified, Err(TokenError::Invalid), "{wrong:.200}");
        }
    }

    proptest! {
        #[test]
        fn a_token_with_any_character_changed_is_refused(place in any::<prop::sample::Index>(), to in "[A-Za-z0-9_-]") {
            let (keys, _clock) = keys();
            let text = keys.issue(&token());
            let place = place.index(text.len());
            let changed = format!("{}{to}{}", &text[..place], &text[place + 1..]);
            prop_assume!(changed != text);
            prop_assert_eq!(keys.verify(&changed, "sub-1", TokenUse::Callback), Err(TokenError::Invalid));
        }
    }
}
