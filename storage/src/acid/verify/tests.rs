//! A check finds rows of shards that do not agree with each other, though each is as it was written.
//!
//! | file | what stands there |
//! |---|---|
//! | `store.rs` | a store that has a row in every table, and how to tamper with it |
//! | `streams.rs` | the tables of streams |
//! | `placement.rs` | what stands in which shard, and redirects |
//! | `bytes.rs` | blocks and pieces |
//! | `files.rs` | the files of a store |

mod bytes;
mod files;
mod placement;
mod store;
mod streams;
