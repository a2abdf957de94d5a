//! What clients ask of schedules that exist.

use std::sync::Arc;

use tailwater_stream::schedule::ScheduleState;
use tailwater_stream::{ScheduleConfig, ScheduleId, Timestamp};

use super::opened::{Opened, Turn};
use super::{ScheduleError, Schedules};
use crate::page::page;
use crate::to_its_end::to_its_end;

/// How a schedule stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Its id.
    pub id: ScheduleId,
    /// What was asked for.
    pub config: ScheduleConfig,
    /// When it was made.
    pub created_at: Timestamp,
    /// How far it has come.
    pub state: ScheduleState,
    /// Its next fire time; none if there is none any more, or if it is paused.
    pub next: Option<Timestamp>,
}

pub(super) fn described(opened: &Opened, turn: &Turn) -> Described {
    let schedule = &turn.schedule;
    let next = schedule.state.begun.or_else(|| schedule.next());
    Described {
        id: opened.id.clone(),
        config: schedule.config.clone(),
        created_at: turn.created_at,
        state: schedule.state.clone(),
        next: next.filter(|_| !schedule.config.paused),
    }
}

impl Schedules {
    /// A schedule as it is now.
    ///
    /// # Errors
    /// [`ScheduleError::NotFound`].
    pub async fn get(&self, id: &ScheduleId) -> Result<Described, ScheduleError> {
        let opened = self.find(id)?;
        let turn = opened.turn.lock().await;
        turn.as_ref()
            .map(|turn| described(&opened, turn))
            .ok_or(ScheduleError::NotFound)
    }

    /// Schedules in the order of their ids, behind `after`, at most `count_max`, and whether more follow.
    pub async fn list(&self, after: Option<&ScheduleId>, count_max: usize) -> (Vec<Described>, bool) {
        let (listed, more) = page(&self.shared.all.lock(), after, count_max);
        let mut found = Vec::with_capacity(listed.len());
        for opened in listed {
            // One that is being made is none yet.
            if let Some(turn) = opened.turn.lock().await.as_ref() {
                found.push(described(&opened, turn));
            }
        }
        (found, more)
    }

    /// Deletes a schedule. Nothing is enqueued by it any more once this returns. That there is none is no error.
    ///
    /// # Errors
    /// If the storage fails. The schedule is there as before.
    pub async fn delete(&self, id: &ScheduleId) -> Result<(), ScheduleError> {
        let Ok(opened) = self.find(id) else { return Ok(()) };
        let all = self.clone();
        to_its_end(async move {
            let mut turn = opened.turn.lock().await;
            if let Some(deleted) = turn.as_mut() {
                all.shared.engine.delete_hidden(&opened.id.stream()).await?;
                all.forget(&opened, deleted);
                *turn = None;
            }
            Ok(())
        })
        .await
    }

    /// Forgets a schedule whose hidden stream is deleted, in its turn.
    pub(super) fn forget(&self, opened: &Arc<Opened>, turn: &mut Turn) {
        opened.set_gone();
        self.shared.timers.set(opened, &mut turn.timer, None);
        self.shared.all.lock().remove(&opened.id);
    }
}
