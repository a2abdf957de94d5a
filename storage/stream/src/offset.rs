//! Ids, positions and the tokens that clients resume from (PROTOCOL.md §8).

use std::fmt;

/// Ids and positions stay below this, so that sixteen decimal digits hold them and text order is number order.
pub const LIMIT: u64 = 10_000_000_000_000_000;

/// Names one incarnation of a stream. Given at creation, never reused, growing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u64);

impl StreamId {
    /// An id from its number; none for 0 and for what sixteen digits cannot hold.
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 || number >= LIMIT {
            None
        } else {
            Some(Self(number))
        }
    }

    /// The id's number, from 1 and below [`LIMIT`].
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}", self.0)
    }
}

/// A byte position in a stream, from 0. The only unit that offsets are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position(u64);

impl Position {
    /// The beginning of every stream.
    pub const ZERO: Self = Self(0);

    /// The last position that a token can hold.
    pub const LAST: Self = Self(LIMIT - 1);

    /// A position from its number; none for what sixteen digits cannot hold.
    pub const fn new(number: u64) -> Option<Self> {
        if number >= LIMIT { None } else { Some(Self(number)) }
    }

    /// Bytes before this position.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position `bytes` further on; none past the last one that a token can hold.
    pub const fn advance(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(number) => Self::new(number),
            None => None,
        }
    }

    /// How many bytes lie between `earlier` and this position; 0 when it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a stream as clients hold it: `{id:016}_{position:016}`.
///
/// The id names the owner of the byte *before* the position; at position 0 there is none and it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OffsetToken {
    owner: u64,
    position: Position,
}

impl OffsetToken {
    /// The token of every stream's beginning.
    pub const START: Self = Self {
        owner: 0,
        position: Position::ZERO,
    };

    /// Length of a token's text in bytes.
    pub const TEXT_BYTES: usize = 33;

    /// The token of a position whose preceding byte belongs to `owner`.
    ///
    /// # Panics
    /// If the position is 0: the beginning has no owner, use [`Self::START`].
    pub fn new(owner: StreamId, position: Position) -> Self {
        assert!(position > Position::ZERO, "position 0 has no owner");
        Self {
            owner: owner.get(),
            position,
        }
    }

    /// The owner of the byte before the position; none at the beginning and in tokens that nobody minted.
    pub fn owner(self) -> Option<StreamId> {
        StreamId::new(self.owner)
    }

    /// The byte position.
    pub fn position(self) -> Position {
        self.position
    }

    /// Reads the token's text form; none if it is not exactly that form.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: &[u8; Self::TEXT_BYTES] = text.as_bytes().try_into().ok()?;
        if bytes[16] != b'_' {
            return None;
        }
        Some(Self {
            owner: sixteen_digits(&bytes[..16])?,
            position: Position(sixteen_digits(&bytes[17..])?),
        })
    }

    /// The token's text, written by hand because every answer carries one.
    pub fn to_text(self) -> [u8; Self::TEXT_BYTES] {
        let mut text = [b'_'; Self::TEXT_BYTES];
        write_sixteen_digits(self.owner, &mut text[..16]);
        write_sixteen_digits(self.position.0, &mut text[17..]);
        text
    }
}

impl fmt::Display for OffsetToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}_{:016}", self.owner, self.position.0)
    }
}

fn sixteen_digits(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0_u64, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + u64::from(byte - b'0'))
    })
}

fn write_sixteen_digits(mut number: u64, into: &mut [u8]) {
    for place in into.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Where a client asks to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset {
    /// `-1`, or no offset at all: the beginning.
    Start,
    /// `now`: the tail at the time of the request.
    Now,
    /// A token that a server gave out.
    At(OffsetToken),
}

impl Offset {
    /// Reads `-1`, `now` or a token; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "-1" => Some(Self::Start),
            "now" => Some(Self::Now),
            _ => OffsetToken::parse(text).map(Self::At),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_exactly_a_token_is_refused() {
        for text in [
            "",
            "0_0",
            "0000000000000000-0000000000000000",
            "0000000000000000_000000000000000",
            "0000000000000000_00000000000000000",
            "+000000000000000_0000000000000000",
            "000000000000000a_0000000000000000",
            "０000000000000_0000000000000000",
        ] {
            assert_eq!(OffsetToken::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_token_survives_its_text(owner in 1..LIMIT, position in 1..LIMIT) {
            let owner = StreamId::new(owner).expect("an id");
            let token = OffsetToken::new(owner, Position::new(position).expect("a position"));
            let text = token.to_text();
            let text = std::str::from_utf8(&text).expect("digits");
            prop_assert_eq!(text, token.to_string());
            prop_assert_eq!(OffsetToken::parse(text), Some(token));
        }

        #[test]
        fn text_order_is_token_order(a in (0..LIMIT, 0..LIMIT), b in (0..LIMIT, 0..LIMIT)) {
            let a = OffsetToken { owner: a.0, position: Position(a.1) };
            let b = OffsetToken { owner: b.0, position: Position(b.1) };
            prop_assert_eq!(a.to_text().cmp(&b.to_text()), a.cmp(&b));
        }

        #[test]
        fn any_text_parses_or_is_refused_without_panic(text in ".{0,40}") {
            if let Some(token) = OffsetToken::parse(&text) {
                prop_assert_eq!(token.to_string(), text);
            }
        }
    }
}
