//! Who may have how much of the server. Knows neither HTTP nor streams.
//!
//! | file | what stands there |
//! |---|---|
//! | `bucket.rs` | so many requests a second, and some at once |
//! | `client.rs` | what one client has, and may have |
//! | `clients.rs` | the table of all clients, within a bound |
//! | `meter.rs` | what reads take on a connection of HTTP/1.1, or each by itself |
//! | `shared_meter.rs` | what reads take of a task that works for many requests at once |
//! | `read_share.rs` | how much of the time reads take while appends are made |

mod bucket;
mod client;
mod clients;
mod meter;
mod read_share;
mod shared_meter;

pub(crate) use bucket::Rate;
pub(crate) use client::{Allowance, Client, ClientLimits, Excess, Held, Kind};
pub(crate) use clients::Clients;
pub(crate) use meter::{Meter, Work};
pub(crate) use read_share::{Entered, ReadShare, ReadShareConfig};
pub(crate) use shared_meter::SharedMeter;
