//! One catch-up read of a stream as a chunk. What the answer says in its headers has to agree with what it brings.

use std::sync::Arc;

use http::Method;
use http::header::CONTENT_TYPE;

use super::Source;
use super::action::Action;
use super::connection::{Answer, Ask, is_true, text};
use super::error::{Error, Refusal};
use super::listing::{NEXT_OFFSET, says_gone};
use super::records::{self, RecordFault};
use super::settings::with_query;
use crate::event::{Chunk, Incarnation, Offset};

/// The content type of records in an answer.
const RECORDS: &str = "application/x-ndjson";

impl Source {
    /// What follows `after` in that very incarnation of the stream: as much as one answer has, and nothing at its tail.
    /// The read does not wait, so that a stream to which nothing is appended costs no connection. It renews the
    /// lifetime of a stream that has one.
    ///
    /// # Errors
    /// [`Error::StreamGone`], [`Error::Replaced`], [`Error::OffsetGone`] and [`Error::OffsetUnknown`] tell what became
    /// of the stream; [`Error::Inconsistent`] if the answer has a gap.
    pub async fn read(
        &self,
        stream: &Arc<str>,
        incarnation: Incarnation,
        content_type: &Arc<str>,
        after: Offset,
    ) -> Result<Chunk, Error> {
        let action = Action::Read(stream);
        let offset = after.to_string();
        let parameters = [("offset", offset.as_str()), ("view", "records")];
        let url = with_query(self.connection.root.stream(stream), &parameters);
        let answer = match self.connection.send(Ask::new(action, Method::GET, url)).await {
            Err(Error::Refused(refusal)) => {
                return Err(self.explain(stream, incarnation, after, refusal).await);
            }
            answer => answer?,
        };
        let is_records =
            text(&answer.headers, CONTENT_TYPE.as_str()).is_some_and(|of| of.starts_with(RECORDS));
        if !is_records {
            let reason = format!("the answer to `view=records` is not {RECORDS}");
            return Err(self.connection.unexpected(action, reason));
        }
        let present = self.incarnation(action, &answer.headers)?;
        if present != incarnation {
            return Err(Error::Replaced {
                stream: stream.to_string(),
                incarnation: present,
            });
        }
        let next = self.offset(action, &answer.headers, NEXT_OFFSET)?;
        let mut chunk = Chunk {
            stream: Arc::clone(stream),
            incarnation,
            content_type: Arc::clone(content_type),
            after,
            events: Vec::new(),
            next,
            closed: false,
        };
        fill(&mut chunk, &answer).map_err(|fault| Error::Inconsistent {
            stream: stream.to_string(),
            after,
            fault,
        })?;
        Ok(chunk)
    }

    /// What a refused read means. The refusal does not say of which incarnation it is.
    async fn explain(
        &self,
        stream: &Arc<str>,
        incarnation: Incarnation,
        offset: Offset,
        refusal: Box<Refusal>,
    ) -> Error {
        let is_trimmed = match refusal.code.as_deref() {
            code if says_gone(code) => return Error::gone(stream),
            Some("offset_trimmed") => true,
            Some("offset_unknown") => false,
            _ => return Error::Refused(refusal),
        };
        let present = match self.expect(stream, incarnation).await {
            Ok(present) => present,
            Err(error) => return error,
        };
        let stream = stream.to_string();
        if is_trimmed {
            let oldest = present.oldest;
            return Error::OffsetGone { stream, oldest };
        }
        let next = present.next;
        Error::OffsetUnknown { stream, offset, next }
    }
}

/// Puts the events of an answer into a chunk, and whether the stream ends with them.
fn fill(chunk: &mut Chunk, answer: &Answer) -> Result<(), RecordFault> {
    let (after, next) = (chunk.after, chunk.next);
    let events = records::events(&answer.body, is_json(&chunk.content_type), after)?;
    let end = events.last().map_or(after, |event| event.offset);
    if end != next {
        return Err(RecordFault::Next { end, next });
    }
    let is_up_to_date = is_true(&answer.headers, "stream-up-to-date");
    let is_closed = is_true(&answer.headers, "stream-closed");
    if is_closed && !is_up_to_date {
        return Err(RecordFault::ClosedBeforeItsEnd);
    }
    if events.is_empty() && !is_up_to_date {
        return Err(RecordFault::Stuck);
    }
    chunk.events = events;
    chunk.closed = is_closed;
    Ok(())
}

/// Whether a stream of that type is a sequence of JSON values (PROTOCOL.md §9.1).
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    const BODY: &str = "{\"offset\":\"0000000000000001_0000000000000002\",\"at\":\"2026-11-20T22:20:12Z\",\
                        \"index\":0,\"data\":7}\n";

    /// The chunk from an answer with that body, next position and flags.
    fn filled(body: &'static str, next: &str, flags: &[&'static str]) -> Result<Chunk, RecordFault> {
        let mut headers = HeaderMap::new();
        for flag in flags {
            headers.insert(*flag, HeaderValue::from_static("true"));
        }
        let body = Bytes::from_static(body.as_bytes());
        let mut chunk = Chunk {
            stream: "s".into(),
            incarnation: "0000000000000001".parse().expect("an id"),
            content_type: "Application/JSON; charset=utf-8".into(),
            after: Offset::BEGINNING,
            events: Vec::new(),
            next: next.parse().expect("an offset"),
            closed: false,
        };
        fill(&mut chunk, &Answer { headers, body }).map(|()| chunk)
    }

    #[test]
    fn headers_have_to_agree_with_the_records() {
        let (start, end) = (
            "0000000000000000_0000000000000000",
            "0000000000000001_0000000000000002",
        );
        let chunk = filled(BODY, end, &[]).expect("there is more");
        assert_eq!((chunk.events.len(), chunk.closed), (1, false));
        let chunk = filled(BODY, end, &["stream-closed", "stream-up-to-date"]).expect("that was all");
        assert!(chunk.closed);
        let chunk = filled("", start, &["stream-up-to-date"]).expect("nothing yet");
        assert_eq!((chunk.events.len(), chunk.closed), (0, false));

        let beyond = "0000000000000001_0000000000000004";
        assert!(
            matches!(filled(BODY, beyond, &[]), Err(RecordFault::Next { .. })),
            "a record is missing"
        );
        assert!(matches!(
            filled("", end, &["stream-up-to-date"]),
            Err(RecordFault::Next { .. })
        ));
        assert!(matches!(filled("", start, &[]), Err(RecordFault::Stuck)));
        assert!(matches!(
            filled(BODY, end, &["stream-closed"]),
            Err(RecordFault::ClosedBeforeItsEnd)
        ));
    }

    #[test]
    fn only_json_itself_is_json() {
        assert!(is_json("application/json") && is_json("Application/JSON ; charset=utf-8"));
        assert!(!is_json("application/ld+json") && !is_json("text/plain"));
    }
}
