//! What tests stand on: a backend with a fault seam, a disk with faults, seeds, and short ways to ask an engine.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod ask;
pub(crate) mod faulty_disk;
pub(crate) mod files;
pub(crate) mod gated;
pub(crate) mod gated_disk;
pub(crate) mod seeds;
pub(crate) mod stores;
pub(crate) mod transfer;
