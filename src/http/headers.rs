//! Header names of the protocol, and how header values are read and written.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tailwater_storage::stream::producer::NUMBER_MAX;
use tailwater_storage::stream::{ContentType, Epoch, Lifetime, OffsetToken, ProducerId, ProducerMark, Seq};

use super::error::Problem;
use super::request_head::Fields;
use super::time;

macro_rules! header_names {
    ($($name:ident = $text:literal;)+) => {
        $(pub(crate) static $name: HeaderName = HeaderName::from_static($text);)+
    };
}

header_names! {
    STREAM_NEXT_OFFSET = "stream-next-offset";
    STREAM_UP_TO_DATE = "stream-up-to-date";
    STREAM_CLOSED = "stream-closed";
    STREAM_CURSOR = "stream-cursor";
    STREAM_SEQ = "stream-seq";
    STREAM_TTL = "stream-ttl";
    STREAM_EXPIRES_AT = "stream-expires-at";
    STREAM_FORKED_FROM = "stream-forked-from";
    STREAM_FORK_OFFSET = "stream-fork-offset";
    STREAM_FORK_SUB_OFFSET = "stream-fork-sub-offset";
    STREAM_OLDEST_OFFSET = "stream-oldest-offset";
    STREAM_SSE_DATA_ENCODING = "stream-sse-data-encoding";
    PRODUCER_ID = "producer-id";
    PRODUCER_EPOCH = "producer-epoch";
    PRODUCER_SEQ = "producer-seq";
    PRODUCER_EXPECTED_SEQ = "producer-expected-seq";
    PRODUCER_RECEIVED_SEQ = "producer-received-seq";
    RUN_STATE = "run-state";
    RUN_ATTEMPT = "run-attempt";
    RUN_QUEUE = "run-queue";
    LAST_EVENT_ID = "last-event-id";
    X_RATELIMIT_LIMIT = "x-ratelimit-limit";
    X_RATELIMIT_REMAINING = "x-ratelimit-remaining";
    CROSS_ORIGIN_RESOURCE_POLICY = "cross-origin-resource-policy";
}

pub(crate) static TRUE: HeaderValue = HeaderValue::from_static("true");
pub(crate) static NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// An offset as a header value.
pub(crate) fn token(token: OffsetToken) -> HeaderValue {
    HeaderValue::from_bytes(&token.to_text()).expect("digits and an underscore")
}

/// A number as a header value.
pub(crate) fn number(number: u64) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(number)).expect("digits")
}

/// A text from a client, which came in a header or was checked to be printable.
pub(crate) fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("invalid"))
}

/// The only value of a header, as text; none if the header is absent.
pub(crate) fn single<'h>(fields: &'h impl Fields, name: &'h HeaderName) -> Result<Option<&'h str>, Problem> {
    let mut values = fields.values(name);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(given_twice(name));
    }
    value_text(name, value).map(Some)
}

fn given_twice(name: &HeaderName) -> Problem {
    Problem::header(name, "is given more than once; give it once")
}

fn value_text<'h>(name: &HeaderName, value: &'h [u8]) -> Result<&'h str, Problem> {
    let is_printable = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    let text = is_printable.then(|| std::str::from_utf8(value).ok()).flatten();
    text.ok_or_else(|| Problem::header(name, "has characters other than printable ASCII; remove them"))
}

/// Whether `Stream-Closed` is `true`, in any case. Any other value means that it is absent (PROTOCOL.md §4.1).
pub(crate) fn closed(fields: &impl Fields) -> Result<bool, Problem> {
    let mut values = fields.values(&STREAM_CLOSED);
    let closes = values
        .next()
        .is_some_and(|value| value.eq_ignore_ascii_case(b"true"));
    match values.next() {
        None => Ok(closes),
        Some(_) => Err(given_twice(&STREAM_CLOSED)),
    }
}

/// `Content-Type`, if there is one.
pub(crate) fn content_type(fields: &impl Fields) -> Result<Option<ContentType>, Problem> {
    let name = &http::header::CONTENT_TYPE;
    let Some(text) = single(fields, name)?.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    match ContentType::parse(text) {
        Some(content_type) => Ok(Some(content_type)),
        None => Err(Problem::header(
            name,
            &format!("is {text:?}; send a media type such as `application/json`"),
        )),
    }
}

/// Refuses a body that is encoded: it would be kept as it comes, and readers would take it for what the stream holds.
pub(crate) fn check_body_is_plain(fields: &impl Fields) -> Result<(), Problem> {
    for value in fields.values(&http::header::CONTENT_ENCODING) {
        let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let is_plain = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
        if !codings.all(is_plain) {
            return Err(Problem::encoded_body(value));
        }
    }
    Ok(())
}

