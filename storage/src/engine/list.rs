//! Lists streams, and describes those that the change feed names.

use tailwater_stream::{
    ContentType, Lifetime, OffsetToken, StreamId, StreamKind, StreamName, StreamState, Timestamp,
};

use super::{ChangeToken, Engine, EngineError, Incarnation, View};
use crate::backend::ListRequest;

/// Behind the names of all hidden streams, and before any other name that follows.
const BEHIND_RESERVED: &str = "__ds/\u{10FFFF}";

/// A stream as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its incarnation.
    pub id: StreamId,
    /// Its name.
    pub name: StreamName,
    /// What it is for.
    pub kind: StreamKind,
    /// Its content type.
    pub content_type: ContentType,
    /// Its tail.
    pub tail: OffsetToken,
    /// The oldest place that can be read from.
    pub oldest: OffsetToken,
    /// Bytes between the two.
    pub bytes: u64,
    /// Messages so far, trimmed ones included.
    pub messages: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When bytes were last added.
    pub last_append_at: Option<Timestamp>,
    /// Whether it is closed.
    pub closed: bool,
    /// Its lifetime.
    pub lifetime: Lifetime,
    /// The name of the stream it was forked from.
    pub forked_from: Option<StreamName>,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The streams, in the order of their names.
    pub streams: Vec<Listed>,
    /// The name to go on behind; none if nothing follows.
    pub after: Option<StreamName>,
    /// A place in the change feed from before the page was made: what happens from there on is told there.
    pub changes: ChangeToken,
}

impl Engine {
    /// Durable streams whose names begin with `prefix`, behind `after`, at most `count_max`.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        count_max: usize,
    ) -> Result<Listing, EngineError> {
        let changes = self.changes().now();
        let prefix = prefix.to_owned();
        let mut after = after.map(str::to_owned);
        let mut states = Vec::new();
        loop {
            let (prefix, from) = (prefix.clone(), after.take());
            let missing = count_max + 1 - states.len();
            let listed = self
                .ask(move |backend| {
                    backend.list(&ListRequest {
                        prefix: &prefix,
                        after: from.as_deref(),
                        count_max: missing,
                    })
                })
                .await?;
            let is_last = listed.len() < missing;
            let is_hidden = |state: &StreamState| state.name.is_reserved();
            if is_last || !listed.iter().any(is_hidden) {
                states.extend(listed.into_iter().filter(|state| !is_hidden(state)));
                break;
            }
            // Hidden streams stand in one row, which is passed over as a whole. What is behind it comes again.
            states.extend(listed.into_iter().take_while(|state| !is_hidden(state)));
            after = Some(BEHIND_RESERVED.to_owned());
        }
        let more = states.len() > count_max;
        states.truncate(count_max);
        let after = states.last().filter(|_| more).map(|last| last.name.clone());
        let now = self.now();
        let alive = states.iter().filter(|state| !self.is_over(state, now));
        Ok(Listing {
            streams: alive.map(Listed::from).collect(),
            after,
            changes,
        })
    }

    /// What a listing would show of this incarnation; none if it is not there any more.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub async fn describe(&self, name: &StreamName, id: StreamId) -> Result<Option<Listed>, EngineError> {
        if let Some(entry) = self.shared.registry.peek(name) {
            let durable = entry.sequencer.lock().durable().cloned();
            if let Some(incarnation) = durable {
                let view = incarnation.view();
                let alive = incarnation.id == id && !view.deleted;
                return Ok(alive.then(|| Listed::of(&incarnation, &view)));
            }
        }
        let name = name.clone();
        let state = self.ask(move |backend| backend.load(&name)).await?;
        Ok(state
            .filter(|state| state.id == id && !state.deleted)
            .as_ref()
            .map(Listed::from))
    }

    fn is_over(&self, state: &StreamState, now: Timestamp) -> bool {
        let recorded = state.lifetime.touched_at_load(state.touched_at);
        let open = self.shared.registry.peek(&state.name);
        // One that is just being loaded does not know yet when it was used.
        let open = open.filter(|entry| entry.loaded.initialized());
        let used_at = open.and_then(|entry| entry.sequencer.lock().used_at(state.id));
        state.lifetime.is_over(used_at.unwrap_or(recorded), now)
    }
}

impl From<&StreamState> for Listed {
    fn from(state: &StreamState) -> Self {
        Self {
            id: state.id,
            name: state.name.clone(),
            kind: state.kind,
            content_type: state.content_type.clone(),
            tail: state.tail_token(),
            oldest: state.lineage.token(state.oldest),
            bytes: state.tail.since(state.oldest),
            messages: state.messages,
            created_at: state.created_at,
            last_append_at: state.last_append_at,
            closed: state.closed,
            lifetime: state.lifetime,
            forked_from: state.source.as_ref().map(|source| source.name.clone()),
        }
    }
}

impl Listed {
    fn of(incarnation: &Incarnation, view: &View) -> Self {
        Self {
            id: incarnation.id,
            name: incarnation.name.clone(),
            kind: incarnation.kind,
            content_type: incarnation.content_type.clone(),
            tail: incarnation.token(view.tail),
            oldest: incarnation.token(view.oldest),
            bytes: view.tail.since(view.oldest),
            messages: view.messages,
            created_at: incarnation.created_at,
            last_append_at: view.last_append_at,
            closed: view.closed,
            lifetime: incarnation.lifetime,
            forked_from: incarnation.source.as_ref().map(|source| source.name.clone()),
        }
    }
}
