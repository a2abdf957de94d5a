//! The mirror's side of PostgreSQL: chunks of streams become rows, each event exactly once. Knows no HTTP, and
//! neither where chunks come from nor when they are written.
//!
//! - [`settings`]: a database's URL, and how long to wait for it.
//! - [`store`]: one connection, and what can be asked of it.
//! - [`survey`]: questions of people about the tables, and of those who check them.
//! - [`lease`]: who may write what.
//! - [`place`]: how far the mirror has come in a stream, and what became of a chunk.
//! - `batch`: chunks, sorted by stream, as one transaction claims them.
//! - `commit`: the transaction that writes rows and places together.
//! - `streams_table`: places, and what is noted of streams, in SQL.
//! - `leases_table`: instances and their leases, in SQL.
//! - `rows`: events as rows of `tailwater.events`.
//! - `routed`: events as rows of the tables of routes, and whether these will do.
//! - `row_fault`: what an error says of single rows.
//! - `refusals`: rows of which some may be refused.
//! - `dead_letters`: events that a table cannot take.
//! - `schema`: the tables, made and migrated.
//! - `connection`: a connection that is given up when it does not answer.
//! - `tls`: TLS of a connection.
//! - [`error`]: what goes wrong, whether it heals, and what to do.

pub mod error;
pub mod lease;
pub mod place;
pub mod settings;
pub mod store;
pub mod survey;

mod batch;
mod commit;
mod connection;
mod dead_letters;
mod leases_table;
mod refusals;
mod routed;
mod row_fault;
mod rows;
mod schema;
mod streams_table;
mod tls;

pub use error::Error;
pub use lease::{Fence, InstanceId, Leases, Membership, Sharing};
pub use leases_table::Expired;
pub use place::{Fault, Outcome, Place, Tail};
pub use routed::{KeyState, Problem, RouteFault, RoutedDifferences};
pub use settings::{Settings, SettingsError};
pub use store::Store;

/// The longest name of a stream that the tables take, in bytes: an index of PostgreSQL holds no row over 2,704 bytes,
/// two numbers beside the name among them.
pub const NAME_BYTES_MAX: usize = 2_600;
