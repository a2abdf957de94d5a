//! Starts the runtime of job queues.

use std::sync::Arc;

use tailwater_storage::queues::QueueLimits;
use tailwater_storage::stream::NameLimits;
use tailwater_storage::{Engine, Queues};

use super::ServeError;
use crate::config::Config;

/// Loads all queues of an engine that nobody uses yet.
pub(super) async fn start(config: &Arc<Config>, engine: &Engine) -> Result<Queues, ServeError> {
    let settings = &config.queues;
    let limits = QueueLimits {
        queues_max: settings.max_queues,
        held_jobs_max: settings.max_held_jobs,
        lease_ms_max: settings.max_lease_ms,
        names: NameLimits {
            bytes_max: config.limits.max_name_bytes,
            segments_max: config.limits.max_name_segments,
        },
    };
    Queues::start(engine.clone(), limits)
        .await
        .map_err(ServeError::Queues)
}
