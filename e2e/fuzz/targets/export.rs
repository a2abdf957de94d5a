//! Any bytes are read as an export or refused. The example in docs/export-format.md is a good beginning for a corpus.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tailwater::http::fuzzing::read_export(bytes));
