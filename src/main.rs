//! The `tailwater` command.

use std::ffi::{CStr, c_char};
use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Requests are taken apart on one thread and what they bring is let go on another, by the hundred. The system's allocator has
/// no good place for that; docs/architecture.md says what it costs.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// hyper reads each request into a piece of 8 KiB. A thread keeps up to 512 free ones, 4 MiB, for requests that come and go by the
/// hundred; by itself jemalloc keeps 20. `_RJEM_MALLOC_CONF` in the environment goes before this.
const ALLOCATOR_SETTINGS: &CStr = c"tcache_ncached_max:8192-8192:512";

/// Where jemalloc looks for its settings when the process begins.
#[expect(
    unsafe_code,
    reason = "jemalloc reads a C string under this name, and nothing else has it"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: Option<&'static c_char> = Some(
    // SAFETY: the pointer is that of a constant's first byte.
    unsafe { &*ALLOCATOR_SETTINGS.as_ptr() },
);

fn main() -> ExitCode {
    tailwater::cli::run()
}
