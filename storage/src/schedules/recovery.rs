//! What a start finds, and what an import brings: every schedule as it was stored. What is due is done in its first turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailwater_stream::name::SCHEDULES_PREFIX;
use tailwater_stream::{Schedule, ScheduleId, StreamId, StreamState};
use tokio::sync::{Semaphore, watch};

use super::opened::{Opened, Turn};
use super::{ScheduleError, ScheduleStats, Schedules, SchedulesLimits, Shared, TURNS_MAX, codec, zones};
use crate::backend::BackendError;
use crate::engine::{Engine, EngineError};
use crate::panics::{Panicked, Task, TaskPanics};
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

    /// Takes over what imports bring, for ever. One that panics is taken over again after a while, behind the others: else
    /// it would neither fire nor be deleted before the next start, which would find it.
    async fn follow_imports(self) {
        let panics = &self.shared.engine.stats().panics;
        let mut stopping = self.shared.is_stopping.subscribe();
        let mut panicked = BTreeSet::new();
        loop {
            let imported = tokio::select! {
                imported = self.shared.engine.moves().imported_schedules() => imported,
                () = TaskPanics::pause(), if !panicked.is_empty() => std::mem::take(&mut panicked).into_iter().collect(),
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            for id in imported {
                match panics.watch(Task::ScheduleImports, self.take_over(&id)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::error!(schedule = %id, %error, "an imported schedule cannot be used");
                    }
                    Err(Panicked) => {
                        panicked.insert(id);
                    }
                }
            }
        }
    }

    /// An import has put a schedule's hidden stream in place. Whatever clients ask of that schedule meanwhile waits for the
    /// turn in which it is looked at.
    async fn take_over(&self, id: &ScheduleId) -> Result<(), ScheduleError> {
        loop {
            let opened = self.place_imported(id);
            let mut turn = opened.turn.lock().await;
            // Whoever had this place has given it up.
            if turn.is_none() && opened.is_gone() {
                continue;
            }
            let taken_over = self.take_over_in_turn(&opened, &mut turn).await;
            if turn.is_none() {
                opened.set_gone();
                self.shared.all.lock().remove(id);
            }
            return taken_over;
        }
    }

    /// The place of a schedule that an import has brought, however many there are.
    fn place_imported(&self, id: &ScheduleId) -> Arc<Opened> {
        let mut all = self.shared.all.lock();
        let place = all.entry(id.clone());
        Arc::clone(place.or_insert_with(|| Arc::new(Opened::new(id.clone()))))
    }

    async fn take_over_in_turn(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Option<Turn>,
    ) -> Result<(), ScheduleError> {
        let name = opened.id.stream();
        let Some(stream) = self.shared.engine.hidden_id(&name).await? else {
            return Ok(());
        };
        if let Some(there) = turn {
            if there.stream == stream {
                return Ok(());
            }
            self.shared.timers.set(opened, &mut there.timer, None);
            *turn = None;
        }
        *turn = self.read(&opened.id, stream).await?;
        if turn.is_some() {
            self.schedule(opened);
        } else {
            // What is left of one that was never finished.
            self.shared.engine.delete_hidden(&name).await?;
        }
        Ok(())
    }
}

fn damaged(id: &ScheduleId, error: &impl std::fmt::Display) -> ScheduleError {
    let what = format!("{error} in the schedule `{id}`");
    ScheduleError::Engine(BackendError::Damaged { what }.into())
}
