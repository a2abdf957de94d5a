//! The storage engine: orders the commands of each stream, lets the rules decide them, and keeps their outcome
//! through a [`Backend`]. Knows nothing of HTTP.
//!
//! | module | what stands there |
//! |---|---|
//! | [`backend`] | the trait [`Backend`]: keeps committed bytes, and nothing more |
//! | [`memory`] | the backend that keeps them on the heap |
//! | [`acid`] | the backend that keeps them in redb databases, the shards |
//! | [`file`](mod@file) | the backend that keeps them in journals and segments |
//! | [`Store`] | a store on disk, of either of these two |
//! | [`engine`] | [`Engine`]: create, append, read, watch, delete, trim, list |
//! | [`subscriptions`] | [`Subscriptions`]: durable cursors that wake workers when streams move |
//! | [`queues`] | [`Queues`]: jobs that are leased to workers, and their runs |
//! | [`schedules`] | [`Schedules`]: messages that are enqueued at the times of a cron expression |
//! | `page` | a page of those things that are kept by their names |
//! | `timers` | when something is to be looked at again |
//! | `directory` | whose directory it is: lock, identity, mode, format |
//! | [`disk`] | the seam to the operating system: files and directories |
//! | `database`, `stream_tables` | a redb database in one of those files; what is known of streams, as its tables |
//! | `backup` | where copies of stores may be made, and why one could not be |
//! | `findings` | what a check of a store finds |
//! | `ahead` | calls for memory ahead of its use |
//! | `codec` | how the rules' own types become bytes |
//! | [`panics`] | work that is watched for panics: tasks in the background, which are begun again, and requests |
//! | [`clock`] | where the engine's time comes from |
//! | [`stats`] | what the engine counts and measures |
//! | `watched_commits` | commits as they are told of to whoever traces them, in builds with that feature |

pub mod acid;
mod ahead;
pub mod backend;
mod backup;
mod block_index;
pub mod clock;
mod codec;
mod database;
mod directory;
pub mod disk;
pub mod engine;
pub mod file;
mod findings;
pub mod memory;
mod page;
pub mod panics;
pub mod queues;
mod reachable;
pub mod schedules;
pub mod stats;
pub mod store;
mod stream_tables;
pub mod subscriptions;
mod sync;
mod timers;
mod to_its_end;
#[cfg(feature = "watched-commits")]
pub mod watched_commits;

pub use backend::{Backend, BackendError};
pub use directory::OpenError;
pub use engine::{Engine, EngineLimits};
pub use file::{FileOptions, FileStore};
pub use memory::Memory;
pub use queues::Queues;
pub use schedules::Schedules;
pub use store::{Store, StoreOptions, StoreStats};
pub use subscriptions::Subscriptions;
pub use tailwater_stream as stream;
