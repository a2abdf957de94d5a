//! What every backend owes the engine, as `backend.rs` promises it: the same tests for each of them.
#![cfg(not(feature = "shuttle"))]

mod contract {
    mod author;
    mod catalog;
    mod controls;
    mod forks;
    mod lifetimes;
    mod model;
    mod reading;
    mod records;
    mod space;
}

use tailwater_storage::{Backend, Memory};

/// A backend, by its name in failures, and how to make an empty one that stores at most so many bytes.
struct Row {
    name: &'static str,
    with_bytes_max: fn(u64) -> Box<dyn Backend>,
}

/// Every backend there is.
const BACKENDS: &[Row] = &[Row {
    name: "memory",
    with_bytes_max: |bytes_max| Box::new(Memory::new(bytes_max)),
}];

/// Holds a promise against every backend, each with room for `bytes_max`.
fn within(bytes_max: u64, promise: impl Fn(&dyn Backend)) {
    for row in BACKENDS {
        println!("backend: {}", row.name);
        promise((row.with_bytes_max)(bytes_max).as_ref());
    }
}

/// Holds a promise against every backend, each with ample room.
fn every_backend(promise: impl Fn(&dyn Backend)) {
    within(1 << 30, promise);
}
