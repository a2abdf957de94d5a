//! A connection, as the requests on it see it: who is at the other end, and what each request is to the limits.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use http::Method;

use super::caller::{Caller, ClientKey, Peer};
use super::error::Problem;
use super::{App, health};
use crate::limits::{Client, Held, Kind, Meter};

/// What a request is to the limits on load. None if it is never refused for there being too many: who looks after the
/// server must see how it is. Preflights are no requests of their own, and a page whose preflight is refused learns
/// nothing.
pub(super) fn kind(method: &Method, path: &str) -> Option<Kind> {
    match *method {
        Method::OPTIONS => None,
        _ if health::is_exempt(path) => None,
        Method::GET | Method::HEAD => Some(Kind::Read),
        _ => Some(Kind::Write),
    }
}

/// Whose limits a client's requests count against. Whoever has an IPv6 address has at least all those that begin with
/// the same 64 bits, and could come from another one each time.
fn counted_as(client: &ClientKey) -> Cow<'_, ClientKey> {
    match client {
        ClientKey::Address(IpAddr::V6(address)) => {
            let network = Ipv6Addr::from_bits(address.to_bits() >> 64 << 64);
            Cow::Owned(ClientKey::Address(network.into()))
        }
        ClientKey::Address(IpAddr::V4(_)) | ClientKey::Subject(_) => Cow::Borrowed(client),
    }
}

/// Admits a request of that kind: a read at once, or when its turn has come. What it takes from then on is measured as
/// what it is.
pub(super) async fn take_turn(app: &App, meter: &Meter, kind: Option<Kind>) -> Result<(), Problem> {
    if kind != Some(Kind::Read) {
        go_on(app, meter);
        return Ok(());
    }
    meter.turns_to(true, &app.read_share);
    let entered = match app.try_read() {
        Some(entered) => entered,
        None => {
            meter.waits(&app.read_share);
            // Few reads wait, and all requests would have to have room for it.
            Box::pin(app.read_share.wait()).await.map_err(|_late| {
                meter.is_refused(&app.read_share);
                Problem::too_many_reads()
            })?
        }
    };
    meter.is_admitted(entered);
    Ok(())
}

/// Admits a request that is no read: those wait for no turn.
pub(super) fn go_on(app: &App, meter: &Meter) {
    meter.turns_to(false, &app.read_share);
}

/// A request of that kind is refused before its turn: what that takes is measured as what it is.
pub(super) fn refuse_turn(app: &App, meter: &Meter, kind: Option<Kind>) {
    meter.turns_to(kind == Some(Kind::Read), &app.read_share);
    meter.is_refused(&app.read_share);
}

/// Whose limits a request of the side paths counts against; none if clients have no limits.
#[derive(Debug, Clone)]
pub(super) struct Limited(pub(super) Option<Arc<Client>>);

/// Who makes the requests of one connection.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(super) peer: Peer,
    /// The peer as a client; none if clients have no limits.
    client: Option<Arc<Client>>,
    /// The connection's place among those of its client.
    _place: Option<Held>,
}

impl Visitor {
    /// A connection that has just begun.
    ///
    /// # Errors
    /// If its client has too many. Those of a trusted proxy are of many clients, and have no limit but the common one.
    pub(crate) fn admit(app: &App, peer: Peer) -> Result<Self, Problem> {
        let client = app.clients.find(&counted_as(&peer.client()));
        let place = client.as_ref().filter(|_| !peer.is_trusted());
        let place = place.map(Client::admit_connection).transpose();
        Ok(Self {
            _place: place.map_err(|excess| Problem::too_many_client_connections(&excess))?,
            peer,
            client,
        })
    }

    /// Whose limits a request counts against: mostly the peer's, which need not be looked for again.
    pub(super) fn client_of(&self, app: &App, caller: &Caller) -> Option<Cow<'_, Arc<Client>>> {
        if caller.client == self.peer.client() {
            return self.client.as_ref().map(Cow::Borrowed);
        }
        app.clients.find(&counted_as(&caller.client)).map(Cow::Owned)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use http::Method;

    use super::{ClientKey, Kind, counted_as, kind};

    #[test]
    fn what_looks_at_the_server_is_exempt_and_nothing_else() {
        for path in ["/healthz", "/health", "/ok", "/readyz", "/metrics"] {
            assert_eq!(kind(&Method::GET, path), None, "{path}");
        }
        for path in ["/v1/stream/healthz", "/v1/stream/__ds/streams", "/healthz/", "/"] {
            assert_eq!(kind(&Method::GET, path), Some(Kind::Read), "{path}");
            assert_eq!(kind(&Method::HEAD, path), Some(Kind::Read), "{path}");
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                assert_eq!(kind(&method, path), Some(Kind::Write), "{path}");
            }
            assert_eq!(kind(&Method::OPTIONS, path), None, "{path}");
        }
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_any_other_itself() {
        let address = |text: &str| ClientKey::Address(text.parse().expect("an address"));
        let network = Cow::Owned(address("2001:db8:1:2::"));
        assert_eq!(counted_as(&address("2001:db8:1:2:3:4:5:6")), network);
        assert_eq!(counted_as(&address("2001:db8:1:2:ffff::1")), network);
        assert_ne!(counted_as(&address("2001:db8:1:3::1")), network);
        for key in [address("192.0.2.7"), ClientKey::Subject("ada".into())] {
            assert_eq!(counted_as(&key), Cow::Borrowed(&key));
        }
    }
}
