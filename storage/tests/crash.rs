//! What crashes, failing disks and full disks leave of a file store: exactly what was promised.
//!
//! Everything runs on one thread, on a disk in memory whose faults come from a seed. `TAILWATER_CRASH_SEED` is the
//! first seed and `TAILWATER_CRASH_SEEDS` how many there are; a failure prints its seed and what was done.
//!
//! | file | what stands there |
//! |---|---|
//! | `workload.rs` | records such as an engine commits, by chance |
//! | `history.rs` | what was done, and how it ends |
//! | `run.rs` | a store, its disk, and what may be there after a crash |
//! | `judge.rs`, `comparison.rs` | compares what is there with that |
//! | `cuts.rs` | the machine or the process ends at each operation of a short run |
//! | `lives.rs` | a store lives, crashes, recovers and lives on, with one fault in each life |
//! | `losses.rs`, `damage.rs`, `space.rs` | lost positions, flipped bits, full disks |
//! | `syncs.rs` | a sync that fails beside a commit |
//! | `merges.rs` | what merging gives back, and what it leaves as it is |
//! | `leftovers.rs` | what was given back before a crash, and not durably |
//! | `crowded.rs` | full disks with very many streams, restarts on full disks |
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

use crash::workload;
use support::seeds::seeds;

mod crash {
    mod comparison;
    mod crowded;
    mod cuts;
    mod damage;
    mod history;
    mod judge;
    mod leftovers;
    mod lives;
    mod losses;
    mod merges;
    mod run;
    mod space;
    mod syncs;
    pub(crate) mod workload;
}
