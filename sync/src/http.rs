//! `/healthz`, `/readyz` and `/metrics`: for those who run the mirror. Changes nothing.
//!
//! What panics here is told of and counted, and the port goes on: nobody could ask how the mirror does otherwise, and whoever
//! is told by health checks would end a mirror that works.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::stats::{Side, Stats};

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Behind a panic the port is served again after so long, so that one that always panics takes no processor for itself.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers until `stop` says so.
pub async fn serve(listener: TcpListener, stats: Arc<Stats>, stop: watch::Receiver<bool>) {
    keep(Shared(Arc::new(listener)), stats, stop).await;
}

/// A socket that is listened on whoever accepts.
#[derive(Clone)]
struct Shared(Arc<TcpListener>);

impl Listener for Shared {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections for metrics");
                    // Accepting again at once would spin until a descriptor is free.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Answers until `stop` says so, on a listener that is taken up again behind a panic.
async fn keep(
    listener: impl Listener<Addr = SocketAddr> + Clone,
    stats: Arc<Stats>,
    stop: watch::Receiver<bool>,
) {
    loop {
        let serving = answer(listener.clone(), Arc::clone(&stats), stop.clone());
        match AssertUnwindSafe(serving).catch_unwind().await {
            Ok(()) => return,
            Err(_panic) => panicked(&stats),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn answer(
    listener: impl Listener<Addr = SocketAddr>,
    stats: Arc<Stats>,
    mut stop: watch::Receiver<bool>,
) {
    let router = Router::new()
        .route(
            "/healthz",
            get(async || plain(StatusCode::OK, TEXT, "ok\n".to_owned())),
        )
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(stats);
    let stopped = async move {
        let _ = stop.wait_for(|stops| *stops).await;
    };
    let served = axum::serve(listener, router).with_graceful_shutdown(stopped);
    if let Err(error) = served.await {
        tracing::error!(%error, "metrics are not answered any more");
    }
}

fn panicked(stats: &Stats) {
    stats.metrics_port_panics.add(1);
    tracing::error!(
        task = "metrics_port",
        "a task of the mirror panicked, which is a bug; the panic's own lines say where: please report it"
    );
}

async fn ready(State(stats): State<Arc<Stats>>) -> Response {
    if stats.is_ready() {
        return plain(StatusCode::OK, TEXT, "ready\n".to_owned());
    }
    let word = |side: &Side| if side.is_well() { "well" } else { "not answering" };
    let (source, postgres) = (word(&stats.source), word(&stats.postgres));
    let leases = match stats.is_idle.load(Ordering::Relaxed) {
        true => ", no partition is held yet",
        false => "",
    };
    let text = format!("not ready: source {source}, postgres {postgres}{leases}; the log says why\n");
    plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

async fn metrics(State(stats): State<Arc<Stats>>) -> Response {
    page(stats, Stats::render).await
}

/// Makes a page off the runtime: the kernel is asked for what the process takes.
async fn page(stats: Arc<Stats>, make: impl FnOnce(&Stats) -> String + Send + 'static) -> Response {
    let made = tokio::task::spawn_blocking({
        let stats = Arc::clone(&stats);
        move || make(&stats)
    });
    match made.await {
        Ok(page) => plain(StatusCode::OK, METRICS, page),
        Err(_panicked) => {
            panicked(&stats);
            let text = "the page could not be made, which is a bug; the log says where\n";
            plain(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text.to_owned())
        }
    }
}

fn plain(status: StatusCode, content_type: &'static str, text: String) -> Response {
    (
        status,
        [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")],
        text,
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::route::Routes;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Panics when it is first asked for a connection.
    #[derive(Clone)]
    struct PanicsOnce {
        listener: Shared,
        planted: Arc<AtomicBool>,
    }

    impl Listener for PanicsOnce {
        type Io = TcpStream;
        type Addr = SocketAddr;

        async fn accept(&mut self) -> (TcpStream, SocketAddr) {
            assert!(!self.planted.swap(false, Ordering::SeqCst), "a planted panic");
            self.listener.accept().await
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            self.listener.local_addr()
        }
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let asking = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .expect("somebody answers")
    }

    /// The task ended without a word, and nobody could ask the mirror how it does, which went on.
    #[tokio::test]
    async fn the_port_of_metrics_is_served_again_after_a_panic_which_is_counted() {
        let listener = Shared(Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap()));
        let address = listener.local_addr().unwrap();
        let listener = PanicsOnce {
            listener,
            planted: Arc::new(AtomicBool::new(true)),
        };
        let (stopper, stop) = watch::channel(false);
        let serving = tokio::spawn(keep(listener, Arc::new(Stats::of(&Routes::default())), stop));
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let page = get(address, "/metrics").await;
        let sample = "tailwater_sync_task_panics_total{task=\"metrics_port\"} 1";
        assert!(page.lines().any(|line| line == sample), "{page}");
        stopper.send_replace(true);
        tokio::time::timeout(PATIENCE, serving)
            .await
            .expect("it ends in time")
            .expect("no panic");
    }

    /// It was an empty page and a 200, which Prometheus takes for a mirror that is up and has no metrics.
    #[tokio::test]
    async fn a_page_that_cannot_be_made_is_an_error_and_is_counted() {
        let stats = Arc::new(Stats::of(&Routes::default()));
        let answer = page(Arc::clone(&stats), |_| panic!("a planted panic")).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(stats.metrics_port_panics.get(), 1);
    }
}
