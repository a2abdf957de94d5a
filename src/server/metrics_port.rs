//! A port for metrics and health checks alone, in clear, if there is to be one. Outside of all limits but its own, so that
//! it answers however busy the server is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tailwater_storage::panics::Task;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{Port, ServeError, connection, listen};
use crate::http::{self, App};

/// Connections at a time; further ones wait to be accepted. Each is for one request.
const CONNECTIONS_MAX: usize = 32;

/// A port that is bound, and on which nobody is served yet.
pub(super) struct MetricsPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsPort {
    /// Binds the port, if the settings name one.
    ///
    /// # Errors
    /// [`ServeError::Listen`].
    pub(super) async fn bind(address: Option<SocketAddr>) -> Result<Option<Self>, ServeError> {
        let Some(address) = address else {
            return Ok(None);
        };
        let (listener, address) = listen(address, Port::Metrics).await?;
        Ok(Some(Self { listener, address }))
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    pub(super) async fn serve(self, app: Arc<App>) {
        let panics = &app.engine.stats().panics;
        panics
            .keep(Task::MetricsPort, || accept(&self.listener, &app))
            .await;
    }
}

async fn accept(listener: &TcpListener, app: &Arc<App>) {
    let router = http::metrics_router(app);
    let server = &app.config.server;
    let (head_within, all_within) = (
        server.header_timeout,
        server.header_timeout + server.write_timeout,
    );
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let served = serve(stream, router.clone(), head_within);
                connection::spawn(&app.engine, async move {
                    if tokio::time::timeout(all_within, served).await.is_err() {
                        tracing::debug!("a client of the port of metrics did not take its answer in time");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                app.metrics.accept_failed();
                tracing::error!(%error, "cannot accept connections for metrics");
                // Accepting again at once would spin until a descriptor is free.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, router: axum::Router, head_within: Duration) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for metrics ended with an error");
    }
}
