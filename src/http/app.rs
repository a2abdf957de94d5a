//! What every request shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use tailwater_storage::stream::NameLimits;
use tailwater_storage::{Engine, Queues, Schedules};
use tokio::sync::watch;

use super::caching::CacheHeaders;
use super::caller::ClientKey;
use super::cors::Cors;
use super::error::Problem;
use super::request_body::InFlight;
use super::subscriptions::Served;
use super::writes::Writes;
use crate::config::{Config, LimitsConfig};
use crate::limits::{
    Allowance, Client, ClientLimits, Clients, Entered, Held, Kind, Rate, ReadShare, ReadShareConfig,
};
use crate::metrics::Metrics;

/// The engine and all that requests need beside it.
pub(crate) struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) engine: Engine,
    pub(crate) metrics: Arc<Metrics>,
    /// None only in tests that need none.
    pub(crate) subscriptions: Option<Served>,
    /// Likewise.
    pub(crate) queues: Option<Queues>,
    /// Likewise.
    pub(crate) schedules: Option<Schedules>,
    pub(crate) in_flight: InFlight,
    pub(crate) writes: Writes,
    pub(crate) cors: Cors,
    pub(crate) cache: CacheHeaders,
    pub(crate) name_limits: NameLimits,
    pub(crate) read_share: Arc<ReadShare>,
    pub(crate) clients: Clients<ClientKey>,
    requests: AtomicUsize,
    /// Appends and creations that are known to have been made.
    written_seen: AtomicU64,
    /// CPU time of reads off the runtime that was paid for, in nanoseconds.
    slow_reads_seen_ns: AtomicU64,
    live_readers: AtomicUsize,
    stopping: watch::Sender<bool>,
    /// The same, for those who ask with every request.
    is_stopping: AtomicBool,
}

impl App {
    /// `threads` are those that serve requests.
    pub(crate) fn new(
        config: Arc<Config>,
        engine: Engine,
        metrics: Arc<Metrics>,
        threads: usize,
        subscriptions: Option<Served>,
        queues: Option<Queues>,
    ) -> Self {
        Self {
            cors: Cors::new(&config.http.cors_origins),
            cache: CacheHeaders::new(config.http.cache),
            name_limits: NameLimits {
                bytes_max: config.limits.max_name_bytes,
                segments_max: config.limits.max_name_segments,
            },
            in_flight: InFlight::default(),
            writes: Writes::default(),
            read_share: Arc::new(ReadShare::new(ReadShareConfig {
                percent: config.limits.max_read_share_percent as u64,
                threads,
                wait_max: Duration::from_millis(config.limits.max_read_wait_ms),
            })),
            clients: Clients::new(client_limits(&config.limits), config.limits.max_clients),
            requests: AtomicUsize::new(0),
            written_seen: AtomicU64::new(0),
            slow_reads_seen_ns: AtomicU64::new(0),
            live_readers: AtomicUsize::new(0),
            stopping: watch::Sender::new(false),
            is_stopping: AtomicBool::new(false),
            config,
            engine,
            metrics,
            subscriptions,
            queues,
            schedules: None,
        }
    }

    /// With the schedules that requests may ask for.
    pub(crate) fn with_schedules(mut self, schedules: Schedules) -> Self {
        self.schedules = Some(schedules);
        self
    }

    /// Counts a request for as long as the ticket lives, and says what is left of its client's, if these are limited.
    pub(super) fn admit_request(
        self: &Arc<Self>,
        client: Option<&Arc<Client>>,
        kind: Kind,
    ) -> Result<(RequestTicket<'_>, Option<Allowance>), Problem> {
        let requests_max = self.config.limits.max_requests;
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut ticket = RequestTicket {
            app: self,
            place: None,
        };
        if before >= requests_max {
            return Err(Problem::too_many_requests(requests_max));
        }
        let Some(client) = client else {
            return Ok((ticket, None));
        };
        let place = client.hold_request();
        ticket.place = Some(place.map_err(|excess| Problem::too_many_client_requests_at_once(&excess))?);
        match self.clients.admit_request(client, kind) {
            Ok(allowance) => Ok((ticket, allowance)),
            Err(excess) => Err(Problem::too_many_client_requests(kind, &excess)),
        }
    }

    /// Requests that are being answered.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Counts a live read for as long as the ticket lives.
    pub(crate) fn admit_live_reader(
        self: &Arc<Self>,
        client: Option<&Arc<Client>>,
    ) -> Result<LiveTicket, Problem> {
        let place = client.map(Client::admit_live_reader).transpose();
        let place = place.map_err(|excess| Problem::too_many_client_live_readers(&excess))?;
        let readers_max = self.config.limits.max_live_readers;
        let before = self.live_readers.fetch_add(1, Ordering::Relaxed);
        let ticket = LiveTicket {
            app: Arc::clone(self),
            _place: place,
        };
        if before >= readers_max {
            Err(Problem::too_many_live_readers(readers_max))
        } else {
            Ok(ticket)
        }
    }

    pub(crate) fn live_readers(&self) -> usize {
        self.live_readers.load(Ordering::Relaxed)
    }

    /// Admits a read to its share at once, if there is nothing to wait for.
    pub(super) fn try_read(&self) -> Option<Entered> {
        self.settle_slow_reads();
        self.read_share.try_enter(self.is_writing())
    }

