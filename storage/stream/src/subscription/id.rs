//! Names of subscriptions and of their wakes. Knows nothing of what they do.

use std::fmt;
use std::sync::Arc;

use crate::name::StreamName;

/// A subscription's id, chosen by the client: one segment of a path. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(Arc<str>);

impl SubscriptionId {
    /// The most bytes in an id. With the prefix of its stream it fits a producer's id.
    pub const BYTES_MAX: usize = 200;

    /// Checks a decoded segment and makes it an id.
    ///
    /// # Errors
    /// An [`IdRefusal`] that says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, IdRefusal> {
        check(text).map(|()| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hidden stream that holds what is known of the subscription.
    pub fn stream(&self) -> StreamName {
        StreamName::of_subscription(self)
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// What every id that a client chooses for a thing of its own must be: one segment of a path.
pub(crate) fn check(text: &str) -> Result<(), IdRefusal> {
    if text.is_empty() {
        return Err(IdRefusal::Empty);
    }
    if text.len() > SubscriptionId::BYTES_MAX {
        return Err(IdRefusal::TooLong { bytes: text.len() });
    }
    if text == "." || text == ".." {
        return Err(IdRefusal::Dots);
    }
    match text.chars().find(|c| c.is_control() || *c == '/') {
        Some(character) => Err(IdRefusal::Character {
            code: u32::from(character),
        }),
        None => Ok(()),
    }
}

/// Why a text is no id of a subscription or of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdRefusal {
    /// Nothing stands there.
    #[error("the id is empty; put one behind `subscriptions/` or `schedules/`")]
    Empty,
    /// More bytes than allowed.
    #[error("the id has {bytes} bytes; at most {} are allowed", SubscriptionId::BYTES_MAX)]
    TooLong {
        /// Bytes in the id.
        bytes: usize,
    },
    /// `.` or `..`.
    #[error("the id is `.` or `..`; choose another one")]
    Dots,
    /// A slash or a control character.
    #[error("the id has the character U+{code:04X}; leave slashes and control characters out")]
    Character {
        /// The character's code point.
        code: u32,
    },
}

/// Names one wake: `w_` and 32 hexadecimal digits. It is not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WakeId(u128);

impl WakeId {
    /// The wake of a number that was drawn at random.
    pub const fn new(random: u128) -> Self {
        Self(random)
    }

    /// The number.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// Reads the text form; none if it is not exactly that form.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("w_").filter(|digits| digits.len() == 32)?;
        let is_plain = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if !digits.bytes().all(is_plain) {
            return None;
        }
        u128::from_str_radix(digits, 16).ok().map(Self)
    }
}

impl fmt::Display for WakeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w_{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_without_control_characters() {
        for text in ["sub-1", "é", "a b", "%2F", "..."] {
            assert_eq!(SubscriptionId::parse(text).expect("an id").as_str(), text);
        }
        assert_eq!(SubscriptionId::parse(""), Err(IdRefusal::Empty));
        assert_eq!(SubscriptionId::parse(".."), Err(IdRefusal::Dots));
        assert_eq!(
            SubscriptionId::parse("a/b"),
            Err(IdRefusal::Character { code: 47 })
        );
        assert_eq!(
            SubscriptionId::parse("a\nb"),
            Err(IdRefusal::Character { code: 10 })
        );
        let long = "x".repeat(201);
        assert_eq!(
            SubscriptionId::parse(&long),
            Err(IdRefusal::TooLong { bytes: 201 })
        );
    }

    #[test]
    fn a_wake_survives_its_text_and_no_other_text_is_one() {
        let wake = WakeId::new(0xabc);
        assert_eq!(WakeId::parse(&wake.to_string()), Some(wake));
        for text in [
            "",
            "w_",
            "w_abc",
            "w_+0000000000000000000000000000abc",
            "w_00000000000000000000000000000ABC",
        ] {
            assert_eq!(WakeId::parse(text), None, "{text}");
        }
    }
}
