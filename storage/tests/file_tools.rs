//! What operators ask of a file store: a check of all of it, a copy, numbers.
//!
//! | file | what stands there |
//! |---|---|
//! | `shop.rs` | a store with a model of what it holds, that lives by chance |
//! | `clean.rs` | a check finds nothing where nothing is, and changes nothing |
//! | `damage.rs` | a check finds what was planted |
//! | `copies.rs` | copies are the store as it was, and live on by themselves |
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

mod file_tools {
    mod clean;
    mod copies;
    mod damage;
    mod shop;
    mod trouble;
}
