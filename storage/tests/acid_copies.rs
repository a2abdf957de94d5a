//! What operators ask of a store of shards: another number of them, and a copy.
//!
//! | file | what stands there |
//! |---|---|
//! | `shop.rs` | a store with a model of what it holds, that lives by chance |
//! | `reshard.rs` | the streams are the same in any number of shards |
//! | `cuts.rs` | whatever interrupts that, the shards are the old or the new ones |
//! | `copies.rs` | copies are the store as it was at one moment, and live on by themselves |
//! | `trouble.rs` | copies that do not come about |
#![cfg(not(feature = "shuttle"))]

#[allow(dead_code, reason = "the contract's tests use more of it")]
#[path = "contract/author.rs"]
mod author;
#[allow(dead_code, reason = "the contract's tests use more of it")]
#[path = "contract/naive.rs"]
mod naive;
#[path = "contract/sameness.rs"]
mod sameness;
mod support;
#[allow(dead_code, reason = "the crash tests use more of it")]
#[path = "crash/workload.rs"]
mod workload;

mod acid_copies {
    mod copies;
    mod cuts;
    mod reshard;
    mod shop;
    mod trouble;
}
