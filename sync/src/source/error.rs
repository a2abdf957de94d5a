//! What can go wrong with the source, and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::records::RecordFault;
use super::token::TokenFault;
use crate::event::{Incarnation, Offset};

/// Why the source did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no stream root.
    #[error("{url:?} cannot be the source's URL: {reason}; an example is http://127.0.0.1:4437/v1/stream")]
    BadUrl {
        /// As it was given, without credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There are no authorities to trust.
    #[error("no certificates of authorities in {}: {reason}", path.as_ref().map_or_else(
        || "the system's store (name a PEM file for the source)".into(),
        |path| path.display().to_string(),
    ))]
    NoAuthorities {
        /// The file that was named; none for the system's.
        path: Option<PathBuf>,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no token in its file.
    #[error("no token for the source in {}: {source}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokenFault,
    },
    /// No connection came about.
    #[error(
        "no server answered at {url}: {}; is it running, and is this its address?",
        innermost(source)
    )]
    Unreachable {
        /// The stream root.
        url: String,
        /// What the connector said.
        source: hyper_util::client::legacy::Error,
    },
    /// There is a server, but not one to talk TLS with.
    #[error(
        "no TLS with {url}: {source}; does it speak plain http://, or is its authority's certificate missing?"
    )]
    Tls {
        /// The stream root.
        url: String,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// The connection broke before the answer was complete.
    #[error("the connection to {url} broke: {}", innermost(source.as_ref()))]
    Broken {
        /// The stream root.
        url: String,
        /// What the transport said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The answer was not complete in time.
    #[error("no whole answer from {url} within {} ms", waited.as_millis())]
    TimedOut {
        /// The stream root.
        url: String,
        /// How long.
        waited: Duration,
    },
    /// The answer was larger than it may be.
    #[error("cannot {action}: the answer has more than {bytes_max} bytes; {remedy}")]
    TooLarge {
        /// What was tried.
        action: String,
        /// [`Settings::read_bytes_max`](super::Settings::read_bytes_max), or what a page of a listing may have.
        bytes_max: usize,
        /// Which setting to change.
        remedy: &'static str,
    },
    /// There was no valid token.
    #[error(
        "{refusal}: {}",
        token_path.as_ref().map_or_else(
            || "name a file with a token for the source".into(),
            |path| format!("renew the token in {}", path.display()),
        )
    )]
    Unauthorized {
        /// What was tried, and what the answer said.
        refusal: Box<Refusal>,
        /// The file that the token came from.
        token_path: Option<PathBuf>,
    },
    /// The token does not allow it.
    #[error("{refusal}: the token's claim `streams` needs `{entry}`")]
    Forbidden {
        /// What was tried, and what the answer said.
        refusal: Box<Refusal>,
        /// The least entry of the claim that allows it.
        entry: String,
        /// Whether the token comes from a file, where it can be replaced.
        is_renewable: bool,
    },
    /// There is no stream of that name any more.
    #[error("the stream `{stream}` was deleted at the source")]
    StreamGone {
        /// Its name.
        stream: String,
    },
    /// The stream was deleted, and its name is another one's.
    #[error("the stream `{stream}` was deleted and created anew at the source; its id is {incarnation} now")]
    Replaced {
        /// Its name.
        stream: String,
        /// The new one.
        incarnation: Incarnation,
    },
    /// What follows the offset was trimmed.
    #[error("the stream `{stream}` was trimmed at the source; it begins at {oldest} now")]
    OffsetGone {
        /// Its name.
        stream: String,
        /// Where it begins. Of the incarnation that was asked for.
        oldest: Offset,
    },
    /// The very incarnation does not know the offset.
    #[error(
        "the stream `{stream}` does not know the offset {offset}: it ends at {next}; has the source lost what it had \
         acknowledged, or was it restored from an older copy?"
    )]
    OffsetUnknown {
        /// Its name.
        stream: String,
        /// What was asked for.
        offset: Offset,
        /// Its tail.
        next: Offset,
    },
    /// The change feed does not reach back to the token: list the streams again.
    #[error("the source's change feed does not reach back any more")]
    FeedGone,
    /// The server refused for another reason.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The answer is not one of this server.
    #[error(
        "cannot {action}: {url} did not answer as a Tailwater server: {reason}; is this the stream root?"
    )]
    Unexpected {
        /// What was tried.
        action: String,
        /// The stream root.
        url: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The records of an answer do not follow one another, or its headers say otherwise. Nothing of it was taken.
    #[error("the source's answer for `{stream}` behind {after} is at odds with itself: {fault}")]
    Inconsistent {
        /// The stream.
        stream: String,
        /// Where the read began.
        after: Offset,
        /// What is wrong with it.
        #[source]
        fault: RecordFault,
    },
}

