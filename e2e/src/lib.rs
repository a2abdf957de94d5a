//! Tools for black-box tests: they start the real binary and talk to it over sockets. Nothing here
//! links the server, so a test can only know what a client can know.
//!
//! - [`server`]: starts the binary, keeps what it says, stops it.
//! - [`stream`]: one stream of a running server, for tests that do not care about exact bytes.
//! - [`message`]: requests and responses as values.
//! - [`connection`]: one HTTP/1.1 connection, for tests that do care about exact bytes.
//! - [`chunked`]: decodes the chunked transfer coding as it arrives.
//! - [`events`]: decodes Server-Sent Events as they arrive.
//! - [`frames`]: HTTP/2, frame by frame, for what no client library would send or leave out.
//! - [`numbering`]: checks that numbered messages came once each, in order.
//! - [`authority`]: authorities, their certificates, and clients that trust them.
//! - [`edge`]: the project's Envoy in front of a server, as users run it.
//! - [`envoy`]: starts a real Envoy, keeps what it says, stops it.
//! - [`issuer`]: makes tokens that the edge's own script would not make, and publishes keys.
//! - [`recorder`]: stands where the server stands and keeps what it is sent.
//! - [`proxy`]: TCP proxies that cut connections in the middle of an exchange, or keep answers back.
//! - [`mirror`]: starts the real `tailwater-sync`, keeps what it says, stops and kills it.
//! - [`node`]: runs the JavaScript halves of the tests.
//! - [`patience`]: how long a test waits for what must happen.
//! - [`pgbouncer`]: starts a real PgBouncer.
//! - [`postgres`]: starts a real PostgreSQL, asks it by `psql`, stops and kills it.
//! - [`process`]: what the kernel knows of the server's process.
//! - [`volume`]: file systems of their own, to be filled and to lose power.

pub mod authority;
pub mod chunked;
pub mod connection;
pub mod edge;
pub mod envoy;
pub mod events;
pub mod frames;
pub mod issuer;
pub mod message;
pub mod mirror;
pub mod node;
pub mod numbering;
pub mod patience;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod recorder;
pub mod server;
pub mod stream;
pub mod volume;

pub use connection::Connection;
pub use edge::Edge;
pub use events::{Event, EventParser, Events};
pub use frames::FrameClient;
pub use message::{Request, Response};
pub use patience::{PATIENCE, eventually};
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use server::Server;
pub use stream::Stream;
pub use volume::Volume;
