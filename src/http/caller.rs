//! Who sends a request, as far as the server believes it: the peer itself, or whom a trusted proxy says it speaks for.
//!
//! Whether a peer is trusted is decided once for each connection. Of any other peer no header is looked at here, so
//! what it claims changes nothing and costs nothing. Knows no sockets and no clock.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HOST, HeaderMap, HeaderName};
use tailwater_storage::stream::Timestamp;
use tokio::time::Instant;

use super::App;
use super::deadline::Deadline;
use super::error::Problem;
use super::forwarded::Forwarded;
use crate::config::{Networks, ProxyConfig};

/// Longer names of clients than the subject of any token should be.
const SUBJECT_BYTES_MAX: usize = 256;

/// What a connection tells of the other end of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    address: IpAddr,
    is_tls: bool,
    is_trusted: bool,
}

impl Peer {
    /// The other end of a connection that has just begun.
    pub(crate) fn new(address: IpAddr, is_tls: bool, trusted: &Networks) -> Self {
        // The same client has the same address, whether it came by a socket of IPv4 or of both.
        let address = address.to_canonical();
        Self {
            address,
            is_tls,
            is_trusted: trusted.contain(address),
        }
    }

    /// Where the connection comes from.
    #[cfg(feature = "otlp")]
    pub(crate) fn address(self) -> IpAddr {
        self.address
    }

    /// Whether it speaks TLS.
    #[cfg(feature = "otlp")]
    pub(crate) fn is_tls(self) -> bool {
        self.is_tls
    }

    /// Whether it is a proxy that is believed.
    pub(crate) fn is_trusted(self) -> bool {
        self.is_trusted
    }

    /// Whom the peer is counted as, unless it is a proxy that speaks for somebody else.
    pub(crate) fn client(self) -> ClientKey {
        ClientKey::Address(self.address)
    }
}

/// One client among all: what limits for each client go by. Never longer than 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ClientKey {
    /// Whom a trusted proxy has authenticated, in visible ASCII.
    Subject(Arc<str>),
    /// Where the request came from. An IPv4 address is never one that is mapped into IPv6.
    Address(IpAddr),
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => write!(f, "subject {subject}"),
            Self::Address(address) => write!(f, "address {address}"),
        }
    }
}

/// Who sends a request, and how long it may be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The subject that a trusted proxy names, else the address that trusted proxies give, else the peer's own.
    pub(crate) client: ClientKey,
    /// How long the client may be answered; for ever if nobody says so.
    deadline: Option<Deadline>,
    peer: Peer,
}

impl Caller {
    /// The peer, who speaks for nobody else.
    pub(crate) fn itself(peer: Peer) -> Self {
        Self {
            client: peer.client(),
            deadline: None,
            peer,
        }
    }

    /// The caller that a request's head tells of.
    ///
    /// # Errors
    /// If a trusted proxy names the client, or says how long it may stay, in a way that cannot be meant, or if that
    /// time is over.
    pub(crate) fn of(
        peer: Peer,
        head: &HeaderMap,
        proxy: &ProxyConfig,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Self, Problem> {
        let mut caller = Self::itself(peer);
        if peer.is_trusted {
            caller.deadline = Deadline::of(head, &proxy.deadline_header, now)?;
            caller.client = match subject(head, &proxy.subject_header)? {
                Some(subject) => ClientKey::Subject(subject.into()),
                None => ClientKey::Address(Forwarded::read(peer.address, head, &proxy.trusted).client),
            };
        }
        Ok(caller)
    }

    /// When what waits on the client's behalf ends, on the clock that timers go by; never if nobody says so.
    pub(crate) fn ends_at(&self, now: Timestamp) -> Option<Instant> {
        self.deadline.and_then(|deadline| deadline.instant(now))
    }

    /// Milliseconds until then; none if nobody says so.
    pub(crate) fn left_ms(&self, now: Timestamp) -> Option<u64> {
        self.deadline.map(|deadline| deadline.left_ms(now))
    }

    /// Asks whether the client may still be served.
    ///
    /// # Errors
    /// If its time is over.
    pub(crate) fn check_deadline(&self, proxy: &ProxyConfig, now: Timestamp) -> Result<(), Problem> {
        self.deadline
            .map_or(Ok(()), |deadline| deadline.check(&proxy.deadline_header, now))
    }

    /// Where the URLs that the client uses lead: as trusted proxies say, else by the connection itself.
    pub(crate) fn origin<'h>(&self, head: &'h HeaderMap, trusted: &Networks) -> Origin<'h> {
        let own_scheme = if self.peer.is_tls { "https" } else { "http" };
        if !self.peer.is_trusted {
            return Origin {
                scheme: own_scheme,
                host: None,
            };
        }
        let forwarded = Forwarded::read(self.peer.address, head, trusted);
        Origin {
            scheme: forwarded.scheme.unwrap_or(own_scheme),
            host: forwarded.host,
        }
    }
}

/// The beginning of the URLs that a client uses, as `https://host:port`: as trusted proxies say, else as it asked, else by
/// where the server listens.
pub(super) fn origin_of(app: &App, caller: &Caller, head: &HeaderMap, uri: &http::Uri) -> String {
    let Origin { scheme, host } = caller.origin(head, &app.config.proxy.trusted);
    let named = head.get(HOST).and_then(|host| host.to_str().ok());
    let host = host
        .as_deref()
        .or(uri.authority().map(http::uri::Authority::as_str))
        .or(named);
    host.map_or_else(
        || format!("{scheme}://{}", app.config.server.bind_address),
        |host| format!("{scheme}://{host}"),
    )
}

/// The beginning of the URLs that a client uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin<'h> {
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// The host, with a port if there is one. None if no proxy names it: it is then the one that the request is for.
    pub(crate) host: Option<Cow<'h, str>>,
}

/// The client's name, if the proxy gives one. One that cannot be meant is refused and not passed over: the client would
/// be counted as somebody else.
fn subject<'h>(head: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Problem> {
    let mut values = head.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let wrong = |what: &str| Err(Problem::from_proxy(name, what));
    if values.next().is_some() {
        return wrong("comes more than once; let the proxy set it and take out what clients send");
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok("") => wrong("is empty; let the proxy leave it out where nobody is authenticated"),
        Ok(subject) if subject.len() > SUBJECT_BYTES_MAX => {
            let bytes = subject.len();
            wrong(&format!(
                "has {bytes} bytes; let the proxy send at most {SUBJECT_BYTES_MAX}"
            ))
        }
        Ok(subject) if subject.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(subject)),
        _ => wrong("has characters other than visible ASCII; let the proxy encode them"),
    }
}

#[cfg(test)]
mod tests;
