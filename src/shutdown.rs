//! Stops the server: not ready at once, no new connections, live reads end, what is in flight finishes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::http::App;

/// Ends when SIGTERM or SIGINT comes.
pub(crate) async fn signalled() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("{name}: the server stops once what is in flight has finished");
    Ok(())
}

/// Waits until every connection has ended, but not for ever: what is cut off then was never acknowledged.
pub(crate) async fn drain(closing: watch::Sender<()>, waited: Duration, app: &Arc<App>) {
    if tokio::time::timeout(waited, closing.closed()).await.is_err() {
        let connections = app.metrics.connections.load(Ordering::Relaxed);
        tracing::warn!(
            connections,
            ?waited,
            "connections that did not end in time are cut off"
        );
    }
}
