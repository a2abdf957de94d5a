//! What the runtime of schedules promises, over every kind of backend, and what crashes leave of it.
//!
//! | file | what stands there |
//! |---|---|
//! | `scene.rs` | an engine with schedules, and what stands in the stream that they enqueue to |
//! | `firing.rs` | what is enqueued and when, and what is told of it |
//! | `making.rs` | schedules are made, changed, refused and deleted |
//! | `checks.rs` | what verify, exports and listings say of it |
//! | `restarts.rs` | what crashes at each operation of the disk leave |
#![cfg(not(feature = "shuttle"))]

mod support;

mod schedules {
    mod checks;
    mod firing;
    mod making;
    mod restarts;
    pub(crate) mod scene;
}