impl Error {
    /// Whether the same request may succeed later, without anybody asking for something else: the server comes back,
    /// a token is renewed in its file, a certificate is replaced.
    #[must_use]
    pub fn heals(&self) -> bool {
        match self {
            Self::Token { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Broken { .. }
            | Self::TimedOut { .. } => true,
            Self::Unauthorized { token_path, .. } => token_path.is_some(),
            Self::Forbidden { is_renewable, .. } => *is_renewable,
            Self::Refused(refusal) => {
                matches!(refusal.status.as_u16(), 408 | 425 | 429) || refusal.status.is_server_error()
            }
            Self::BadUrl { .. }
            | Self::NoAuthorities { .. }
            | Self::TooLarge { .. }
            | Self::StreamGone { .. }
            | Self::Replaced { .. }
            | Self::OffsetGone { .. }
            | Self::OffsetUnknown { .. }
            | Self::FeedGone
            | Self::Unexpected { .. }
            | Self::Inconsistent { .. } => false,
        }
    }

    /// How long the server asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) | Self::Unauthorized { refusal, .. } | Self::Forbidden { refusal, .. } => {
                refusal.retry_after
            }
            _ => None,
        }
    }

    /// Tells TLS that cannot work from a server that is not there.
    pub(super) fn of_connect(url: &str, source: hyper_util::client::legacy::Error) -> Self {
        let url = url.to_owned();
        match rustls_error(&source) {
            Some(tls) => Self::Tls {
                url,
                source: tls.clone(),
            },
            None => Self::Unreachable { url, source },
        }
    }

    pub(super) fn gone(stream: &Arc<str>) -> Self {
        Self::StreamGone {
            stream: stream.to_string(),
        }
    }
}

/// A refusal, with what its headers and its problem document say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was tried, such as ``read `orders` ``.
    pub action: String,
    /// The HTTP status.
    pub status: StatusCode,
    /// The problem document's `code`; none if somebody else than the server or its edge has answered.
    pub code: Option<String>,
    /// The problem document's `detail`, or the beginning of a plain-text body.
    pub detail: Option<String>,
    /// `Retry-After`, if it was in seconds.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.status.canonical_reason().unwrap_or("refused");
        write!(
            f,
            "cannot {}: {}",
            self.action,
            self.detail.as_deref().unwrap_or(reason)
        )?;
        match &self.code {
            Some(code) => write!(f, " ({code}, {})", self.status.as_u16()),
            None => write!(f, " ({})", self.status.as_u16()),
        }
    }
}

/// hyper-rustls hands its errors on inside of IO errors, which are no `source` of theirs.
fn rustls_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let inner = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    let inner = inner.map(|inner| -> &'e (dyn StdError + 'static) { inner });
    error
        .downcast_ref()
        .or_else(|| rustls_error(inner.or(error.source())?))
}

/// The innermost cause says most ("connection refused"); what wraps it says "client error (Connect)".
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16) -> Box<Refusal> {
        Box::new(Refusal {
            action: "read `orders`".to_owned(),
            status: StatusCode::from_u16(status).expect("a status"),
            code: Some("some_code".to_owned()),
            detail: Some("It is so.".to_owned()),
            retry_after: Some(Duration::from_secs(3)),
        })
    }

    #[test]
    fn what_may_pass_by_itself_heals() {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(Error::Refused(refusal(status)).heals(), "{status}");
        }
        for status in [301, 400, 404, 405, 409, 410, 413] {
            assert!(!Error::Refused(refusal(status)).heals(), "{status}");
        }
        let unauthorized = |token_path: Option<PathBuf>| Error::Unauthorized {
            refusal: refusal(401),
            token_path,
        };
        assert!(
            unauthorized(Some("/token".into())).heals(),
            "its file may be renewed"
        );
        assert!(!unauthorized(None).heals(), "there is nothing to renew");
        assert!(!Error::FeedGone.heals(), "listing anew does");
    }

    #[test]
    fn an_error_says_what_was_tried_and_what_to_do() {
        let error = Error::Forbidden {
            refusal: refusal(403),
            entry: "read:orders".to_owned(),
            is_renewable: true,
        };
        assert_eq!(
            error.to_string(),
            "cannot read `orders`: It is so. (some_code, 403): the token's claim `streams` needs `read:orders`"
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        let bare = Refusal {
            code: None,
            detail: None,
            ..*refusal(502)
        };
        assert_eq!(bare.to_string(), "cannot read `orders`: Bad Gateway (502)");
    }
}
