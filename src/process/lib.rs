//! What all of Tailwater's programs have: settings from defaults, a TOML file, `DS_*` variables and flags, log lines,
//! metrics, and patience.
//!
//! Knows no setting by name: each program has a [`Table`] of its own. Reads no file, no environment and no clock, but for
//! [`usage`], which asks the kernel.
//!
//! - [`table`]: one program's settings, and [`settings!`], which makes typed structs of them.
//! - [`kinds`]: what a value may look like, and how its text becomes a type.
//! - [`sources`]: where values come from, and in which order they win.
//! - [`values`]: lays the sources over each other and collects every mistake.
//! - [`render`]: the settings as TOML and as a table in Markdown.
//! - [`mistakes`]: each with what to do about it.
//! - [`logging`]: where log lines go, and how they look.
//! - [`page`]: metrics in the Prometheus text format.
//! - [`usage`]: metrics of the process itself.
//! - `traces`: spans that go to a collector, with the feature `otlp`.
//! - [`backoff`]: how long to wait before trying again.

pub mod backoff;
pub mod kinds;
pub mod logging;
pub mod mistakes;
pub mod page;
pub mod render;
pub mod sources;
pub mod table;
#[cfg(feature = "otlp")]
pub mod traces;
pub mod usage;
pub mod values;

pub use backoff::Backoff;
pub use logging::{LogFormat, LoggingError};
pub use mistakes::{ConfigError, ConfigErrors};
pub use sources::{File, Flag, Origin, Sources};
pub use table::{Setting, Table};
pub use usage::Usage;
pub use values::Values;
