//! TLS of the server's port, with certificates that are made for each test.
//!
//! - `certificates`: authorities, what they issue, and the files of a server.
//! - `serving`: streams by TLS, in every version and protocol, and how connections end.
//! - `files`: files that a server does not start with.
//! - `renewal`: certificates that change while the server runs.
//! - `clients`: certificates of clients.
//! - `handshakes`: clients that do not get as far as HTTP.
//! - `proxies`: proxies that come by TLS.

mod certificates;
mod clients;
mod files;
mod handshakes;
mod proxies;
mod renewal;
mod serving;
