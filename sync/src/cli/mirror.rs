//! `run`: the mirror, its endpoints, and the signals that end it.

use std::sync::Arc;

use tailwater_process::LogFormat;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::error::CommandError;
use crate::mirror::{self, Limits};
use crate::settings::{Effective, SyncConfig};
use crate::source::Source;
use crate::stats::Stats;
use crate::{http, postgres};

/// What the last spans may take.
#[cfg(feature = "otlp")]
const FLUSH_MAX: std::time::Duration = std::time::Duration::from_secs(2);

pub(super) async fn run(effective: &Effective) -> Result<(), CommandError> {
    let sync = &effective.config.sync;
    let (stopper, stop) = watch::channel(false);
    let mut signals = Signals::receive().map_err(|source| CommandError::Runtime { source })?;
    let postgres = effective.postgres()?;
    let source = Source::new(sync.source())?;
    let address = sync.bind_address;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| CommandError::Bind { address, source })?;
    #[cfg(feature = "otlp")]
    let spans = crate::traces::Tracing::start()?;
    announce(sync, &listener, &postgres);

    let stats = Arc::new(Stats::of(&effective.routes));
    let served = tokio::spawn(http::serve(listener, Arc::clone(&stats), stop.clone()));
    let work = mirror::run(
        source,
        sync.streams.clone(),
        postgres,
        sync.membership(),
        Limits::of(sync),
        stats,
        stop,
    );
    let mut work = std::pin::pin!(work);
    let ended = tokio::select! {
        ended = &mut work => ended,
        name = signals.next() => {
            tracing::info!("{name}: the mirror stops once the transaction under way has finished");
            stopper.send_replace(true);
            tokio::select! {
                ended = &mut work => ended,
                name = signals.next() => {
                    tracing::warn!("{name} again: the transaction under way is cut off");
                    Ok(())
                }
            }
        }
    };
    // Whoever is still asking for metrics need not be waited for.
    served.abort();
    #[cfg(feature = "otlp")]
    spans.stop(FLUSH_MAX).await;
    Ok(ended?)
}

/// The signals that end the mirror, received from the moment this is made.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Make it before the mirror says that it runs: who waits for that may end it at once.
    fn receive() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Says from where to where it mirrors: a banner for people, or one line for machines.
fn announce(sync: &SyncConfig, listener: &TcpListener, postgres: &postgres::Settings) {
    let version = env!("CARGO_PKG_VERSION");
    let address = listener.local_addr().unwrap_or(sync.bind_address);
    let (source, database) = (&sync.source_url, postgres.address());
    match sync.log_format {
        LogFormat::Text => {
            eprintln!("tailwater-sync {version}");
            eprintln!("  from       {source}");
            eprintln!("  to         {database}");
            eprintln!("  metrics on http://{address}/metrics");
        }
        LogFormat::Json => tracing::info!(version, %source, %database, %address, "the mirror runs"),
    }
}
