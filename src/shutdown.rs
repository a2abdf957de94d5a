//! The signals, and how they stop the server: not ready at once, no new connections, live reads end, what is in flight finishes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::http::App;

/// The signals that stop the server, received from the moment this is made.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Make it before the server says that it listens: who waits for that may stop it at once.
    pub(crate) fn receive() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Ends when SIGTERM or SIGINT has come: the server is to stop.
    pub(crate) async fn stop(&mut self) {
        let name = self.next().await;
        tracing::info!("{name}: the server stops once what is in flight has finished");
    }

    /// Ends when another one has come: whoever sends it does not want to wait.
    pub(crate) async fn hurry(&mut self) {
        let name = self.next().await;
        tracing::warn!("{name} again: what is in flight is cut off");
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// SIGHUP, which asks for files to be read again. Until it is received here it ends the process.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Waits until every connection has ended, but not for ever: what is cut off then was never acknowledged.
pub(crate) async fn drain(closing: watch::Sender<()>, waited: Duration, app: &Arc<App>) {
    if tokio::time::timeout(waited, closing.closed()).await.is_err() {
        let connections = app.metrics.connections.load(Ordering::Relaxed);
        tracing::warn!("{connections} connections did not end within {waited:?} and are cut off");
    }
}
