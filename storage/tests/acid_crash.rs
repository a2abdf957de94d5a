//! What crashes, failing disks and full disks leave of a store of shards: exactly what was acknowledged.
//!
//! It is done as in `crash.rs`, whose records and seeds these are too: on one thread, on a disk in memory whose faults
//! come from a seed. What a batch changes stands in one shard, and names may lead to any of them.
//!
//! | file | what stands there |
//! |---|---|
//! | `run.rs` | a store, its disk, and what may be there after a crash |
//! | `judge.rs` | compares what is there with that |
//! | `cuts.rs` | the machine or the process ends at each operation of a short run |
//! | `lives.rs` | a store lives, crashes, recovers and lives on, with one fault in each life |
//! | `space.rs`, `damage.rs` | full disks, flipped bits |
//! | `removals.rs` | what takes several changes to remove |
//! | `forks.rs` | names that lead to another shard |
#![cfg(not(feature = "shuttle"))]

#[allow(dead_code, reason = "the contract's tests use more of it")]
#[path = "contract/author.rs"]
mod author;
#[allow(dead_code, reason = "the contract's tests use more of it")]
#[path = "contract/naive.rs"]
mod naive;
#[allow(dead_code, reason = "tests of copies use more of it")]
#[path = "contract/sameness.rs"]
mod sameness;
mod support;

use acid_crash::workload;
use support::seeds::seeds;

mod acid_crash {
    #[path = "../crash/comparison.rs"]
    mod comparison;
    mod cuts;
    mod damage;
    mod forks;
    #[path = "../crash/history.rs"]
    mod history;
    mod judge;
    mod lives;
    mod removals;
    mod run;
    mod space;
    #[path = "../crash/workload.rs"]
    pub(crate) mod workload;
}
