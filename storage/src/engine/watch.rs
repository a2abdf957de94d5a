//! What readers see of a stream: only what is durable. Wakes them when it changes.

use std::any::Any;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use tailwater_stream::{
    ContentType, ForkSource, Lifetime, Lineage, OffsetToken, Position, StreamId, StreamKind, StreamName,
    StreamState, Timestamp, Transition,
};
use tokio::sync::watch;

use crate::ahead;
use crate::subscriptions::Interest;
use crate::sync::Mutex;

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

/// One incarnation of a stream: what never changes of it, and a view that does. What every append looks at comes first and
/// stands together, for where there are very many streams it has to be fetched from memory each time.
#[repr(C)]
pub struct Incarnation {
    /// Its id.
    pub id: StreamId,
    /// The number of the last `appended` event of this stream in the change feed.
    pub(super) appended_event: AtomicU64,
    /// Whether somebody subscribes to it, as it was last looked up.
    pub(crate) interest: Interest,
    view: Mutex<View>,
    /// Tells of changes of the view; made for the first who wants to be told.
    watched: OnceLock<Box<watch::Sender<View>>>,
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
            appended_event: AtomicU64::new(0),
            interest: Interest::default(),
            view: Mutex::new(view),
            watched: OnceLock::new(),
            name: state.name.clone(),
            kind: state.kind,
            beside: state.beside.clone(),
            content_type: state.content_type.clone(),
            lifetime: state.lifetime,
            created_at: state.created_at,
            lineage: state.lineage.clone(),
            source: state.source.clone(),
            attachment: OnceLock::new(),
        }
    }

    /// The durable state now.
    pub fn view(&self) -> View {
        *self.view.lock()
    }

    /// Tells of every change of the view from now on. Subscribe first, then look at the tail.
    pub fn subscribe(&self) -> watch::Receiver<View> {
        let view = self.view.lock();
        let watched = self.watched.get_or_init(|| Box::new(watch::Sender::new(*view)));
        // It was not told of what changed while nobody listened.
        watched.send_if_modified(|known| {
            *known = *view;
            false
        });
        watched.subscribe()
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

    /// Calls for what is looked at to show an append.
    pub(super) fn call_for(&self) {
        let Self {
            id, view, watched, ..
        } = self;
        ahead::call_for(id);
        ahead::call_for(view);
        ahead::call_for(watched);
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

    /// Changes the view, and tells those who listen. Call it in the stream's turn, so that they are told in order.
    fn change(&self, change: impl FnOnce(&mut View)) {
        let changed = {
            let mut view = self.view.lock();
            change(&mut view);
            *view
        };
        // Whoever subscribes from now on has seen the change; many may have to be woken, so nobody waits for that.
        if let Some(watched) = self.watched.get()
            && watched.receiver_count() > 0
        {
            watched.send_replace(changed);
        }
    }
}
