//! What tests of the engine stand on: a backend with a fault seam, and short ways to ask an engine.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod ask;
pub(crate) mod gated;
