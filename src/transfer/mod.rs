//! Moves streams between engines: out of one as lines of JSON, and out of such lines into another.
//!
//! | module | what stands there |
//! |---|---|
//! | `format` | how a stream becomes lines, and lines a stream again |
//! | `outlet` | [`Outlet`]: an engine's streams as lines |
//! | `intake` | [`Intake`]: lines into an engine |

mod format;
mod intake;
mod outlet;

pub(crate) use format::{CONTENT_TYPE, ExportReader};
pub(crate) use intake::{Intake, IntakeError, Report};
pub(crate) use outlet::Outlet;
