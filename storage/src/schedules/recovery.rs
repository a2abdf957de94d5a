//! What a start finds, and what an import brings: every schedule as it was stored. What is due is done in its first turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use tailwater_stream::name::SCHEDULES_PREFIX;
use tailwater_stream::{Schedule, ScheduleId, StreamId, StreamState};
use tokio::sync::{Semaphore, watch};

use super::opened::{Opened, Turn};
use super::{ScheduleError, ScheduleStats, Schedules, SchedulesLimits, Shared, TURNS_MAX, codec, zones};
use crate::backend::BackendError;
use crate::engine::{Engine, EngineError};
use crate::panics::Task;
use crate::sync::Mutex;
use crate::timers::Timers;

impl Schedules {
    /// Loads all schedules, and begins to do what is due. Call it within the runtime.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub async fn start(engine: Engine, limits: SchedulesLimits) -> Result<Self, ScheduleError> {
        let all = Self {
            shared: Arc::new(Shared {
                engine,
                limits,
                stats: ScheduleStats::default(),
                all: Mutex::new(BTreeMap::new()),
                timers: Timers::default(),
                turns: Semaphore::new(TURNS_MAX),
                is_stopping: watch::Sender::new(false),
            }),
        };
        all.load_all().await?;
        tokio::spawn({
            let all = all.clone();
            async move {
                let panics = &all.shared.engine.stats().panics;
                panics.keep(Task::ScheduleClock, || all.keep_time()).await;
            }
        });
        tokio::spawn(all.clone().follow_imports());
        Ok(all)
    }

    async fn load_all(&self) -> Result<(), ScheduleError> {
        let load = async |state: StreamState| {
            let Some(id) = state.name.schedule() else {
                return Ok(());
            };
            match self.load(id.clone(), state.id).await {
                // One that an import has brought in cannot keep the others from firing.
                Err(ScheduleError::Engine(EngineError::Backend(BackendError::Damaged { what }))) => {
                    tracing::error!(schedule = %id, %what, "the schedule cannot be used; make it anew");
                    Ok(())
                }
                loaded => loaded,
            }
        };
        self.shared.engine.with_all_hidden(SCHEDULES_PREFIX, load).await
    }

    /// Loads one schedule. What is left of one that was never finished is deleted.
    async fn load(&self, id: ScheduleId, stream: StreamId) -> Result<(), ScheduleError> {
        let Some(turn) = self.read(&id, stream).await? else {
            self.shared.engine.delete_hidden(&id.stream()).await?;
            return Ok(());
        };
        let opened = Arc::new(Opened::new(id.clone()));
        *opened.turn.lock().await = Some(turn);
        self.shared.all.lock().insert(id, Arc::clone(&opened));
        self.schedule(&opened);
        Ok(())
    }

    async fn read(&self, id: &ScheduleId, stream: StreamId) -> Result<Option<Turn>, ScheduleError> {
        let config = self.shared.engine.control(stream, codec::CONFIG_KEY).await?;
        let state = self.shared.engine.control(stream, codec::STATE_KEY).await?;
        let (Some(config), Some(state)) = (config, state) else {
            return Ok(None);
        };
        let stored = codec::decode_config(&config).map_err(|error| damaged(id, &error))?;
        let state = codec::decode_state(&state).map_err(|error| damaged(id, &error))?;
        let times = zones::times(&stored.config).map_err(|error| damaged(id, &error))?;
        let schedule = Schedule::new(stored.config, times, state);
        Ok(Some(Turn::new(schedule, stream, stored.created_at)))
    }

    /// Takes over what imports bring, for ever.
    async fn follow_imports(self) {
        let mut stopping = self.shared.is_stopping.subscribe();
        loop {
            let imported = tokio::select! {
                imported = self.shared.engine.moves().imported_schedules() => imported,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            for id in imported {
                let panics = &self.shared.engine.stats().panics;
                let taken = panics.watch(Task::ScheduleImports, self.take_over(&id)).await;
                // A panic has told of itself, and the next one is taken over all the same.
                if let Ok(Err(error)) = taken {
                    tracing::error!(schedule = %id, %error, "an imported schedule cannot be used");
                }
            }
        }
    }

    /// An import has put a schedule's hidden stream in place.
    async fn take_over(&self, id: &ScheduleId) -> Result<(), ScheduleError> {
        let Some(stream) = self.shared.engine.hidden_id(&id.stream()).await? else {
            return Ok(());
        };
        if let Ok(opened) = self.find(id) {
            let mut turn = opened.turn.lock().await;
            if let Some(there) = turn.as_mut() {
                if there.stream == stream {
                    return Ok(());
                }
                self.forget(&opened, there);
                *turn = None;
            }
        }
        self.load(id.clone(), stream).await
    }
}

fn damaged(id: &ScheduleId, error: &impl std::fmt::Display) -> ScheduleError {
    let what = format!("{error} in the schedule `{id}`");
    ScheduleError::Engine(BackendError::Damaged { what }.into())
}
