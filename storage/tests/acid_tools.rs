//! What operators ask of a store of shards: a check of all of it, and to make it smaller.
//!
//! | file | what stands there |
//! |---|---|
//! | `shop.rs` | a store with a model of what it holds, that lives by chance |
//! | `clean.rs` | a check finds nothing where nothing is, and changes nothing |
//! | `damage.rs` | a check finds what was planted |
//! | `compaction.rs` | a store gets smaller and keeps every byte, wherever that is interrupted |
#![cfg(not(feature = "shuttle"))]

#[allow(dead_code, reason = "the contract's tests use more of it")]
#[path = "contract/author.rs"]
mod author;
#[allow(dead_code, reason = "the contract's tests use more of it")]
#[path = "contract/naive.rs"]
mod naive;
mod support;
#[allow(dead_code, reason = "the crash tests use more of it")]
#[path = "crash/workload.rs"]
mod workload;

mod acid_tools {
    mod clean;
    mod compaction;
    mod damage;
    mod shop;
}
