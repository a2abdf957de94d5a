//! Makes and changes schedules.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::schedule::{FireTimes, ScheduleState, Step};
use tailwater_stream::{ContentKind, Schedule, ScheduleConfig, ScheduleId, Timestamp};

use super::codec::{self, StoredConfig};
use super::opened::{Opened, Turn};
use super::operations::{Described, described};
use super::{PutError, ScheduleError, Schedules, zones};
use crate::engine::{EngineError, HiddenError, OpenError};
use crate::to_its_end::to_its_end;

/// A schedule is as it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Put {
    /// Whether this request made it.
    pub new: bool,
    /// The schedule.
    pub described: Described,
}

impl Schedules {
    /// Makes a schedule, or changes the one that exists. Answers once that is durable.
    ///
    /// # Errors
    /// [`PutError`]; there is no such schedule then, or it is as it was.
    pub async fn put(&self, id: ScheduleId, config: ScheduleConfig) -> Result<Put, PutError> {
        let all = self.clone();
        to_its_end(async move { all.make_or_change(id, config).await }).await
    }

    async fn make_or_change(&self, id: ScheduleId, config: ScheduleConfig) -> Result<Put, PutError> {
        let times = zones::times(&config)?;
        loop {
            let opened = self.place(&id)?;
            let mut turn = opened.turn.lock().await;
            // Whoever had this place has given it up.
            if turn.is_none() && opened.is_gone() {
                continue;
            }
            let new = turn.is_none();
            let put = match turn.as_mut() {
                Some(found) if found.schedule.config == config => Ok(()),
                Some(found) => self.change(&opened, found, config, times).await,
                None => {
                    let made = self.make(&opened, config, times).await;
                    made.map(|made| *turn = Some(made))
                }
            };
            put?;
            let turn = turn.as_mut().expect("it was made or found");
            self.settle(&opened, turn).await;
            return Ok(Put {
                new,
                described: described(&opened, turn),
            });
        }
    }

    /// The place of a schedule, which may be empty.
    fn place(&self, id: &ScheduleId) -> Result<Arc<Opened>, PutError> {
        let mut all = self.shared.all.lock();
        if let Some(opened) = all.get(id) {
            return Ok(Arc::clone(opened));
        }
        let schedules_max = self.shared.limits.schedules_max;
        if all.len() >= schedules_max {
            return Err(PutError::TooMany { schedules_max });
        }
        let opened = Arc::new(Opened::new(id.clone()));
        all.insert(id.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    /// Makes a schedule at its place, which is given up if that fails.
    async fn make(
        &self,
        opened: &Opened,
        config: ScheduleConfig,
        times: FireTimes,
    ) -> Result<Turn, PutError> {
        let created_at = self.now();
        let schedule = Schedule::new(config, times, ScheduleState::new(created_at));
        let made = match self.check(&schedule).await {
            Ok(()) => self.fill(opened, schedule, created_at).await,
            Err(error) => Err(error),
        };
        if made.is_err() {
            opened.set_gone();
            self.shared.all.lock().remove(&opened.id);
        }
        made
    }

    async fn fill(
        &self,
        opened: &Opened,
        schedule: Schedule,
        created_at: Timestamp,
    ) -> Result<Turn, PutError> {
        let name = opened.id.stream();
        let stream = self.shared.engine.create_hidden(&name).await;
        let turn = Turn::new(schedule, stream.map_err(engine_error)?, created_at);
        if let Err(error) = self.store_all(opened, &turn, &turn.schedule).await {
            // What is left of it is deleted at the next start otherwise.
            if let Err(error) = self.shared.engine.delete_hidden(&name).await {
                tracing::warn!(schedule = %opened.id, %error, "half a schedule stays until the next start");
            }
            return Err(error);
        }
        Ok(turn)
    }

    async fn change(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        config: ScheduleConfig,
        times: FireTimes,
    ) -> Result<(), PutError> {
        self.finish_begun(opened, turn).await?;
        let changed = turn.schedule.changed(config, times, self.now());
        self.check(&changed).await?;
        self.store_all(opened, turn, &changed).await?;
        turn.schedule = changed;
        Ok(())
    }

    /// A fire that an earlier run has begun may have been appended: that is found out before what it appends is changed.
    async fn finish_begun(&self, opened: &Arc<Opened>, turn: &mut Turn) -> Result<(), PutError> {
        let begun = match turn.schedule.step(self.now(), self.shared.limits.of_each) {
            Step::Append(fire) => fire,
            _ => return Ok(()),
        };
        self.enqueue(opened, turn, begun)
            .await
            .map_err(|error| match error {
                ScheduleError::NotFound => PutError::Engine(crate::BackendError::Poisoned.into()),
                ScheduleError::Engine(error) => error.into(),
            })
    }

    /// Whether a schedule can do what is asked of it.
    async fn check(&self, schedule: &Schedule) -> Result<(), PutError> {
        if schedule.next().is_none() {
            return Err(PutError::NeverFires);
        }
        let stream = &schedule.config.stream;
        let reader = self.shared.engine.look(stream).await;
        let reader = reader.map_err(|error| match error {
            OpenError::NotFound | OpenError::Gone => PutError::NoStream {
                stream: stream.clone(),
            },
            OpenError::Engine(error) => error.into(),
        })?;
        let content_type = &reader.incarnation().content_type;
        if content_type.kind() == ContentKind::Json {
            return Ok(());
        }
        Err(PutError::NotJson {
            stream: stream.clone(),
            content_type: content_type.as_str().into(),
        })
    }

    async fn store_all(&self, opened: &Opened, turn: &Turn, schedule: &Schedule) -> Result<(), PutError> {
        let stored = StoredConfig {
            config: schedule.config.clone(),
            created_at: turn.created_at,
        };
        let whole = vec![
            (
                Bytes::from_static(codec::CONFIG_KEY),
                Some(codec::encode_config(&stored)),
            ),
            (
                Bytes::from_static(codec::STATE_KEY),
                Some(codec::encode_state(&schedule.state)),
            ),
        ];
        let stored = self
            .shared
            .engine
            .change_hidden(&opened.id.stream(), turn.stream, whole)
            .await;
        stored.map_err(|error| engine_error(error).into())
    }
}

/// A hidden stream that is being filled or changed in its schedule's turn goes away only with the storage.
fn engine_error(error: HiddenError) -> EngineError {
    match error {
        HiddenError::Gone => crate::BackendError::Poisoned.into(),
        HiddenError::Engine(error) => error,
    }
}
