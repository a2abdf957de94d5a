//! The query of a read: where to begin, and how to go on.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use tailwater_storage::stream::Offset;

use super::error::Problem;
use super::headers;

/// How a read goes on at the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Live {
    /// It ends there.
    #[default]
    No,
    /// It waits for one more answer.
    LongPoll,
    /// It stays.
    Sse,
}

/// What an answer shows of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) enum View {
    /// Its bytes, or its messages as a JSON array.
    #[default]
    Content,
    /// Each message with its offset, time and number.
    Records,
}

/// How many entries of a list to give at the most: as many as are asked for, and never more than `limit_max`.
pub(crate) fn limit(text: &str, limit_max: usize) -> Result<usize, Problem> {
    let limit = headers::decimal(text, u64::MAX).filter(|limit| *limit > 0);
    let limit = limit.ok_or_else(|| {
        Problem::query(
            "limit",
            &format!("is {text:?}; send a number from 1 to {limit_max}"),
        )
    })?;
    Ok(limit_max.min(usize::try_from(limit).unwrap_or(limit_max)))
}

/// The query of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ReadQuery {
    pub(crate) offset: Option<Offset>,
    pub(crate) live: Live,
    pub(crate) view: View,
    /// The cursor of an earlier answer. What is no number is nobody's cursor and is passed over.
    pub(crate) cursor: Option<u64>,
}

impl ReadQuery {
    /// Reads a query. Unknown parameters are passed over, as clients may add their own (PROTOCOL.md §11).
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for (name, value) in pairs(query.unwrap_or_default()) {
            match name {
                "offset" => {
                    if parsed.offset.is_some() {
                        return Err(Problem::query("offset", "is given more than once; give it once"));
                    }
                    parsed.offset = Some(offset(&value)?);
                }
                "live" => {
                    let allowed = [("long-poll", Live::LongPoll), ("sse", Live::Sse)];
                    parsed.live = choice("live", &value, &allowed)?;
                }
                "view" => parsed.view = choice("view", &value, &[("records", View::Records)])?,
                "cursor" => parsed.cursor = value.parse().ok(),
                _ => {}
            }
        }
        if parsed.live != Live::No && parsed.offset.is_none() {
            return Err(Problem::query(
                "offset",
                "is missing; live reads need one: `-1`, `now`, or an offset",
            ));
        }
        Ok(parsed)
    }
}

/// An offset in a query or in `Last-Event-ID`.
pub(crate) fn offset(text: &str) -> Result<Offset, Problem> {
    Offset::parse(text).ok_or_else(|| Problem::offset(text))
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(name: &str, text: &str, allowed: &[(&str, T)]) -> Result<T, Problem> {
    let found = allowed.iter().find(|(word, _)| *word == text);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = allowed.iter().map(|(word, _)| format!("`{word}`")).collect();
        Problem::query(name, &format!("is {text:?}; allowed: {}", words.join(", ")))
    })
}

/// The pairs of a query, values decoded.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name, decode(value))
    })
}

fn decode(value: &str) -> Cow<'_, str> {
    if value.bytes().any(|byte| byte == b'+') {
        let spaced = value.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(value).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_in_any_order_and_what_is_unknown_is_passed_over() {
        let query = ReadQuery::parse(Some("x=1&cursor=12&live=sse&offset=now&view=records")).expect("valid");
        assert_eq!((query.offset, query.live), (Some(Offset::Now), Live::Sse));
        assert_eq!((query.view, query.cursor), (View::Records, Some(12)));
        assert_eq!(ReadQuery::parse(None).expect("valid"), ReadQuery::default());
        assert_eq!(
            ReadQuery::parse(Some("offset=%2D1")).expect("valid").offset,
            Some(Offset::Start)
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for query in [
            "offset=",
            "offset=0,1",
            "offset=a%20b",
            "offset=-1&offset=-1",
            "live=yes&offset=-1",
            "live=sse",
            "view=x",
        ] {
            assert!(ReadQuery::parse(Some(query)).is_err(), "{query}");
        }
    }
}
