//! The edge: a real Envoy with the project's own configuration, in front of the real server.
//!
//! - `tokens`: who is let in, and who is not.
//! - `grants`: what a token lets its bearer do, by path, method, query and source of a fork.
//! - `paths`: tricks with paths, and that no path leads out of what a token is for.
//! - `jobs`: queues, runs and schedules, by the names in paths.
//! - `headers`: what reaches the server, and what clients cannot make it believe.
//! - `live`: live reads through the edge, by HTTP/1.1 and HTTP/2, and across a restart of the server.
//! - `expiry`: tokens that end while somebody reads.
//! - `limits`: rates, the access log, what is closed.
//! - `connections`: connections that are too many, too slow or too busy, and those to the server that break.
//! - `corpus`, `smuggling`: requests whose end two readers could see in different places, and what becomes of them.
//! - `frames`: HTTP/2, frame by frame, for what no client would send.
//! - `production`: the configuration for production, with TLS to the server and keys of an issuer.
//! - `renewal`: a certificate that is renewed while the edge runs.
//! - `health`: what orchestrators ask Envoy.
//! - `scene`: who has a part in these two.
//! - `clients`: curl as the documentation has it, the command line, and the official client.

mod clients;
mod connections;
mod corpus;
mod expiry;
mod frames;
mod grants;
mod headers;
mod health;
mod jobs;
mod limits;
mod live;
mod paths;
mod production;
mod renewal;
mod scene;
mod smuggling;
mod tokens;
