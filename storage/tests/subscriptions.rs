//! What the runtime of subscriptions promises, over every kind of backend, and what crashes leave of it.
//!
//! | file | what stands there |
//! |---|---|
//! | `scene.rs` | an engine with subscriptions, a receiver that does as it is told, and how to wait for what must come |
//! | `workers.rs` | wake events, claims, acks, ends of leases |
//! | `webhooks.rs` | deliveries, retries, callbacks |
//! | `membership.rs` | which streams are linked, and where |
//! | `pages.rs` | subscriptions and their streams a page at a time |
//! | `hidden.rs` | what nobody sees of it |
//! | `checks.rs` | what verify says of it |
//! | `restarts.rs` | what an orderly end and crashes at each operation of the disk leave |
//! | `campaign.rs` | crash campaigns: what any faults and crashes of many lives leave |
//! | `transfers.rs` | exports and imports |
#![cfg(not(feature = "shuttle"))]

mod support;

mod subscriptions {
    mod campaign;
    mod checks;
    mod hidden;
    mod membership;
    mod pages;
    mod restarts;
    pub(crate) mod scene;
    mod transfers;
    mod webhooks;
    mod workers;
}
