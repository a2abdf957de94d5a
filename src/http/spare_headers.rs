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
pub(super) fn take() -> HeaderMap {
    SPARES.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Takes a map that nobody needs any more.
pub(super) fn give(mut map: HeaderMap) {
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

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{ROOM_MAX, SPARES_MAX, give, take};
    use crate::http::headers::TRUE;

    #[test]
    fn a_map_that_was_given_is_taken_again_and_empty() {
        let mut map = HeaderMap::new();
        map.insert("stream-closed", TRUE.clone());
        let room = map.capacity();
        give(map);
        let again = take();
        assert!(again.is_empty());
        assert_eq!(again.capacity(), room);
    }

    #[test]
    fn neither_large_maps_nor_very_many_are_kept() {
        give(HeaderMap::with_capacity(2 * ROOM_MAX));
        assert_eq!(take().capacity(), 0);
        for _ in 0..2 * SPARES_MAX {
            give(HeaderMap::with_capacity(1));
        }
        let kept = std::iter::repeat_with(take).take_while(|map| map.capacity() > 0);
        assert_eq!(kept.count(), SPARES_MAX);
    }
}