    /// Waits for a turn among the reads for one more piece of an answer. Nobody is refused in the midst of one.
    pub(super) async fn next_read(&self) -> Entered {
        if let Some(entered) = self.try_read() {
            return entered;
        }
        loop {
            if let Ok(entered) = Box::pin(self.read_share.wait()).await {
                return entered;
            }
        }
    }

    /// Waits for such a turn for a piece whose making and sending is measured with its connection, as what it is. So
    /// nothing is paid here: a piece that were taken to cost nothing beside its payment would make all reads look cheap.
    pub(super) async fn take_turn_for_a_piece(&self) {
        let entered = self.next_read().await;
        self.read_share.give_back(entered);
    }

    /// Gives turns to reads that wait, for ever.
    pub(crate) async fn give_turns(&self) {
        let look = || {
            self.settle_slow_reads();
            self.is_writing()
        };
        self.read_share.give_turns(look).await;
    }

    /// Whether writes wait for their answers, or something was stored since this was last asked: in memory that takes so
    /// little time that nobody sees it wait.
    fn is_writing(&self) -> bool {
        let stats = self.engine.stats();
        let written = stats.appends.get() + stats.creates.get();
        let seen = self.written_seen.load(Ordering::Relaxed);
        if written != seen {
            self.written_seen.store(written, Ordering::Relaxed);
        }
        written != seen || self.writes.waiting() > 0
    }

    /// Has paid for what reads took off the runtime since this was last done.
    fn settle_slow_reads(&self) {
        let took_ns = self.engine.stats().slow_read_nanos.get();
        if took_ns != self.slow_reads_seen_ns.load(Ordering::Relaxed) {
            let seen_ns = self.slow_reads_seen_ns.fetch_max(took_ns, Ordering::Relaxed);
            let more = Duration::from_nanos(took_ns.saturating_sub(seen_ns));
            self.read_share.settle_beside(more);
        }
    }

    /// Tells live reads to end, and readiness to go.
    pub(crate) fn stop(&self) {
        // Whoever is woken asks.
        self.is_stopping.store(true, Ordering::Release);
        self.stopping.send_replace(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Tells when the server begins to stop.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// The path of streams, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.config.http.stream_base_path
    }
}

/// A request that is being answered.
pub(super) struct RequestTicket<'a> {
    app: &'a Arc<App>,
    /// Its place among those of its client.
    place: Option<Held>,
}

impl RequestTicket<'_> {
    /// Counts the request on, for as long as its answer is sent.
    pub(super) fn hold(mut self) -> HeldRequest {
        let held = HeldRequest {
            app: Arc::clone(self.app),
            _place: self.place.take(),
        };
        // The request goes on to be counted once.
        std::mem::forget(self);
        held
    }
}

impl Drop for RequestTicket<'_> {
    fn drop(&mut self) {
        self.app.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request whose answer is made and is being sent.
pub(crate) struct HeldRequest {
    app: Arc<App>,
    /// Its place among those of its client.
    _place: Option<Held>,
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.app.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What each client may have, by settings in which 0 means that there is no limit.
fn client_limits(config: &LimitsConfig) -> ClientLimits {
    let limit = |max| Some(max).filter(|max| *max > 0);
    let rate = |per_sec| Rate::new(per_sec as u64, config.client_burst.as_secs());
    ClientLimits {
        reads: rate(config.max_client_reads_per_sec),
        writes: rate(config.max_client_writes_per_sec),
        requests_max: limit(config.max_client_requests),
        connections_max: limit(config.max_client_connections),
        live_readers_max: limit(config.max_client_live_readers),
        in_flight_bytes_max: limit(config.max_client_in_flight_bytes),
    }
}

/// A place among the live readers, and among those of its client.
pub(crate) struct LiveTicket {
    app: Arc<App>,
    _place: Option<Held>,
}

impl Drop for LiveTicket {
    fn drop(&mut self) {
        self.app.live_readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Header values that every answer carries.
pub(crate) static NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
pub(crate) static CROSS_ORIGIN: HeaderValue = HeaderValue::from_static("cross-origin");

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::http::request_body::Share;
    use crate::server;

    /// One client held all reads to their share, with a body that never ended and cost nothing.
    #[test]
    fn a_write_holds_reads_to_their_share_once_its_body_is_there_and_not_before() {
        let mut config = Config::default();
        config.limits.max_read_share_percent = 0;
        let app = server::app_for_tests(config);
        let mut body = Share::of(&app, None);
        body.set(1).expect("there is room");
        assert!(app.try_read().is_some(), "the body is still coming");
        let waiting = app.writes.begin();
        assert_eq!(app.writes.waiting(), 1);
        assert!(app.try_read().is_none(), "the write waits for its answer");
        drop(waiting);
        assert_eq!(app.writes.waiting(), 0);
    }

    /// Stores on disk read on other threads, which nobody paid for.
    #[test]
    fn what_reads_take_off_the_runtime_is_paid_for_once() {
        let app = server::app_for_tests(Config::default());
        app.engine.stats().slow_read_nanos.add(4_000);
        assert!(app.try_read().is_some());
        assert!(app.try_read().is_some());
        assert_eq!(app.read_share.taken_ns(), 4_000);
        app.engine.stats().slow_read_nanos.add(1_000);
        assert!(app.try_read().is_some());
        assert_eq!(app.read_share.taken_ns(), 5_000);
    }
}
