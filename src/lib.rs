//! Tailwater: a durable-stream server over HTTP.
//!
//! | module | what stands there |
//! |---|---|
//! | [`cli`] | the command line: `serve`, `check`, and the client commands |
//! | [`client`] | a small client of the protocol, used by the commands |
//! | [`config`] | the table of settings, and the rules over them |
//! | `control` | what operators ask a server on its own machine |
//! | `limits` | who may have how much of the server |
//! | [`server`] | listeners and connections |
//! | [`http`] | translates between HTTP and the engine |
//! | `metrics` | every metric's name and meaning |
//! | `pem` | files of certificates that settings name |
//! | `shutdown` | stops the server without losing what is in flight |
//! | `traces` | spans of requests and commits, with the feature `otlp` |
//! | `transfer` | exports and imports: streams as lines, and lines as streams |
//! | [`webhooks`] | what subscriptions send out: deliveries, signatures, tokens |

pub mod cli;
pub mod client;
pub mod config;
mod control;
pub mod http;
mod limits;
mod metrics;
mod pem;
pub mod server;
mod shutdown;
mod traces;
mod transfer;
pub mod webhooks;
