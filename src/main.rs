//! The `tailwater` command.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Requests are taken apart on one thread and what they bring is let go on another, by the hundred. The system's allocator has
/// no good place for that; docs/architecture.md says what it costs.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    tailwater::cli::run()
}
