//! Which streams have moved that somebody subscribes to. The engine tells of each durable change here, in the stream's
//! turn, so no more is done than to note a name. Knows nothing of subscriptions but the index.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use tailwater_stream::{Position, ScheduleId, StreamName, Transition};
use tokio::sync::Notify;

use super::index::Index;
use crate::engine::Incarnation;
use crate::sync::{AtomicU64, Mutex};

/// Whether somebody subscribes to an open stream, and as of which version of the index. An append that nobody subscribes
/// to costs a look at both.
#[derive(Debug, Default)]
pub(crate) struct Interest(AtomicU64);

impl Interest {
    fn is_wanted(&self, index: &Index, name: &StreamName) -> bool {
        let version = index.version();
        // Nobody has ever subscribed to anything.
        if version == 0 {
            return false;
        }
        let known = self.0.load(Ordering::Relaxed);
        if known >> 1 == version {
            return known & 1 == 1;
        }
        let is_wanted = index.is_wanted(name);
        self.0
            .store(version << 1 | u64::from(is_wanted), Ordering::Relaxed);
        is_wanted
    }
}

/// The names of streams that have moved and that nobody has looked at since. There are at most as many as streams.
#[derive(Default)]
pub(crate) struct Moves {
    pub(super) index: Index,
    noted: Mutex<HashSet<StreamName, RandomState>>,
    news: Notify,
    /// Schedules that imports have brought.
    schedules: Mutex<Vec<ScheduleId>>,
    schedules_came: Notify,
}

impl Moves {
    /// A stream has begun, with all that it holds.
    pub(crate) fn begun(&self, incarnation: &Arc<Incarnation>, transition: &Transition) {
        // A new stream is empty until its first append, which may stand in the same record; but a fork need not be.
        if incarnation.view().tail == Position::ZERO && !matches!(transition, Transition::Import(_)) {
            return;
        }
        // Imported schedules and subscriptions are told of as well.
        if let Some(id) = incarnation.name.schedule() {
            self.schedules.lock().push(id);
            self.schedules_came.notify_one();
        } else if incarnation.name.is_reserved() {
            self.note_name(incarnation.name.clone());
        } else {
            self.note(incarnation);
        }
    }

    /// A stream has changed, as its readers have been shown. The change feed is told first: it puts a fence between what
    /// readers see and this look at the index, so whoever is put into the index meanwhile sees the change or is told of it.
    pub(crate) fn changed(&self, incarnation: &Incarnation, transition: &Transition) {
        match transition {
            Transition::Append(append) if append.payload.is_empty() => {}
            Transition::Append(_) | Transition::Delete { .. } => self.note(incarnation),
            Transition::Create(_)
            | Transition::Stage(_)
            | Transition::Import(_)
            | Transition::Trim { .. }
            | Transition::Touch { .. } => {}
        }
    }

    fn note(&self, incarnation: &Incarnation) {
        if incarnation.interest.is_wanted(&self.index, &incarnation.name) {
            self.note_name(incarnation.name.clone());
        }
    }

    /// Notes a stream as if it had moved.
    pub(super) fn note_name(&self, name: StreamName) {
        let mut noted = self.noted.lock();
        let is_first = noted.is_empty();
        noted.insert(name);
        drop(noted);
        if is_first {
            self.news.notify_one();
        }
    }

    /// How many names are noted.
    pub(super) fn waiting(&self) -> usize {
        self.noted.lock().len()
    }

    /// Takes all names that are noted.
    pub(super) fn take(&self) -> HashSet<StreamName, RandomState> {
        std::mem::take(&mut *self.noted.lock())
    }

    /// Waits until imports have brought schedules, and takes their names.
    pub(crate) async fn imported_schedules(&self) -> Vec<ScheduleId> {
        loop {
            let imported = std::mem::take(&mut *self.schedules.lock());
            if !imported.is_empty() {
                return imported;
            }
            self.schedules_came.notified().await;
        }
    }

    #[cfg(test)]
    pub(super) fn noted_count(&self) -> usize {
        self.noted.lock().len()
    }

    /// Waits until a name is noted.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use bytes::Bytes;
    use tailwater_stream::subscription::Pattern;
    use tailwater_stream::{ContentType, CreateCommand, NameLimits, SubscriptionId};

    use super::super::opened::Opened;
    use super::*;
    use crate::clock::ManualClock;
    use crate::engine::AppendRequest;
    use crate::{Engine, EngineLimits, Memory};

    fn name(text: &str) -> StreamName {
        StreamName::parse(text, NameLimits::default()).expect("a name")
    }

    async fn append(engine: &Engine, stream: &str) -> Vec<String> {
        let request = AppendRequest {
            body: Bytes::from_static(b"x"),
            content_type: Some(ContentType::default()),
            ..AppendRequest::default()
        };
        engine.append(&name(stream), request).await.expect("appended");
        let noted = engine.moves().take();
        noted.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn what_nobody_wants_is_not_noted_and_what_somebody_wants_is_noted_from_then_on() {
        let memory = Arc::new(Memory::new(1 << 20));
        let clock = Arc::new(ManualClock::at_millis(1));
        let engine = Engine::start(memory, clock, EngineLimits::default()).expect("memory works");
        for stream in ["jobs/a", "other"] {
            let created = engine.create(&name(stream), CreateCommand::default()).await;
            created.expect("created");
            assert_eq!(
                append(&engine, stream).await,
                [""; 0],
                "nobody has ever subscribed"
            );
        }
        let index = &engine.moves().index;
        let opened = Arc::new(Opened::new(SubscriptionId::parse("s").expect("an id")));
        let pattern = Pattern::parse("jobs/*").expect("a pattern");
        index.add_pattern(&pattern, &opened);
        assert_eq!(append(&engine, "jobs/a").await, ["jobs/a"]);
        assert_eq!(append(&engine, "jobs/a").await, ["jobs/a"]);
        assert_eq!(append(&engine, "other").await, [""; 0]);
        let named = [name("other")];
        index.add_streams(&named, &opened);
        assert_eq!(append(&engine, "other").await, ["other"]);
        index.remove_streams(&named, &opened);
        index.remove_pattern(&pattern, &opened);
        for stream in ["jobs/a", "other"] {
            assert_eq!(
                append(&engine, stream).await,
                [""; 0],
                "nobody subscribes any more"
            );
        }
    }
}
