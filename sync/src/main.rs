//! The `tailwater-sync` command.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Rows are gathered on many threads and let go on the one that writes them, as in the server.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    tailwater_sync::cli::run()
}
