//! Starts the runtime that enqueues at the times of schedules.

use tailwater_storage::schedules::SchedulesLimits;
use tailwater_storage::stream::schedule::ScheduleLimits;
use tailwater_storage::{Engine, Schedules};

use super::ServeError;
use crate::config::Config;

/// Loads all schedules of an engine that nobody uses yet.
pub(super) async fn start(config: &Config, engine: &Engine) -> Result<Schedules, ServeError> {
    let settings = &config.schedules;
    let limits = SchedulesLimits {
        schedules_max: settings.max_schedules,
        of_each: ScheduleLimits {
            misfire_after_ms: settings.misfire_after_ms,
            make_up_max: settings.max_make_up as u64,
        },
    };
    Schedules::start(engine.clone(), limits)
        .await
        .map_err(ServeError::Schedules)
}
