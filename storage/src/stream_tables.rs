//! What is known of streams beside their bytes, as tables of a [`Database`](crate::database::Database). Every backend
//! that keeps streams in one has these, and tables of its own beside them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `streams` | id | [`StreamRow`], with the deadline that `deadlines` has for it |
//! | `names` | name | the highest id that was given it |
//! | `producers` | id, producer id | [`ProducerState`](tailwater_stream::ProducerState) |
//! | `controls` | id, control key | the value |
//! | `forks` | source's id, fork's id | |
//! | `deleted` | id | |
//! | `deadlines` | time in milliseconds, id | |
//!
//! Numbers in keys are big-endian, so that byte order is their order, and have eight bytes.

pub(crate) mod audit;
mod changes;
pub(crate) mod keys;
pub(crate) mod queries;
pub(crate) mod rows;

use tailwater_stream::{StreamState, Timestamp};

pub(crate) use changes::{LazyTable, StreamTables};
pub(crate) use rows::StreamRow;

/// When a load would find the stream's lifetime over. A use may have gone unrecorded, so the end is the one that
/// a load assumes.
pub(crate) fn deadline(state: &StreamState) -> Option<Timestamp> {
    if state.deleted {
        return None;
    }
    let used_at = state.lifetime.touched_at_load(state.touched_at);
    state.lifetime.deadline(used_at)
}
