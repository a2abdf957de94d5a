//! Calls for memory ahead of its use.
//!
//! Where there are very many streams, what is known of one is in no cache of the processor. Whoever looks at one part of it
//! after the other waits for each by itself; called for together, they come together, and what is called for early enough is
//! there when it is looked at. It changes nothing but the time that this takes.
//!
//! Where what is called for has to be looked up first, or stands in a map of a file, a look at it that nothing waits for does the
//! same, on every processor: see `call_for_in` of the overlay and `call_for` of the fold.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "the instruction takes an address; it reads and writes nothing, and no address is wrong"
    )
)]

use std::ops::Range;

/// The processor takes bytes out of memory in lines of at least so many.
pub(crate) const LINE_BYTES: usize = 64;

/// Calls for `value` itself, not for what it points to, and does not wait for it.
pub(crate) fn call_for<T>(value: &T) {
    let begin = std::ptr::from_ref(value).cast::<u8>();
    for at in lines(begin.addr()..begin.addr() + size_of::<T>()) {
        call_for_line(begin.with_addr(at));
    }
}

/// Where the lines begin in which these addresses stand.
fn lines(addresses: Range<usize>) -> impl Iterator<Item = usize> {
    let first = addresses.start - addresses.start % LINE_BYTES;
    (first..addresses.end).step_by(LINE_BYTES)
}

#[cfg(target_arch = "x86_64")]
fn call_for_line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint, which has no effect on what memory holds and no fault, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// Rust has no stable way to tell other processors.
#[cfg(not(target_arch = "x86_64"))]
fn call_for_line(_at: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_of_a_value_are_called_for_wherever_it_begins() {
        for begin in 4096..4096 + 2 * LINE_BYTES {
            for bytes in [1, 8, 63, 64, 65, 296, 592] {
                let called_for: Vec<_> = lines(begin..begin + bytes).collect();
                let mut wanted: Vec<_> = (begin..begin + bytes)
                    .map(|at| at / LINE_BYTES * LINE_BYTES)
                    .collect();
                wanted.dedup();
                assert_eq!(called_for, wanted, "{bytes} bytes from {begin}");
            }
        }
    }
}
