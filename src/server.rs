//! Listens, serves connections over HTTP/1.1 and HTTP/2, in clear or in TLS, and stops when it is told to.

mod answer_head;
mod append_socket;
mod background;
mod certificates;
mod clear_socket;
mod connection;
mod control_socket;
mod event_socket;
mod http1;
mod metered;
mod metrics_port;
mod queues;
mod schedules;
mod startup;
mod storage;
mod subscriptions;
mod tls;
mod untaken;
mod watched;
mod whole_request;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tailwater_storage::BackendError;
use tailwater_storage::OpenError;
use tailwater_storage::panics::Task;
use tailwater_storage::queues::QueueError;
use tailwater_storage::schedules::ScheduleError;
use tailwater_storage::subscriptions::SubscriptionError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::config::Config;
use crate::http::{App, Peer, Problem};
use crate::metrics::Metrics;
use crate::shutdown::{self, Signals};
#[cfg(feature = "otlp")]
use crate::traces::{Tracing, TracingError};
use crate::webhooks::{AuthoritiesError, KeyFileError};

use background::{Background, Renewal};
pub use certificates::TlsError;
use metrics_port::MetricsPort;
use tls::Tls;

/// Why the server could not run, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; {fix}")]
    Listen {
        /// The address from the configuration.
        address: SocketAddr,
        /// What to do about it.
        fix: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The store on disk cannot be opened.
    #[error("cannot open the storage: {0}")]
    Open(#[from] OpenError),
    /// Opening the storage panicked, which has told why.
    #[error("cannot open the storage: it panicked, which is a bug")]
    OpeningPanicked,
    /// The storage cannot be used.
    #[error("the storage cannot be used: {0}")]
    Storage(#[from] BackendError),
    /// A file that TLS needs is wrong.
    #[error("cannot speak TLS: {0}")]
    Tls(#[from] TlsError),
    /// The file with the keys that webhooks are signed with is wrong.
    #[error("cannot sign webhooks: {0}")]
    Keys(#[from] KeyFileError),
    /// The file with authorities for webhooks is wrong.
    #[error("cannot send webhooks: {0}")]
    Authorities(#[from] AuthoritiesError),
    /// Subscriptions cannot be read.
    #[error("the subscriptions cannot be read: {0}")]
    Subscriptions(#[source] SubscriptionError),
    /// Queues cannot be read.
    #[error("the job queues cannot be read: {0}")]
    Queues(#[source] QueueError),
    /// A variable that says how spans are sent is wrong.
    #[cfg(feature = "otlp")]
    #[error("cannot trace: {0}")]
    Traces(#[from] TracingError),
    /// Schedules cannot be read.
    #[error("the schedules cannot be read: {0}")]
    Schedules(#[source] ScheduleError),
    /// Signals cannot be received.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

/// The last spans have this long even if requests took all of the time to stop.
#[cfg(feature = "otlp")]
const FLUSH_MIN: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT, then lets what is in flight finish.
///
/// # Errors
/// [`ServeError`] if the server cannot start, or if its storage fails.
pub async fn run(config: Arc<Config>) -> Result<(), ServeError> {
    let files_max = startup::raise_open_files_limit();
    let tls = start_tls(&config).await?;
    // Until signals are received here they end the process at once. A store that is being opened survives that,
    // and recovering a large one need not be waited for.
    let storage::Storage { engine, store } = open_storage(&config).await?;
    let mut signals = Signals::receive().map_err(ServeError::Signals)?;
    #[cfg(feature = "otlp")]
    let spans = Tracing::start(&config, &engine)?;
    let tls_metrics = tls.as_ref().map(|(tls, _, _)| Arc::clone(&tls.metrics));
    let (listener, address) = listen(config.server.bind_address, Port::Streams).await?;
    let metrics_port = MetricsPort::bind(config.metrics.address).await?;
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    let (served, deliverer) = subscriptions::start(&config, &engine).await?;
    let (subscriptions, keys) = (served.all.clone(), Arc::clone(&served.keys));
    let queues = queues::start(&config, &engine).await?;
    let metrics = Arc::new(Metrics::new(store.clone(), tls_metrics).with_deliverer(deliverer));
    let app = App::new(
        Arc::clone(&config),
        engine.clone(),
        metrics,
        threads,
        Some(served),
        Some(queues.clone()),
    );
    let schedules = schedules::start(&config, &engine).await?;
    let app = Arc::new(app.with_schedules(schedules.clone()));
    let control = store.and_then(|store| {
        let data_dir = storage::absolute(&config.storage.data_dir);
        let timeouts = control_socket::Timeouts {
            request: config.server.header_timeout,
            answer: config.server.write_timeout,
        };
        let asked = control_socket::Asked {
            store,
            keys,
            data_dir: data_dir.clone(),
        };
        control_socket::ControlSocket::listen(asked, &data_dir, timeouts, engine.clone())
    });
    let metrics_address = metrics_port.as_ref().map(MetricsPort::address);
    let (tls, renewal) = tls.map(|renewal| (Arc::clone(&renewal.0), renewal)).unzip();
    let background = Background::start(&app, metrics_port, renewal);
    startup::announce(&config, address, metrics_address, files_max);

    let failure = engine.failure();
    let failed = failure.clone();
    let (closing, closed) = watch::channel(());
    let stopped = tokio::select! {
        () = signals.stop() => Ok(()),
        error = storage_failed(failure) => Err(ServeError::Storage(error)),
        () = accept_for_ever(&app, tls, listener, closed) => Ok(()),
    };
    app.stop();
    #[cfg(feature = "otlp")]
    let stops_at = tokio::time::Instant::now() + config.server.shutdown_timeout;
    tokio::select! {
        () = shutdown::drain(closing, config.server.shutdown_timeout, &app) => {}
        () = signals.hurry() => {}
    }
    subscriptions.stop();
    queues.stop();
    schedules.stop();
    drop((background, control));
    // Nothing commits any more: what was accepted is durable once the committers have ended.
    if tokio::task::spawn_blocking(move || engine.stop()).await.is_err() {
        tracing::error!("the engine could not be stopped");
    }
    #[cfg(feature = "otlp")]
    spans
        .stop(
            stops_at
                .saturating_duration_since(tokio::time::Instant::now())
                .max(FLUSH_MIN),
        )
        .await;
    // The storage may have failed while what was in flight was finished: clients were told so, and so is who started this.
    let failed = failed.borrow().clone();
    stopped.and_then(|()| failed.map_or(Ok(()), |error| Err(ServeError::Storage(error))))
}

async fn open_storage(config: &Arc<Config>) -> Result<storage::Storage, ServeError> {
    let config = Arc::clone(config);
    tokio::task::spawn_blocking(move || storage::start(&config))
        .await
        .unwrap_or_else(|_panicked| Err(ServeError::OpeningPanicked))
}

/// Reads the files of TLS before anything else is begun: a certificate that is wrong is told of at once, however long
/// the storage takes to recover. From here on SIGHUP does not end the process.
async fn start_tls(config: &Arc<Config>) -> Result<Option<Renewal>, ServeError> {
    let config = Arc::clone(config);
    let started = tokio::task::spawn_blocking(move || Tls::start(&config.tls)).await;
    let Some((tls, files)) = started.expect("reading files does not panic")? else {
        return Ok(None);
    };
    let hangups = shutdown::hangups().map_err(ServeError::Signals)?;
    Ok(Some((Arc::new(tls), files, hangups)))
}

/// What a port is for.
#[derive(Debug, Clone, Copy)]
enum Port {
    Streams,
    Metrics,
}

impl Port {
    fn setting(self) -> &'static str {
        match self {
            Self::Streams => "server.bind_address",
            Self::Metrics => "metrics.address",
        }
    }

    /// How another one is chosen.
    fn choice(self) -> &'static str {
        match self {
            Self::Streams => "--bind or DS_SERVER__BIND_ADDRESS",
            Self::Metrics => "DS_METRICS__ADDRESS",
        }
    }
}

/// Listens on an address, and says on which one, since port 0 picks a free one.
async fn listen(address: SocketAddr, port: Port) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listening = TcpListener::bind(address).await;
    let listening = listening.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    listening.map_err(|source| {
        let fix = match source.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another server has that port; stop it, or choose another one with {}",
                port.choice()
            ),
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose a higher one".into(),
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address; `127.0.0.1` serves this machine only, `0.0.0.0` all networks".into()
            }
            _ => format!("see {}", port.setting()),
        };
        ServeError::Listen { address, fix, source }
    })
}

async fn storage_failed(mut failure: watch::Receiver<Option<BackendError>>) -> BackendError {
    match failure.wait_for(Option::is_some).await {
        Ok(failure) => failure.clone().unwrap_or(BackendError::Poisoned),
        // The engine lives as long as the server, so its end is not waited for.
        Err(_engine_ended) => std::future::pending().await,
    }
}

/// Connections that are told at a time that there are too many; those beyond are dropped without a word.
const REFUSALS_MAX: usize = 64;

/// Accepts connections for ever. Each holds a clone of `closed` until it ends.
async fn accept_for_ever(
    app: &Arc<App>,
    tls: Option<Arc<Tls>>,
    listener: TcpListener,
    closed: watch::Receiver<()>,
) {
    let panics = &app.engine.stats().panics;
    panics
        .keep(Task::Connections, || {
            accept(app, tls.as_ref(), &listener, &closed)
        })
        .await;
}

async fn accept(
    app: &Arc<App>,
    tls: Option<&Arc<Tls>>,
    listener: &TcpListener,
    closed: &watch::Receiver<()>,
) {
    let side = crate::http::router(app);
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match admit(app, peer.ip(), tls.is_some()) {
                Ok(admitted) => {
                    let (app, side, closed) = (Arc::clone(app), side.clone(), closed.clone());
                    let engine = app.engine.clone();
                    match tls {
                        None => {
                            let serving = connection::serve(app, stream, side, admitted, closed);
                            connection::spawn(&engine, serving);
                        }
                        Some(tls) => {
                            let tls = Arc::clone(tls);
                            let serving = connection::serve_tls(app, tls, stream, side, admitted, closed);
                            connection::spawn(&engine, serving);
                        }
                    }
                }
                Err(problem) => refuse(app, tls.is_some(), stream, problem, &refusals),
            },
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                app.metrics.accept_failed();
                tracing::error!(%error, "cannot accept connections; if files ran out, raise `ulimit -n`");
                // Accepting again at once would spin until a descriptor is free.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Counts a connection before any byte of it is read.
fn admit(app: &Arc<App>, address: IpAddr, is_tls: bool) -> Result<connection::Admitted, Problem> {
    let peer = Peer::new(address, is_tls, &app.config.proxy.trusted);
    connection::Admitted::new(app, peer)
}

/// A refused connection does not count as one, or those who are refused would keep the others out.
fn refuse(app: &App, is_tls: bool, stream: TcpStream, problem: Problem, refusals: &Arc<Semaphore>) {
    app.metrics.refused(problem.code());
    // In TLS a word would cost a handshake, which is most of what a connection costs.
    if is_tls {
        return;
    }
    if let Ok(permit) = Arc::clone(refusals).try_acquire_owned() {
        connection::spawn(&app.engine, async move {
            connection::refuse(stream, problem).await;
            drop(permit);
        });
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// What requests share, over a store in memory.
#[cfg(test)]
pub(crate) fn app_for_tests(config: Config) -> Arc<App> {
    let config = Arc::new(config);
    let storage = storage::start(&config).expect("memory can be had");
    let metrics = Arc::new(Metrics::new(None, None));
    Arc::new(App::new(config, storage.engine, metrics, 1, None, None))
}

/// Likewise, with subscriptions, queues and schedules.
#[cfg(test)]
pub(crate) async fn whole_app_for_tests(config: Config) -> Arc<App> {
    let config = Arc::new(config);
    let engine = storage::start(&config).expect("memory can be had").engine;
    let (served, _deliverer) = subscriptions::start(&config, &engine).await.expect("started");
    let queues = queues::start(&config, &engine).await.expect("started");
    let schedules = schedules::start(&config, &engine).await.expect("started");
    let metrics = Arc::new(Metrics::new(None, None));
    let app = App::new(config, engine, metrics, 1, Some(served), Some(queues));
    Arc::new(app.with_schedules(schedules))
}
