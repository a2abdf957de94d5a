//! Any path, query and header block is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|request: (&str, Vec<(&str, &[u8])>)| {
    let (query, headers) = request;
    tailwater::http::fuzzing::read_request(query, &headers);
});
