//! Maps for headers that are used again. Whichever a thread used last is the next one, so it is still in its cache.

use std::cell::RefCell;

use http::HeaderMap;

/// More are never of use at a time on one thread: a map is taken to be filled and sent.
const SPARES_MAX: usize = 16;

/// A map with more room was made for a rare request, and takes longer to be cleared.
const ROOM_MAX: usize = 64;

thread_local! {
    static SPARES: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map, most likely one with room.
pub(crate) fn take() -> HeaderMap {
    SPARES.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Takes a map that nobody needs any more.
pub(crate) fn give(mut map: HeaderMap) {
    if map.capacity() > ROOM_MAX {
        return;
    }
    map.clear();
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARES_MAX {
            spares.push(map);
        }
    });
}
