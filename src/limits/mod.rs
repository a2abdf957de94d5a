//! Who may have how much of the server. Knows neither HTTP nor streams.
//!
//! | file | what stands there |
//! |---|---|
//! | `read_share.rs` | how much of the time reads take while appends are made |

mod read_share;

pub(crate) use read_share::{Entered, ReadShare, ReadShareConfig};
