//! The streams that are known, and what news of them changes. Talks to nobody.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::listing::{FeedChange, Stream};
use crate::event::Incarnation;

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was not known before.
    Appeared(Stream),
    /// There is more in it, or less: something was appended, or its beginning was trimmed.
    Moved(Stream),
    /// It is closed now. There may be more in it too.
    Closed(Stream),
    /// It is gone. If its name is another one's now, that one appears after this.
    Deleted {
        /// Its name.
        name: Arc<str>,
        /// Which stream of that name.
        incarnation: Incarnation,
    },
}

/// All streams that are known, each name and content type in memory once.
#[derive(Debug, Default)]
pub(super) struct Known {
    streams: HashMap<Arc<str>, Entry>,
    content_types: HashSet<Arc<str>>,
    /// The number of the listing that was begun last.
    listing: u64,
}

#[derive(Debug)]
struct Entry {
    stream: Stream,
    /// The last listing that had it, or in whose time the feed told of it.
    listing: u64,
}

impl Known {
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.streams.values().map(|entry| &entry.stream)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Stream> {
        self.streams.get(name).map(|entry| &entry.stream)
    }

    /// A listing of all streams begins.
    pub(super) fn begin_listing(&mut self) {
        self.listing += 1;
    }

    /// The listing is complete: what it did not have is gone.
    pub(super) fn end_listing(&mut self, changes: &mut Vec<Change>) {
        let listing = self.listing;
        self.streams.retain(|_, entry| {
            let is_there = entry.listing == listing;
            if !is_there {
                changes.push(deleted(&entry.stream));
            }
            is_there
        });
    }

    /// A stream is there, as it is now.
    pub(super) fn see(&mut self, mut stream: Stream, changes: &mut Vec<Change>) {
        let listing = self.listing;
        stream.content_type = self.interned(stream.content_type);
        let Some(entry) = self.streams.get_mut(&stream.name) else {
            changes.push(Change::Appeared(stream.clone()));
            let name = Arc::clone(&stream.name);
            self.streams.insert(name, Entry { stream, listing });
            return;
        };
        stream.name = Arc::clone(&entry.stream.name);
        entry.listing = listing;
        let before = std::mem::replace(&mut entry.stream, stream.clone());
        if before.incarnation != stream.incarnation {
            changes.extend([deleted(&before), Change::Appeared(stream)]);
        } else if stream.closed && !before.closed {
            changes.push(Change::Closed(stream));
        } else if before != stream {
            changes.push(Change::Moved(stream));
        }
    }

    /// The feed tells of a stream. Tales of an incarnation that is not known any more say nothing new, and one that is
    /// gone but not told to be deleted will be.
    pub(super) fn hear(&mut self, change: FeedChange, changes: &mut Vec<Change>) {
        if let Some(stream) = change.now {
            self.see(stream, changes);
        } else if change.deleted
            && let Some(entry) = self.streams.get(change.name.as_str())
            && entry.stream.incarnation == change.incarnation
        {
            changes.push(deleted(&entry.stream));
            self.streams.remove(change.name.as_str());
        }
    }

    fn interned(&mut self, content_type: Arc<str>) -> Arc<str> {
        if let Some(known) = self.content_types.get(&content_type) {
            return Arc::clone(known);
        }
        self.content_types.insert(Arc::clone(&content_type));
        content_type
    }
}

fn deleted(stream: &Stream) -> Change {
    Change::Deleted {
        name: Arc::clone(&stream.name),
        incarnation: stream.incarnation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Offset;

    fn stream(name: &str, id: u64, position: u64) -> Stream {
        let offset = if position == 0 { 0 } else { id };
        Stream {
            name: name.into(),
            incarnation: format!("{id:016}").parse().expect("an id"),
            content_type: "text/plain".into(),
            oldest: Offset::BEGINNING,
            next: format!("{offset:016}_{position:016}").parse().expect("an offset"),
            events: position,
            closed: false,
        }
    }

    fn gone(stream: &Stream) -> FeedChange {
        FeedChange {
            name: stream.name.to_string(),
            incarnation: stream.incarnation,
            deleted: true,
            now: None,
        }
    }

    fn seen(known: &mut Known, stream: &Stream) -> Vec<Change> {
        let mut changes = Vec::new();
        known.see(stream.clone(), &mut changes);
        changes
    }

    fn heard(known: &mut Known, change: FeedChange) -> Vec<Change> {
        let mut changes = Vec::new();
        known.hear(change, &mut changes);
        changes
    }

    #[test]
    fn only_news_are_told() {
        let mut known = Known::default();
        let (new, longer) = (stream("a", 1, 0), stream("a", 1, 5));
        assert_eq!(seen(&mut known, &new), [Change::Appeared(new.clone())]);
        assert_eq!(seen(&mut known, &new), []);
        assert_eq!(seen(&mut known, &longer), [Change::Moved(longer.clone())]);
        let closed = Stream {
            closed: true,
            ..longer
        };
        assert_eq!(seen(&mut known, &closed), [Change::Closed(closed.clone())]);
        assert_eq!(seen(&mut known, &closed), []);
        let trimmed = Stream {
            oldest: closed.next,
            ..closed
        };
        assert_eq!(seen(&mut known, &trimmed), [Change::Moved(trimmed)]);
    }

    #[test]
    fn a_stream_that_was_made_anew_is_gone_and_appears() {
        let mut known = Known::default();
        let (old, new) = (stream("a", 1, 5), stream("a", 2, 5));
        seen(&mut known, &old);
        assert_eq!(
            seen(&mut known, &new),
            [deleted(&old), Change::Appeared(new.clone())]
        );
        assert_eq!(heard(&mut known, gone(&old)), [], "that was noticed before");
        assert_eq!(heard(&mut known, gone(&new)), [deleted(&new)]);
        assert_eq!(heard(&mut known, gone(&new)), []);
        assert_eq!(known.len(), 0);
    }

    #[test]
    fn a_change_of_a_stream_that_is_gone_by_now_waits_for_its_deletion() {
        let mut known = Known::default();
        let old = stream("a", 1, 5);
        seen(&mut known, &old);
        let appended = FeedChange {
            deleted: false,
            ..gone(&old)
        };
        assert_eq!(heard(&mut known, appended), []);
        assert_eq!(heard(&mut known, gone(&old)), [deleted(&old)]);
    }

    #[test]
    fn what_a_listing_does_not_have_is_gone() {
        let mut known = Known::default();
        let (kept, lost) = (stream("a", 1, 5), stream("b", 2, 5));
        known.begin_listing();
        seen(&mut known, &kept);
        seen(&mut known, &lost);
        known.begin_listing();
        seen(&mut known, &kept);
        let mut changes = Vec::new();
        known.end_listing(&mut changes);
        assert_eq!(changes, [deleted(&lost)]);
        assert_eq!(known.streams().collect::<Vec<_>>(), [&kept]);
    }

    #[test]
    fn names_and_content_types_are_kept_once() {
        let mut known = Known::default();
        seen(&mut known, &stream("a", 1, 0));
        seen(&mut known, &stream("b", 2, 0));
        let [Change::Moved(moved)] = &seen(&mut known, &stream("a", 1, 5))[..] else {
            panic!("it has moved");
        };
        let (a, b) = (known.get("a").expect("known"), known.get("b").expect("known"));
        assert!(Arc::ptr_eq(&moved.name, &a.name) && Arc::ptr_eq(&a.content_type, &b.content_type));
        assert!(Arc::ptr_eq(
            known.streams.get_key_value("a").expect("known").0,
            &a.name
        ));
    }
}
