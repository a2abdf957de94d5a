//! Times as HTTP shows them.

pub(crate) use tailwater_storage::stream::rfc3339::{format, parse};