/// `Stream-TTL` or `Stream-Expires-At`.
pub(crate) fn lifetime(headers: &HeaderMap) -> Result<Lifetime, Problem> {
    let ttl = single(headers, &STREAM_TTL)?;
    let expires_at = single(headers, &STREAM_EXPIRES_AT)?;
    match (ttl, expires_at) {
        (None, None) => Ok(Lifetime::Forever),
        (Some(_), Some(_)) => Err(Problem::header(
            &STREAM_TTL,
            "is given together with Stream-Expires-At; give one of them",
        )),
        (Some(text), None) => {
            let seconds = decimal(text, u64::MAX).ok_or_else(|| {
                let fix = "send whole seconds without sign, point or leading zeros";
                Problem::header(&STREAM_TTL, &format!("is {text:?}; {fix}"))
            })?;
            Ok(Lifetime::Ttl { seconds })
        }
        (None, Some(text)) => {
            let at = time::parse(text).ok_or_else(|| {
                let fix = "send a time such as `2030-01-31T12:00:00Z`";
                Problem::header(&STREAM_EXPIRES_AT, &format!("is {text:?}; {fix}"))
            })?;
            Ok(Lifetime::Until { at })
        }
    }
}

/// The headers that tell a stream's lifetime.
pub(crate) fn put_lifetime(headers: &mut HeaderMap, lifetime: Lifetime) {
    match lifetime {
        Lifetime::Forever => {}
        Lifetime::Ttl { seconds } => {
            headers.insert(&STREAM_TTL, number(seconds));
        }
        Lifetime::Until { at } => {
            headers.insert(&STREAM_EXPIRES_AT, text(&time::format(at)));
        }
    }
}

/// The three producer headers, all or none of them (PROTOCOL.md §5.2.1).
pub(crate) fn producer(fields: &impl Fields) -> Result<Option<ProducerMark>, Problem> {
    let (mut id, mut epoch, mut seq) = (None, None, None);
    // Going through them once costs less than to look for each.
    for (name, value) in fields.each() {
        let (name, field) = match name {
            _ if name.eq_ignore_ascii_case(PRODUCER_ID.as_str()) => (&PRODUCER_ID, &mut id),
            _ if name.eq_ignore_ascii_case(PRODUCER_EPOCH.as_str()) => (&PRODUCER_EPOCH, &mut epoch),
            _ if name.eq_ignore_ascii_case(PRODUCER_SEQ.as_str()) => (&PRODUCER_SEQ, &mut seq),
            _ => continue,
        };
        if field.replace(value_text(name, value)?).is_some() {
            return Err(given_twice(name));
        }
    }
    let (Some(id), Some(epoch), Some(seq)) = (id, epoch, seq) else {
        if id.is_none() && epoch.is_none() && seq.is_none() {
            return Ok(None);
        }
        let missing = [(id, &PRODUCER_ID), (epoch, &PRODUCER_EPOCH), (seq, &PRODUCER_SEQ)];
        let missing = missing
            .into_iter()
            .find(|(value, _)| value.is_none())
            .map_or(&PRODUCER_ID, |(_, name)| name);
        return Err(Problem::header(
            missing,
            "is missing; send all three Producer headers or none",
        ));
    };
    let count = |name: &HeaderName, text: &str| {
        let fix = "send a whole number from 0 to 9007199254740991";
        decimal(text, NUMBER_MAX).ok_or_else(|| Problem::header(name, &format!("is {text:?}; {fix}")))
    };
    let epoch = count(&PRODUCER_EPOCH, epoch)?;
    let seq = count(&PRODUCER_SEQ, seq)?;
    let id = ProducerId::parse(id).ok_or_else(|| {
        let fix = format!("send 1 to {} bytes", ProducerId::BYTES_MAX);
        Problem::header(&PRODUCER_ID, &format!("has {} bytes; {fix}", id.len()))
    })?;
    let mark = Epoch::new(epoch)
        .zip(Seq::new(seq))
        .map(|(epoch, seq)| ProducerMark { id, epoch, seq });
    Ok(mark)
}

/// `If-Match: "<offset>"` of an append or a deletion; `*` matches any stream that exists.
pub(crate) fn if_match(fields: &impl Fields) -> Result<Option<OffsetToken>, Problem> {
    let name = &http::header::IF_MATCH;
    let Some(text) = single(fields, name)?.filter(|text| *text != "*") else {
        return Ok(None);
    };
    let token = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .and_then(OffsetToken::parse);
    token.map(Some).ok_or_else(|| {
        let fix = "send one offset in double quotes, as Stream-Next-Offset gave it";
        Problem::header(name, &format!("is {text:?}; {fix}"))
    })
}

