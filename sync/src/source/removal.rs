//! Takes away at the source what the mirror has: whole streams, and the beginnings of open ones.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use super::Source;
use super::action::Action;
use super::connection::Ask;
use super::error::Error;
use super::listing::{OLDEST_OFFSET, Stream, says_gone};
use crate::event::{Incarnation, Offset};

impl Source {
    /// Deletes a stream, if it is that incarnation; one that is gone already stays so.
    ///
    /// It is deleted only as it was looked at: what somebody has appended since, or made anew under its name, stays. Of two
    /// streams to which nothing was appended one is like the other.
    ///
    /// # Errors
    /// [`Error::Replaced`] if the name is another stream's.
    pub async fn delete(&self, stream: &Arc<str>, incarnation: Incarnation) -> Result<(), Error> {
        let present = match self.expect(stream, incarnation).await {
            Err(Error::StreamGone { .. }) => return Ok(()),
            looked => looked?,
        };
        let url = self.connection.root.stream(stream);
        let ask = Ask {
            if_match: Some(present.next),
            ..Ask::new(Action::Delete(stream), Method::DELETE, url)
        };
        match self.connection.send(ask).await {
            Err(Error::Refused(refusal)) if says_gone(refusal.code.as_deref()) => Ok(()),
            Err(Error::Refused(refusal)) if refusal.code.as_deref() == Some("tail_mismatch") => {
                self.expect(stream, incarnation).await?;
                Err(Error::Refused(refusal))
            }
            answer => answer.map(drop),
        }
    }

    /// Forgets what is before an offset of a stream, if it is that incarnation, and tells where the stream begins now.
    ///
    /// # Errors
    /// [`Error::StreamGone`] and [`Error::Replaced`]; [`Error::OffsetUnknown`] if the stream has no such offset.
    pub async fn trim(
        &self,
        stream: &Arc<str>,
        incarnation: Incarnation,
        before: Offset,
    ) -> Result<Offset, Error> {
        let next = self.expect(stream, incarnation).await?.next;
        let action = Action::Trim(stream);
        let body = json!({ "stream": &**stream, "before": before.to_string() }).to_string();
        let ask = Ask {
            body: body.into(),
            ..Ask::new(action, Method::POST, self.connection.root.control("__ds/trim"))
        };
        let answer = self.connection.send(ask).await.map_err(|error| match error {
            Error::Refused(refusal) if says_gone(refusal.code.as_deref()) => Error::gone(stream),
            Error::Refused(refusal) if refusal.code.as_deref() == Some("offset_unknown") => {
                Error::OffsetUnknown {
                    stream: stream.to_string(),
                    offset: before,
                    next,
                }
            }
            error => error,
        })?;
        self.offset(action, &answer.headers, OLDEST_OFFSET)
    }

    /// The stream of that name, if it is that incarnation.
    pub(super) async fn expect(&self, name: &Arc<str>, incarnation: Incarnation) -> Result<Stream, Error> {
        let present = self.look(name).await?.ok_or_else(|| Error::gone(name))?;
        if present.incarnation != incarnation {
            return Err(Error::Replaced {
                stream: name.to_string(),
                incarnation: present.incarnation,
            });
        }
        Ok(present)
    }
}
