//! What can go wrong between a client and a server, and what to do about it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use http::header::InvalidHeaderValue;

/// Why an operation did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The text is not a base URL.
    #[error("`{url}` cannot be the streams' URL: {reason}; an example is http://127.0.0.1:4437/v1/stream")]
    BadUrl {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A text that cannot go into an HTTP header.
    #[error("the {what} cannot be sent: it has characters that an HTTP header cannot carry")]
    BadHeader {
        /// What the text was for.
        what: &'static str,
        /// What the library said.
        source: InvalidHeaderValue,
    },
    /// The file of authorities cannot be used.
    #[error("--ca-file or TAILWATER_CA_FILE names {}, which {reason}", path.display())]
    BadAuthorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The machine's certificate authorities could not be loaded.
    #[error(
        "cannot load the certificate authorities that this machine trusts: {source}; name a PEM file with --ca-file or \
         TAILWATER_CA_FILE"
    )]
    NoAuthorities {
        /// What the system said.
        source: std::io::Error,
    },
    /// No connection came about.
    #[error(
        "no server answered at {url}: is it running? start it with `tailwater serve`, or give --url ({})",
        innermost(source)
    )]
    Unreachable {
        /// The base URL.
        url: String,
        /// What the connector said.
        source: hyper_util::client::legacy::Error,
    },
    /// There is a server, but not one to talk TLS with.
    #[error(
        "no TLS with {url}: {source}; does the server speak plain http://, or is its authority's certificate missing \
         (name it with --ca-file or TAILWATER_CA_FILE)?"
    )]
    Tls {
        /// The base URL.
        url: String,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// The connection broke before the answer was complete.
    #[error("the connection to {url} broke: {}", innermost(source.as_ref()))]
    Broken {
        /// The base URL.
        url: String,
        /// What the transport said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server was silent for too long.
    #[error("no answer from {url} within {} s", waited.as_secs())]
    TimedOut {
        /// The base URL.
        url: String,
        /// How long.
        waited: Duration,
    },
    /// The server answered that it will not do it.
    #[error("{problem}")]
    Refused {
        /// All that the answer said.
        problem: Box<Problem>,
    },
    /// The server answered without having understood an extension of the protocol.
    #[error("the server at {url} has no {feature}")]
    Unsupported {
        /// The base URL.
        url: String,
        /// What it lacks.
        feature: &'static str,
    },
    /// The answer is not one that the protocol allows.
    #[error("{url} did not answer as a durable-stream server: {reason}; is --url the streams' URL?")]
    Unexpected {
        /// The base URL.
        url: String,
        /// What was wrong with the answer.
        reason: String,
    },
}

impl ClientError {
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

    /// Whether the same request may succeed later without anybody changing it.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::TimedOut { .. } => true,
            Self::Refused { problem } => {
                matches!(problem.status.as_u16(), 408 | 429) || problem.status.is_server_error()
            }
            Self::BadUrl { .. }
            | Self::BadAuthorities { .. }
            | Self::BadHeader { .. }
            | Self::NoAuthorities { .. }
            | Self::Tls { .. }
            | Self::Unsupported { .. }
            | Self::Unexpected { .. } => false,
        }
    }

    /// Whether there was too much load for the request. It was not done then, and may be made again once the server's
    /// `Retry-After` is over.
    pub fn is_overload(&self) -> bool {
        self.problem().is_some_and(|problem| {
            match (problem.status, problem.code.as_deref()) {
                (StatusCode::TOO_MANY_REQUESTS, _) => true,
                (StatusCode::SERVICE_UNAVAILABLE, Some(code)) => code.starts_with("too_many_"),
                // An answer to HEAD has no document. Of other requests one without a document may be a proxy's, which
                // does not know what became of them.
                (StatusCode::SERVICE_UNAVAILABLE, None) => problem.is_safe && problem.retry_after.is_some(),
                // Of queues, for example, there may be too many as well, and that does not pass.
                _ => false,
            }
        })
    }

    /// The refusal, if the server answered with one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused { problem } => Some(problem),
            _ => None,
        }
    }

    /// Whether the server says that there is no such stream.
    pub fn is_not_found(&self) -> bool {
        self.problem()
            .is_some_and(|problem| problem.status == StatusCode::NOT_FOUND)
    }
}

