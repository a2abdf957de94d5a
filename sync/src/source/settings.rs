//! How to reach the server, and how much of it to take at once. Says nothing of which streams.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::Error;

/// What a path segment or a query value may have as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How the source is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The stream root, such as `http://127.0.0.1:4437/v1/stream`.
    pub url: String,
    /// A file with the bearer token. It is read again every few seconds and when the token is refused.
    pub token_path: Option<PathBuf>,
    /// PEM certificates of the authorities to trust, in place of the system's. Read once.
    pub ca_path: Option<PathBuf>,
    /// Requests that are made at once. There are about as many connections, as one may still be on its way back while
    /// the next request begins; the change feed has one more.
    pub connections_max: usize,
    /// The largest answer to a read. Up to [`Settings::connections_max`] of them are in memory while they are read.
    pub read_bytes_max: usize,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long a request may take, from its first byte to the last one of its answer.
    pub request_timeout: Duration,
    /// The same for a long-poll of the change feed: longer than the server's `limits.long_poll_timeout_secs`.
    pub feed_timeout: Duration,
    /// Between two looks at the change feed, so that changes of many streams come in few answers.
    pub feed_pause: Duration,
}

impl Settings {
    /// The defaults for a stream root.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            token_path: None,
            ca_path: None,
            connections_max: 16,
            read_bytes_max: 64 << 20,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            feed_timeout: Duration::from_secs(120),
            feed_pause: Duration::from_millis(20),
        }
    }
}

/// Whether a text is a stream root.
///
/// # Errors
/// [`Error::BadUrl`], which shows no password.
pub fn check_url(url: &str) -> Result<(), Error> {
    Root::parse(url).map(drop)
}

/// The stream root, checked: `scheme://host:port/path`, without a slash at its end.
#[derive(Debug, Clone)]
pub(super) struct Root {
    text: String,
    pub(super) is_tls: bool,
}

impl Root {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadUrl {
            url: without_credentials(url),
            reason,
        };
        let text = url.trim_end_matches('/').to_owned();
        let uri: Uri = text
            .parse()
            .map_err(|error: http::uri::InvalidUri| bad(error.to_string()))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("it must start with http:// or https://".to_owned())),
        };
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad("it names no host".to_owned()));
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(bad("it must end with the path".to_owned()));
        }
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(bad(
                "credentials go into the token's file, not into the URL".to_owned()
            ));
        }
        Ok(Self { text, is_tls })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL of a stream.
    pub(super) fn stream(&self, name: &str) -> String {
        let mut url = self.text.clone();
        for segment in name.split('/') {
            url.push('/');
            url.extend(utf8_percent_encode(segment, ESCAPED));
        }
        url
    }

    /// The URL of one of the server's own paths, such as `__ds/streams`.
    pub(super) fn control(&self, path: &str) -> String {
        format!("{}/{path}", self.text)
    }
}

/// Appends parameters to a URL that has none. Those in alphabetical order serve caches best (PROTOCOL.md §10.1).
pub(super) fn with_query(mut url: String, parameters: &[(&str, &str)]) -> String {
    let mut separator = '?';
    for (name, value) in parameters {
        url.push(separator);
        url.push_str(name);
        url.push('=');
        url.extend(utf8_percent_encode(value, ESCAPED));
        separator = '&';
    }
    url
}

/// A URL as it may be shown: what stands before an `@` may be a password.
fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_http_with_a_host_and_nothing_behind_the_path() {
        for good in [
            "http://127.0.0.1:4437/v1/stream",
            "https://s.example/a/",
            "http://[::1]:1/x",
        ] {
            let root = Root::parse(good).expect(good);
            assert_eq!(root.as_str(), good.trim_end_matches('/'));
            assert_eq!(root.is_tls, good.starts_with("https"));
        }
        for bad in [
            "",
            "localhost:4437",
            "/v1",
            "ftp://h/x",
            "http://",
            "http://h/x?y=1",
            "http://h/x#y",
        ] {
            assert!(matches!(Root::parse(bad), Err(Error::BadUrl { .. })), "{bad}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_shown() {
        let error = Root::parse("http://me:secret@host/v1").expect_err("no URL for us");
        assert_eq!(
            error.to_string(),
            "\"http://…@host/v1\" cannot be the source's URL: credentials go into the token's file, not into the URL; \
             an example is http://127.0.0.1:4437/v1/stream"
        );
    }

    #[test]
    fn names_and_values_are_escaped_but_for_the_slashes_of_names() {
        let root = Root::parse("http://h:1/v1/stream/").expect("a URL");
        assert_eq!(
            root.stream("a/b c/ü?#%2f"),
            "http://h:1/v1/stream/a/b%20c/%C3%BC%3F%23%252f"
        );
        assert_eq!(
            with_query(
                root.control("__ds/streams"),
                &[("after", "a/b"), ("prefix", "ü&")]
            ),
            "http://h:1/v1/stream/__ds/streams?after=a%2Fb&prefix=%C3%BC%26"
        );
    }
}
