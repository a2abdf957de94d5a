//! Proxies that are trusted, and peers that only claim to be: who the client is, by which URL it came, and how long it may
//! stay. One server sees both, as peers at different addresses of this machine.
//!
//! - `clients`: who is meant by the client, as the server's log tells.
//! - `urls`: where `Location` leads.
//! - `deadlines`: live reads end in time, in HTTP/1.1.
//! - `http2`: the same in HTTP/2.
//! - `settings`: what the server says of whom it trusts.

mod clients;
mod deadlines;
mod http2;
mod settings;
mod urls;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tailwater_e2e::{Connection, PATIENCE, Request, Response, Server};

/// The one peer that is trusted.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// A peer that is not.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const TRUSTED: (&str, &str) = ("DS_PROXY__TRUSTED", "127.0.0.2/32");

const SUBJECT: &str = "X-Tailwater-Subject";
const DEADLINE: &str = "X-Tailwater-Deadline";

/// Starts a server that trusts [`PROXY`] alone.
#[track_caller]
fn serve(more: &[(&str, &str)]) -> Server {
    let settings: Vec<_> = [TRUSTED].iter().chain(more).copied().collect();
    Server::start_with(&settings)
}

#[track_caller]
fn connect(server: &Server, source: IpAddr) -> Connection {
    Connection::open_from(source, server.address())
}

/// Sends a request from an address, on a connection of its own.
#[track_caller]
fn send(server: &Server, source: IpAddr, request: &Request) -> Response {
    connect(server, source).send(request)
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock that is set")
}

/// Tries with a deadline that is soon and with later ones, until the server hears of it before it is over: on a slow
/// machine that takes longer. Answers with that deadline too.
#[track_caller]
fn with_deadline<T>(mut attempt: impl FnMut(&str) -> Option<T>) -> (Duration, T) {
    let mut secs = 2;
    loop {
        let deadline = Duration::from_secs(now().as_secs() + secs);
        if let Some(done) = attempt(&deadline.as_secs().to_string()) {
            return (deadline, done);
        }
        secs *= 2;
        assert!(secs < PATIENCE.as_secs(), "never came before its deadline");
    }
}
