//! Tasks that run beside the connections as long as the server does. One that panics is begun again: readers, lifetimes,
//! health checks and certificates hang on them, and nobody would see that one is gone.

use std::sync::Arc;
use std::time::Duration;

use tailwater_storage::Engine;
use tailwater_storage::engine::SWEEP_INTERVAL_MS;
use tailwater_storage::panics::{Task, TaskPanics};
use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::certificates::Files;
use super::metrics_port::MetricsPort;
use super::tls::{Changes, Tls};
use crate::http::App;

/// What reads the files of TLS again: the TLS, what is in use, and the signals that ask for it.
pub(super) type Renewal = (Arc<Tls>, Files, Signal);

/// Those tasks. They end when this is dropped.
pub(super) struct Background {
    tasks: Vec<JoinHandle<()>>,
}

impl Background {
    pub(super) fn start(app: &Arc<App>, metrics_port: Option<MetricsPort>, renewal: Option<Renewal>) -> Self {
        let mut tasks = vec![
            tokio::spawn(sweep_for_ever(app.engine.clone())),
            tokio::spawn(give_turns_for_ever(Arc::clone(app))),
        ];
        tasks.extend(metrics_port.map(|port| tokio::spawn(port.serve(Arc::clone(app)))));
        tasks.extend(renewal.map(|renewal| tokio::spawn(renew_for_ever(app.engine.clone(), renewal))));
        Self { tasks }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn sweep_for_ever(engine: Engine) {
    let panics = &engine.stats().panics;
    panics.keep(Task::Sweep, || sweep(&engine)).await;
}

async fn sweep(engine: &Engine) {
    let mut tick = tokio::time::interval(Duration::from_millis(SWEEP_INTERVAL_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = engine.sweep().await {
            tracing::error!(%error, "the sweep over expired and idle streams failed");
        }
    }
}

async fn give_turns_for_ever(app: Arc<App>) {
    let panics = &app.engine.stats().panics;
    panics.keep(Task::ReadTurns, || app.give_turns()).await;
}

async fn renew_for_ever(engine: Engine, (tls, files, mut hangups): Renewal) {
    let mut changes = Changes::from(files);
    let panics = &engine.stats().panics;
    // What was known of the files before a panic is known after it.
    while panics
        .watch(Task::TlsFiles, tls.keep_current(&mut changes, &mut hangups))
        .await
        .is_err()
    {
        TaskPanics::pause().await;
    }
}

#[cfg(test)]
mod tests;
