//! The Postgres mirror as its users run it: the real server, the real `tailwater-sync` and a real PostgreSQL, from an
//! append to a row. What is in a stream is in the tables, each event once, whoever dies and whenever.
//!
//! `TAILWATER_CRASH_ROUNDS` says how often one of the three is killed, `TAILWATER_CRASH_SEED` which and what is done
//! meanwhile.

mod buffer;
mod documentation;
mod edge;
mod faults;
mod first_steps;
mod following;
mod full_disk;
mod instances;
mod large_events;
mod many_streams;
mod operation;
mod pooler;
mod rig;
mod routes;
mod shared_routes;
mod soak;
mod verification;
