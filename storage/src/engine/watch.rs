//! What readers see of a stream: only what is durable. Wakes them when it changes.

use std::any::Any;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use tailwater_stream::{
    ContentType, ForkSource, Lifetime, Lineage, OffsetToken, Position, StreamId, StreamKind, StreamName,
    StreamState, Timestamp, Transition,
};
use tokio::sync::watch;

use crate::subscriptions::Interest;

/// The durable state of a stream, as far as readers see it. One snapshot serves a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The position behind the last durable byte.
    pub tail: Position,
    /// The oldest position that can be read from.
    pub oldest: Position,
    /// Messages before the tail, counted from the beginning.
    pub messages: u64,
    /// Whether nothing will follow the tail.
    pub closed: bool,
    /// Whether the stream was deleted or has expired.
    pub deleted: bool,
    /// When bytes were last added.
    pub last_append_at: Option<Timestamp>,
}

/// One incarnation of a stream: what never changes of it, and a view that does.
pub struct Incarnation {
    /// Its id.
    pub id: StreamId,
    /// Its name.
    pub name: StreamName,
    /// What it is for.
    pub kind: StreamKind,
    /// The name of the stream that it belongs to, and is kept beside: a run's queue, for example.
    pub beside: Option<StreamName>,
    /// Its content type.
    pub content_type: ContentType,
    /// Its lifetime.
    pub lifetime: Lifetime,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whose bytes stand where.
    pub lineage: Lineage,
    /// What it was forked from.
    pub source: Option<ForkSource>,
    /// The number of the last `appended` event of this stream in the change feed.
    pub(super) appended_event: AtomicU64,
    /// Whether somebody subscribes to it, as it was last looked up.
    pub(crate) interest: Interest,
    view: watch::Sender<View>,
    attachment: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Incarnation {
    pub(super) fn new(state: &StreamState) -> Self {
        let view = View {
            tail: state.tail,
            oldest: state.oldest,
            messages: state.messages,
            closed: state.closed,
            deleted: state.deleted,
            last_append_at: state.last_append_at,
        };
        Self {
            id: state.id,
            name: state.name.clone(),
            kind: state.kind,
            beside: state.beside.clone(),
            content_type: state.content_type.clone(),
            lifetime: state.lifetime,
            created_at: state.created_at,
            lineage: state.lineage.clone(),
            source: state.source.clone(),
            appended_event: AtomicU64::new(0),
            interest: Interest::default(),
            view: watch::Sender::new(view),
            attachment: OnceLock::new(),
        }
    }

    /// The durable state now.
    pub fn view(&self) -> View {
        *self.view.borrow()
    }

    /// Tells of every change of the view from now on. Subscribe first, then look at the tail.
    pub fn subscribe(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// The token that this stream gives out for `position`.
    pub fn token(&self, position: Position) -> OffsetToken {
        self.lineage.token(position)
    }

    /// What a translator keeps beside the open stream, such as encoded frames. Forgotten with it.
    ///
    /// # Panics
    /// If it is asked for as two different types.
    pub fn attachment<T: Default + Any + Send + Sync>(&self) -> &T {
        self.attachment
            .get_or_init(|| Box::<T>::default())
            .downcast_ref()
            .expect("the attachment has one type")
    }

    /// Shows a transition that has become durable.
    pub(super) fn show(&self, transition: &Transition) {
        match transition {
            Transition::Create(_)
            | Transition::Stage(_)
            | Transition::Import(_)
            | Transition::Touch { .. } => {}
            Transition::Append(append) => self.change(|view| {
                view.tail = append.end();
                view.messages += append.message_count();
                view.closed = append.closes;
                if !append.payload.is_empty() {
                    view.last_append_at = Some(append.at);
                }
            }),
            Transition::Delete { .. } => self.change(|view| view.deleted = true),
            Transition::Trim { before, .. } => self.change(|view| view.oldest = view.oldest.max(*before)),
        }
    }

    /// Changes the view. Nobody is woken if nobody waits: whoever subscribes while this holds the view's lock looks at
    /// the view only then, and sees the change.
    fn change(&self, change: impl FnOnce(&mut View)) {
        self.view.send_if_modified(|view| {
            change(view);
            self.view.receiver_count() > 0
        });
    }
}
