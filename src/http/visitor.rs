//! A connection, as the requests on it see it: who is at the other end, and what requests on it take.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use http::Method;

use super::caller::Peer;
use super::error::Problem;
use super::{App, health};
use crate::limits::Entered;

/// What a request is to the limits on load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    /// Never refused for there being too many: who looks after the server must see how it is. Preflights are no
    /// requests of their own, and a page whose preflight is refused learns nothing.
    Exempt,
}

impl Kind {
    pub(super) fn of(method: &Method, path: &str) -> Self {
        match *method {
            Method::OPTIONS => Self::Exempt,
            _ if health::is_exempt(path) => Self::Exempt,
            Method::GET | Method::HEAD => Self::Read,
            _ => Self::Write,
        }
    }
}

/// Who makes the requests of one connection.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(super) peer: Peer,
    /// Whether the last request was a read, so that what the connection takes is taken by reads.
    reads: AtomicBool,
    /// What reads have paid since that was last settled, in nanoseconds.
    paid_ns: AtomicU64,
}

impl Visitor {
    pub(crate) fn new(peer: Peer) -> Self {
        Self {
            peer,
            reads: AtomicBool::new(false),
            paid_ns: AtomicU64::new(0),
        }
    }

    /// Admits a request: a read at once, or when its turn has come.
    pub(super) async fn admit(&self, app: &App, kind: Kind) -> Result<(), Problem> {
        self.reads.store(kind == Kind::Read, Ordering::Relaxed);
        if kind != Kind::Read {
            return Ok(());
        }
        let entered = match app.read_share.try_enter(app.is_writing()) {
            Some(entered) => entered,
            // Few reads wait, and all requests would have to have room for it.
            None => Box::pin(app.read_share.wait())
                .await
                .map_err(|_late| Problem::too_many_reads())?,
        };
        if entered.paid_ns > 0 {
            self.paid_ns.fetch_add(entered.paid_ns, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The connection goes on. Its time is looked at only if it is taken by reads.
    pub(crate) fn goes_on(&self) -> Option<Instant> {
        self.reads.load(Ordering::Relaxed).then(Instant::now)
    }

    /// The connection has done what it could for now.
    pub(crate) fn pauses(&self, app: &App, since: Option<Instant>) {
        let Some(since) = since else { return };
        let paid_ns = self.paid_ns.swap(0, Ordering::Relaxed);
        app.read_share.settle(Entered { paid_ns }, since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::Kind;

    #[test]
    fn what_looks_at_the_server_is_exempt_and_nothing_else() {
        for path in ["/healthz", "/health", "/ok", "/readyz", "/metrics"] {
            assert_eq!(Kind::of(&Method::GET, path), Kind::Exempt, "{path}");
        }
        for path in ["/v1/stream/healthz", "/v1/stream/__ds/streams", "/healthz/", "/"] {
            assert_eq!(Kind::of(&Method::GET, path), Kind::Read, "{path}");
            assert_eq!(Kind::of(&Method::HEAD, path), Kind::Read, "{path}");
            assert_eq!(Kind::of(&Method::POST, path), Kind::Write, "{path}");
            assert_eq!(Kind::of(&Method::OPTIONS, path), Kind::Exempt, "{path}");
        }
    }
}