/// `If-None-Match: *` of a creation: whether only a stream that is not there is to be created. Other conditions are about
/// content, which a creation does not change.
pub(crate) fn only_new(headers: &HeaderMap) -> Result<bool, Problem> {
    let fix = "send `If-None-Match: *` to create only what is not there, or no condition";
    if let Some(text) = single(headers, &http::header::IF_MATCH)? {
        let what = format!("is {text:?}, and a creation changes no stream that exists; {fix}");
        return Err(Problem::header(&http::header::IF_MATCH, &what));
    }
    let name = &http::header::IF_NONE_MATCH;
    match single(headers, name)? {
        None => Ok(false),
        Some("*") => Ok(true),
        Some(text) => Err(Problem::header(name, &format!("is {text:?}; {fix}"))),
    }
}

/// A number in plain decimal digits, without leading zeros, up to `max`.
pub(crate) fn decimal(text: &str, max: u64) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    (plain && canonical)
        .then(|| text.parse().ok())
        .flatten()
        .filter(|number| *number <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn only_plain_decimals_are_numbers() {
        for text in [
            "",
            "+1",
            "-1",
            "01",
            "1.0",
            "1e3",
            " 1",
            "1 ",
            "0x1",
            "18446744073709551616",
        ] {
            assert_eq!(decimal(text, u64::MAX), None, "{text}");
        }
        assert_eq!(decimal("0", 9), Some(0));
        assert_eq!(decimal("18446744073709551615", u64::MAX), Some(u64::MAX));
        assert_eq!(decimal("10", 9), None);
    }

    #[test]
    fn producer_headers_come_all_three_or_not_at_all() {
        assert_eq!(producer(&map(&[])), Ok(None));
        let all = [
            ("producer-id", "p"),
            ("producer-epoch", "0"),
            ("producer-seq", "7"),
        ];
        let mark = producer(&map(&all)).expect("valid").expect("given");
        assert_eq!((mark.id.as_str(), mark.epoch.get(), mark.seq.get()), ("p", 0, 7));
        for missing in 0..3 {
            let mut two = all.to_vec();
            let (name, _) = two.remove(missing);
            let problem = producer(&map(&two)).expect_err("a refusal");
            assert!(
                problem.detail().to_lowercase().contains(name),
                "{}",
                problem.detail()
            );
        }
        assert!(
            producer(&map(&[
                ("producer-id", ""),
                ("producer-epoch", "0"),
                ("producer-seq", "0")
            ]))
            .is_err()
        );
    }

    #[test]
    fn a_header_that_comes_twice_is_refused() {
        assert!(single(&map(&[("stream-seq", "a"), ("stream-seq", "b")]), &STREAM_SEQ).is_err());
        for second in ["true", "false"] {
            assert!(closed(&map(&[("stream-closed", second), ("stream-closed", "true")])).is_err());
        }
    }

    #[test]
    fn closed_is_only_true_in_any_case() {
        for (text, expected) in [
            ("true", true),
            ("TRUE", true),
            ("false", false),
            ("1", false),
            ("", false),
        ] {
            assert_eq!(closed(&map(&[("stream-closed", text)])), Ok(expected), "{text}");
        }
        assert_eq!(closed(&map(&[])), Ok(false));
    }

    #[test]
    fn only_bodies_without_a_coding_are_taken() {
        for plain in ["", "identity", "Identity , identity"] {
            let head = map(&[("content-encoding", plain)]);
            assert_eq!(check_body_is_plain(&head), Ok(()), "{plain}");
        }
        assert_eq!(check_body_is_plain(&map(&[])), Ok(()));
        for encoded in ["gzip", "identity, zstd", "x"] {
            let head = map(&[("content-encoding", "identity"), ("content-encoding", encoded)]);
            let problem = check_body_is_plain(&head).expect_err("a refusal");
            assert_eq!(problem.code(), "encoded_body", "{encoded}");
        }
    }

    #[test]
    fn if_match_takes_one_quoted_offset() {
        let offset = "0000000000000005_0000000000000009";
        let quoted = format!("\"{offset}\"");
        assert_eq!(
            if_match(&map(&[("if-match", &quoted)])),
            Ok(OffsetToken::parse(offset))
        );
        assert_eq!(if_match(&map(&[("if-match", "*")])), Ok(None));
        for text in [offset, "\"\"", "W/\"x\"", "\"-1\""] {
            assert!(if_match(&map(&[("if-match", text)])).is_err(), "{text}");
        }
    }

    #[test]
    fn a_creation_may_ask_for_what_is_not_there_and_for_no_other_condition() {
        assert_eq!(only_new(&map(&[])), Ok(false));
        assert_eq!(only_new(&map(&[("if-none-match", "*")])), Ok(true));
        for head in [
            &[("if-none-match", "\"x\"")][..],
            &[("if-none-match", "")],
            &[("if-none-match", "*"), ("if-none-match", "*")],
            &[("if-match", "*")],
            &[("if-match", "\"x\""), ("if-none-match", "*")],
        ] {
            let problem = only_new(&map(head)).expect_err("a refusal");
            assert_eq!(problem.code(), "invalid_header", "{head:?}");
        }
    }
}
