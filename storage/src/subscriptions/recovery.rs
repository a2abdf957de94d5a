//! What a start finds: every subscription as it was stored, and the streams that have moved since.

use std::sync::Arc;

use tailwater_stream::name::SUBSCRIPTIONS_PREFIX;
use tailwater_stream::{StreamId, StreamName, StreamState, Subscription, SubscriptionId};
use tokio::sync::{Semaphore, watch};

use super::codec;
use super::deliver::Deliver;
use super::links::LinksPage;
use super::opened::{Opened, Turn};
use super::turns::{PAUSE_MS, damaged};
use super::{Shared, SubscriptionError, SubscriptionLimits, SubscriptionStats, Subscriptions, TURNS_MAX};
use crate::backend::BackendError;
use crate::engine::{Engine, EngineError};
use crate::panics::{Panicked, Task, TaskPanics};
use crate::sync::Mutex;
use crate::timers::Timers;

/// Streams that are listed in one go.
const PAGE: usize = 1_000;

impl Subscriptions {
    /// Loads all subscriptions, and begins to look for what has moved since they were last looked at. Call it within the
    /// runtime, before anything is appended.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub async fn start(
        engine: Engine,
        deliver: Arc<dyn Deliver>,
        limits: SubscriptionLimits,
    ) -> Result<Self, SubscriptionError> {
        let all = Self {
            shared: Arc::new(Shared {
                engine,
                deliver,
                limits,
                stats: SubscriptionStats::default(),
                all: Mutex::default(),
                timers: Timers::default(),
                turns: Arc::new(Semaphore::new(TURNS_MAX)),
                handing_out: Mutex::default(),
                is_recovered: watch::Sender::new(false),
                is_stopping: watch::Sender::new(false),
            }),
        };
        all.load_all().await?;
        tokio::spawn(all.clone().follow_news());
        tokio::spawn({
            let all = all.clone();
            async move {
                let panics = &all.shared.engine.stats().panics;
                panics.keep(Task::SubscriptionClock, || all.keep_time()).await;
            }
        });
        tokio::spawn(all.clone().begin());
        Ok(all)
    }

    /// Looks for what has moved before the start.
    async fn begin(self) {
        let panics = &self.shared.engine.stats().panics;
        panics.keep(Task::SubscriptionRecovery, || self.recover()).await;
    }

    /// Hands streams out as they are noted, for ever.
    async fn follow_news(self) {
        let panics = &self.shared.engine.stats().panics;
        while panics
            .watch(Task::SubscriptionMoves, self.follow())
            .await
            .is_err()
        {
            TaskPanics::pause().await;
            // What it had taken to hand out is lost, so all is looked at anew.
            self.clone().begin().await;
        }
    }

    async fn load_all(&self) -> Result<(), SubscriptionError> {
        let load = async |state: StreamState| match state.name.subscription() {
            Some(id) => unless_damaged(&id, self.load(id.clone(), state.id).await),
            None => Ok(()),
        };
        self.shared
            .engine
            .with_all_hidden(SUBSCRIPTIONS_PREFIX, load)
            .await
    }

    /// Loads one subscription. What is left of one that was never finished is deleted.
    async fn load(&self, id: SubscriptionId, stream: StreamId) -> Result<(), SubscriptionError> {
        let Some(turn) = self.read(&id, stream).await? else {
            self.shared.engine.delete_hidden(&id.stream()).await?;
            return Ok(());
        };
        let named = self.named_streams(&turn).await?;
        let opened = Arc::new(Opened::new(id.clone()));
        self.add_to_index(&opened, &turn.subscription.config, &named);
        *opened.turn.lock().await = Some(turn);
        opened.set_made();
        self.shared.all.lock().insert(id, opened);
        Ok(())
    }

    async fn read(&self, id: &SubscriptionId, stream: StreamId) -> Result<Option<Turn>, SubscriptionError> {
        let config = self.shared.engine.control(stream, codec::CONFIG_KEY).await?;
        let state = self.shared.engine.control(stream, codec::STATE_KEY).await?;
        let (Some(config), Some(state)) = (config, state) else {
            return Ok(None);
        };
        let place = format!("the subscription `{id}`");
        let stored = codec::decode_config(&config).map_err(|error| damaged(&place, error))?;
        let state = codec::decode_state(&state).map_err(|error| damaged(&place, error))?;
        let subscription = Subscription::new(stored.config, stored.created_at, state);
        Ok(Some(Turn::new(subscription, stream, stored.root)))
    }

    /// Looks at every stream that somebody subscribes to, and at every link whose stream may be gone, until all of that
    /// could be read; then everything goes on where it was.
    async fn recover(&self) {
        let mut stopping = self.shared.is_stopping.subscribe();
        while let Err(error) = self.find_moved().await {
            if self.shared.engine.failure().borrow().is_some() {
                return;
            }
            // What was taken for settled then would be forgotten until the next start.
            tracing::error!(%error, "what has moved for subscriptions could not be found; it is looked for again");
            tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_millis(PAUSE_MS)) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
        self.shared.is_recovered.send_replace(true);
        let all: Vec<_> = self.shared.all.lock().values().cloned().collect();
        for opened in all {
            self.schedule(&opened);
        }
    }

    async fn find_moved(&self) -> Result<(), SubscriptionError> {
        if self.count() == 0 {
            return Ok(());
        }
        let index = &self.shared.engine.moves().index;
        let mut after: Option<StreamName> = None;
        loop {
            let listed = self.shared.engine.list_states(String::new(), after, PAGE).await?;
            let is_last = listed.len() < PAGE;
            after = listed.last().map(|state| state.name.clone());
            for state in listed {
                index.visit(&state.name, |opened| opened.note(state.name.clone()));
            }
            // They are looked at before more are noted, so that few are in memory.
            self.look_at_noted().await?;
            if is_last {
                break;
            }
        }
        self.find_gone().await
    }

    async fn look_at_noted(&self) -> Result<(), SubscriptionError> {
        let all: Vec<_> = self.shared.all.lock().values().cloned().collect();
        for opened in all {
            if let Some(turn) = opened.turn.lock().await.as_mut() {
                unless_damaged(&opened.id, self.look(&opened, turn).await)?;
            }
        }
        Ok(())
    }

    /// Links whose streams were deleted, and nobody has looked since.
    async fn find_gone(&self) -> Result<(), SubscriptionError> {
        let all: Vec<_> = self.shared.all.lock().values().cloned().collect();
        for opened in all {
            if let Some(turn) = opened.turn.lock().await.as_mut() {
                unless_damaged(&opened.id, self.find_gone_of(&opened, turn).await)?;
            }
        }
        Ok(())
    }

    async fn find_gone_of(&self, opened: &Arc<Opened>, turn: &mut Turn) -> Result<(), SubscriptionError> {
        let mut page = Some(LinksPage::first(PAGE));
        while let Some(links) = self.next_links(turn, &mut page).await? {
            let asked = links.into_iter().map(|(stream, _)| (stream, None)).collect();
            let tails = self.shared.engine.tails(turn.stream, asked).await?;
            for (stream, tail, _) in tails {
                if tail.is_none() {
                    opened.note(stream);
                }
            }
            self.look(opened, turn).await?;
        }
        Ok(())
    }

    /// An import has put a subscription's hidden stream in place: takes over what it says. If that panics it is done again
    /// after a while: else nobody would be woken before the next start.
    pub(super) fn look_for(&self, id: SubscriptionId) {
        let all = self.clone();
        tokio::spawn(async move {
            let panics = &all.shared.engine.stats().panics;
            let mut stopping = all.shared.is_stopping.subscribe();
            let taken = loop {
                match panics.watch(Task::SubscriptionRecovery, all.take_over(&id)).await {
                    Ok(taken) => break taken,
                    Err(Panicked) => tokio::select! {
                        () = TaskPanics::pause() => {}
                        _ = stopping.wait_for(|stopping| *stopping) => return,
                    },
                }
            };
            if let Err(error) = taken {
                tracing::error!(subscription = %id, %error, "an imported subscription cannot be used");
            }
        });
    }

    async fn take_over(&self, id: &SubscriptionId) -> Result<(), SubscriptionError> {
        let name = id.stream();
        let Some(stream) = self.shared.engine.hidden_id(&name).await? else {
            return Ok(());
        };
        if !self.is_loaded(id, stream).await {
            self.load(id.clone(), stream).await?;
        }
        // Also if it was loaded: whoever did may not have come to this.
        if let Ok(opened) = self.find(id) {
            self.note_all(&opened).await?;
            self.schedule(&opened);
        }
        Ok(())
    }

    /// Whether the subscription is what that hidden stream says. One that another stream told of is forgotten.
    async fn is_loaded(&self, id: &SubscriptionId, stream: StreamId) -> bool {
        let Ok(opened) = self.find(id) else { return false };
        let mut turn = opened.turn.lock().await;
        let Some(there) = turn.as_mut() else { return false };
        if there.stream == stream {
            return true;
        }
        // Its hidden stream is no longer there to tell which streams it named.
        let named = self.shared.engine.moves().index.names_of(&opened);
        self.forget(&opened, there, &named);
        *turn = None;
        false
    }

    /// Notes the streams of one subscription as if they had moved. Those that are not there may be imported after it,
    /// and keep their links until then.
    async fn note_all(&self, opened: &Arc<Opened>) -> Result<(), SubscriptionError> {
        let turn = opened.turn.lock().await;
        let Some(turn) = turn.as_ref() else { return Ok(()) };
        let config = &turn.subscription.config;
        let pattern = config.pattern.as_ref();
        let mut after: Option<StreamName> = None;
        let mut is_last = pattern.is_none();
        while !is_last {
            let prefix = pattern
                .map(tailwater_stream::subscription::Pattern::literal_prefix)
                .unwrap_or_default();
            let listed = self.shared.engine.list_states(prefix, after, PAGE).await?;
            is_last = listed.len() < PAGE;
            after = listed.last().map(|state| state.name.clone());
            let wanted = listed.into_iter().filter(|state| config.wants(&state.name));
            wanted.for_each(|state| opened.note(state.name));
        }
        let named = self.named_streams(turn).await?;
        let asked = named.into_iter().map(|stream| (stream, None)).collect();
        for (stream, tail, _) in self.shared.engine.tails(turn.stream, asked).await? {
            if tail.is_some() {
                opened.note(stream);
            }
        }
        Ok(())
    }
}

/// Passes over a subscription that cannot be read, such as an import may have brought in: it cannot keep the others from
/// being served.
fn unless_damaged(id: &SubscriptionId, done: Result<(), SubscriptionError>) -> Result<(), SubscriptionError> {
    match done {
        Err(SubscriptionError::Engine(EngineError::Backend(BackendError::Damaged { what }))) => {
            tracing::error!(subscription = %id, %what, "the subscription cannot be used; make it anew");
            Ok(())
        }
        done => done,
    }
}
