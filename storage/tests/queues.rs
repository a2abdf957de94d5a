//! What the runtime of job queues promises, over every kind of backend, and what crashes leave of it.
//!
//! | file | what stands there |
//! |---|---|
//! | `scene.rs` | an engine with queues, and how to wait for what must come |
//! | `workers.rs` | claims, heartbeats, ends of leases |
//! | `beside.rs` | what is decided while records are on their way |
//! | `admission.rs` | messages become jobs, or dead letters |
//! | `dead.rs` | dead letters: told, tried anew, forgotten |
//! | `redrives.rs` | all dead letters are tried anew, but for those that cannot be |
//! | `ends.rs` | cancelled, expired, timed out, given up, deleted, tried anew |
//! | `again.rs` | a queue that is made anew |
//! | `upkeep.rs` | trims, retention, configuration |
//! | `restarts.rs` | what an orderly end and crashes at each operation of the disk leave |
//! | `agreement.rs` | queues and runs that an import has parted |
//! | `transfers.rs` | what an export and an import take along |
//! | `space.rs` | what happens when there is no space |
//! | `undecided.rs` | jobs whose runs cannot begin yet |
//! | `damage.rs` | runs and dead letters that cannot be read |
#![cfg(not(feature = "shuttle"))]

mod support;

mod queues {
    mod admission;
    mod again;
    mod agreement;
    mod beside;
    mod damage;
    mod dead;
    mod ends;
    mod redrives;
    mod restarts;
    pub(crate) mod scene;
    mod space;
    mod transfers;
    mod undecided;
    mod upkeep;
    mod workers;
}
