//! One value of a line each: checked, or refused with its field, its value and the rule.

use std::fmt::Display;

use tailwater_storage::stream::{ContentType, NameLimits, OffsetToken, Position, StreamId, StreamName};

use super::error::{Mistake, quoted};

/// How many digits an id has.
const ID_DIGITS: usize = 16;

pub(super) fn id(field: impl Display, text: &str) -> Result<StreamId, Mistake> {
    let is_id = text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_id);
    number.and_then(StreamId::new).ok_or_else(|| {
        let fix = "an id is sixteen digits, from \"0000000000000001\" on";
        Mistake::value(field, quoted(text), fix)
    })
}

pub(super) fn position(field: impl Display, number: u64) -> Result<Position, Mistake> {
    Position::new(number).ok_or_else(|| {
        let fix = format_args!("a position is at most {}", Position::LAST);
        Mistake::value(field, number, fix)
    })
}

/// A position that is not beyond the tail.
pub(super) fn position_within(field: impl Display, number: u64, tail: Position) -> Result<Position, Mistake> {
    let position = position(&field, number)?;
    if position > tail {
        let fix = format_args!("it cannot be beyond the tail, which is {tail}");
        return Err(Mistake::value(field, number, fix));
    }
    Ok(position)
}

pub(super) fn name(field: impl Display, text: &str, limits: NameLimits) -> Result<StreamName, Mistake> {
    StreamName::parse_stored(text, limits).map_err(|refusal| Mistake::value(field, quoted(text), refusal))
}

pub(super) fn content_type(field: impl Display, text: &str) -> Result<ContentType, Mistake> {
    ContentType::parse(text).ok_or_else(|| {
        let fix = "a content type is type/subtype in ASCII, such as \"application/json\"";
        Mistake::value(field, quoted(text), fix)
    })
}

pub(super) fn token(field: impl Display, text: &str) -> Result<OffsetToken, Mistake> {
    OffsetToken::parse(text).ok_or_else(|| {
        let fix = "an offset is sixteen digits, `_`, and sixteen digits";
        Mistake::value(field, quoted(text), fix)
    })
}
