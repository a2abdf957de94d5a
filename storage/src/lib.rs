//! The storage engine: orders the commands of each stream, lets the rules decide them, and keeps their outcome
//! through a [`Backend`]. Knows nothing of HTTP.
//!
//! | module | what stands there |
//! |---|---|
//! | [`backend`] | the trait [`Backend`]: keeps committed bytes, and nothing more |
//! | [`memory`] | the backend that keeps them on the heap |
//! | [`file`](mod@file) | the backend that keeps them in journals and segments |
//! | [`engine`] | [`Engine`]: create, append, read, watch, delete, trim, list |
//! | [`clock`] | where the engine's time comes from |
//! | [`stats`] | what the engine counts and measures |

pub mod backend;
pub mod clock;
pub mod engine;
pub mod file;
pub mod memory;
mod reachable;
pub mod stats;
mod sync;

pub use backend::{Backend, BackendError};
pub use engine::{Engine, EngineLimits};
pub use file::{FileOptions, FileStore};
pub use memory::Memory;
pub use tailwater_stream as stream;