/// A refusal, with what its headers and its problem document say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What was tried, such as ``append to `orders` ``.
    pub action: String,
    /// The HTTP status.
    pub status: StatusCode,
    /// The problem document's `code`.
    pub code: Option<String>,
    /// The problem document's `detail`, or the beginning of a plain-text body.
    pub detail: Option<String>,
    /// The problem document's `field`: the member of the request that is wrong.
    pub field: Option<String>,
    /// `Stream-Closed: true` was there.
    pub closed: bool,
    /// `Retry-After`, if it was in seconds.
    pub retry_after: Option<Duration>,
    /// `Producer-Epoch`: of a producer that has taken over.
    pub producer_epoch: Option<u64>,
    /// The request would have changed nothing, so that it does no harm if it was done after all.
    pub is_safe: bool,
}

#[cfg(test)]
impl Problem {
    /// A refusal that says nothing but its status.
    pub(crate) fn bare(action: &str, status: StatusCode) -> Self {
        Self {
            action: action.to_owned(),
            status,
            code: None,
            detail: None,
            field: None,
            closed: false,
            retry_after: None,
            producer_epoch: None,
            is_safe: false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.action)?;
        match (&self.detail, self.status) {
            (Some(detail), _) => f.write_str(detail)?,
            (None, StatusCode::NOT_FOUND) => f.write_str("there is no such stream")?,
            (None, StatusCode::GONE) => f.write_str("it is gone")?,
            (None, status) => f.write_str(status.canonical_reason().unwrap_or("refused"))?,
        }
        match &self.code {
            Some(code) => write!(f, " ({code}, {})", self.status.as_u16()),
            None => write!(f, " ({})", self.status.as_u16()),
        }
    }
}

/// hyper-rustls hands its errors on inside of IO errors, which are no `source` of theirs.
fn rustls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let inner = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    let inner = inner.map(|inner| -> &'e (dyn std::error::Error + 'static) { inner });
    error
        .downcast_ref()
        .or_else(|| rustls_error(inner.or(error.source())?))
}

/// The innermost cause says most ("connection refused"); what wraps it says "client error (Connect)".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::{ClientError, Duration, Problem, StatusCode};

    fn problem(status: u16, code: Option<&str>, detail: Option<&str>) -> Problem {
        Problem {
            action: "read `orders`".to_owned(),
            status: StatusCode::from_u16(status).expect("a status"),
            code: code.map(str::to_owned),
            detail: detail.map(str::to_owned),
            field: None,
            closed: false,
            retry_after: None,
            producer_epoch: None,
            is_safe: false,
        }
    }

    #[test]
    fn a_refusal_shows_the_servers_code_and_detail() {
        let shown = problem(410, Some("offset_trimmed"), Some("the oldest offset is 7")).to_string();
        assert_eq!(
            shown,
            "cannot read `orders`: the oldest offset is 7 (offset_trimmed, 410)"
        );
    }

    #[test]
    fn a_refusal_without_a_body_is_still_a_sentence() {
        assert_eq!(
            problem(404, None, None).to_string(),
            "cannot read `orders`: there is no such stream (404)"
        );
        assert_eq!(
            problem(502, None, None).to_string(),
            "cannot read `orders`: Bad Gateway (502)"
        );
    }

    #[test]
    fn too_much_load_is_told_from_other_trouble() {
        let is_overload = |status, code| {
            let problem = Box::new(problem(status, code, None));
            ClientError::Refused { problem }.is_overload()
        };
        assert!(is_overload(503, Some("too_many_reads")));
        assert!(is_overload(429, Some("too_many_client_requests")));
        assert!(is_overload(429, None), "a proxy has limits too");
        assert!(!is_overload(503, Some("storage_failed")));
        assert!(
            !is_overload(507, Some("too_many_queues")) && !is_overload(507, Some("too_many_schedules")),
            "there will be as many the next time"
        );
        assert!(!is_overload(503, None), "a proxy may have lost the answer");
        assert!(!is_overload(404, Some("stream_not_found")));
        let head = |retry_after, is_safe| {
            let problem = Box::new(Problem {
                retry_after,
                is_safe,
                ..problem(503, None, None)
            });
            ClientError::Refused { problem }.is_overload()
        };
        assert!(head(Some(Duration::from_secs(1)), true));
        assert!(!head(Some(Duration::from_secs(1)), false));
        assert!(!head(None, true), "nobody asks for another try");
    }

    #[test]
    fn only_what_may_pass_by_itself_is_worth_another_try() {
        let refused = |status| ClientError::Refused {
            problem: Box::new(problem(status, None, None)),
        };
        assert!(
            [408, 429, 500, 503]
                .into_iter()
                .all(|status| refused(status).is_passing())
        );
        assert!(
            [400, 403, 404, 409, 410, 413]
                .into_iter()
                .all(|status| !refused(status).is_passing())
        );
        assert!(
            ClientError::TimedOut {
                url: String::new(),
                waited: Duration::ZERO
            }
            .is_passing()
        );
    }
}
