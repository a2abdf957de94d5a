//! The command line does what its help says, against the real server: data to stdout, notes to stderr,
//! exit codes that scripts can rely on.
//!
//! | file | what stands there |
//! |---|---|
//! | `command.rs` | how commands are run |
//! | `streams.rs` | streams are made, filled, read, listed and removed |
//! | `tails.rs` | what is printed as it comes |
//! | `appends.rs` | what is appended as it comes |
//! | `usage.rs` | settings, usage, help, and what is said when something is wrong |

mod appends;
mod command;
mod streams;
mod tails;
mod usage;
