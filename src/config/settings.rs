//! The table of settings: key, type, default, what is allowed, and what it means, each written once.
//! Knows nothing of where a value comes from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use tailwater_process::kinds::{
    Address, BufferSize, Choice, Count, Directory, Milliseconds, OptionalAddress, OptionalFile, Seconds,
    Size, Switch,
};
use tailwater_process::{LogFormat, Table};
use tailwater_storage::acid::SHARDS_MAX;

use super::choices::{CachePolicy, CorsOrigins, StorageMode};
use super::hosts::{HostList, Hosts};
use super::kinds::{BasePath, HeaderField, Mode, Origins, PowerOfTwo};
use super::networks::{NetworkList, Networks};

/// The server's settings. Those of the mirror may stand in the same environment.
pub(super) static TABLE: Table = Table {
    settings: SETTINGS,
    variables: "DS_",
    foreign_variables: &["DS_SYNC__"],
    elsewhere: &[
        (
            "auth.",
            "this version checks no credentials: check them in a proxy in front of it",
        ),
        (
            "log.",
            "levels are set by the variable RUST_LOG; `log.format` is the one setting",
        ),
    ],
    lists: &[],
};

const DAY_SECS: u64 = 24 * 60 * 60;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const BUFFER_MAX: u64 = 2048 * MIB;
/// Below the 10^16 positions of a stream.
const STORED_MAX: u64 = 1 << 50;
/// A table that the process keeps in memory does not grow beyond this.
const ENTRIES_MAX: u64 = 100_000_000;

tailwater_process::settings! {
    /// Connections: where to listen and how long to wait.
    server: ServerConfig {
        /// Address and port to listen on; port 0 picks a free one.
        bind_address: SocketAddr = "server.bind_address", "127.0.0.1:4437", Address;
        /// How long requests may go on after SIGTERM before they are cut off.
        shutdown_timeout: Duration = "server.shutdown_timeout_secs", "30", Seconds { min: 0, max: DAY_SECS };
        /// How long a client may take to send a request's header block.
        header_timeout: Duration = "server.header_timeout_secs", "10", Seconds { min: 1, max: DAY_SECS };
        /// How long a request's body may pause.
        body_timeout: Duration = "server.body_timeout_secs", "30", Seconds { min: 1, max: DAY_SECS };
        /// How long a client may take none of an answer's bytes; in HTTP/2 of each answer's.
        write_timeout: Duration = "server.write_timeout_secs", "30", Seconds { min: 1, max: DAY_SECS };
        /// An idle keep-alive connection is closed after this.
        idle_timeout: Duration = "server.idle_timeout_secs", "75", Seconds { min: 1, max: DAY_SECS };
    }

    /// TLS on the port of the server. Without a certificate the port speaks HTTP in clear.
    tls: TlsConfig {
        /// The server's certificate in PEM, and behind it those of intermediate authorities. With it the port speaks
        /// TLS and nothing else. This file and the other two are read again when they change, and on SIGHUP.
        cert_path: Option<PathBuf> = "tls.cert_path", "", OptionalFile;
        /// The certificate's private key in PEM.
        key_path: Option<PathBuf> = "tls.key_path", "", OptionalFile;
        /// Certificates of authorities in PEM: only clients with a certificate that one of them has signed are served.
        client_ca_path: Option<PathBuf> = "tls.client_ca_path", "", OptionalFile;
    }

    /// Proxies in front of the server that may say whom they ask for.
    proxy: ProxyConfig {
        /// Addresses of proxies whose headers are believed: who the client is, by which URL it came, and how long it
        /// may stay. Nobody is trusted by default.
        trusted: Networks = "proxy.trusted", "", NetworkList;
        /// The header in which trusted proxies name the client that they have authenticated.
        subject_header: HeaderName = "proxy.subject_header", "x-tailwater-subject", HeaderField;
        /// The header in which trusted proxies say until when the client may stay, in whole seconds since 1970.
        deadline_header: HeaderName = "proxy.deadline_header", "x-tailwater-deadline", HeaderField;
    }

    /// What clients see of HTTP.
    http: HttpConfig {
        /// Streams live below this path.
        stream_base_path: String = "http.stream_base_path", "/v1/stream", BasePath;
        /// Browser origins that may use the server.
        cors_origins: CorsOrigins = "http.cors_origins", "*", Origins;
        /// Who may cache what cannot change: CDNs too, browsers only, or nobody.
        cache: CachePolicy = "http.cache", "private", Choice(&[
            ("public", CachePolicy::Public),
            ("private", CachePolicy::Private),
            ("no-store", CachePolicy::NoStore),
        ]);
        /// A silent SSE connection carries a comment this often.
        sse_keep_alive: Duration = "http.sse_keep_alive_secs", "15", Seconds { min: 1, max: DAY_SECS };
        /// The server ends an SSE connection after about this; the client resumes.
        sse_duration_max: Duration = "http.sse_max_secs", "60", Seconds { min: 1, max: DAY_SECS };
    }

    /// How bytes are kept.
    storage: StorageConfig {
        /// Where streams are kept, and what they survive; `memory` forgets them when the server stops.
        mode: StorageMode = "storage.mode", "memory", Mode;
        /// Modes on disk: the directory that holds the streams; made if it is missing.
        data_dir: PathBuf = "storage.data_dir", "./data", Directory;
        /// `file-fast`: how long what is acknowledged may wait until it is safe from a crash of the machine.
        fast_sync_ms: u64 = "storage.fast_sync_ms", "100", Milliseconds { min: 1, max: 60_000 };
        /// File modes: length of a journal file; a longer one is made for a batch that is longer alone.
        journal_bytes: u64 = "storage.journal_bytes", "64MiB", Size { min: MIB, max: 1024 * MIB };
        /// File modes: once the journals hold this much, they are folded into segments; a restart reads it again.
        fold_bytes: u64 = "storage.fold_bytes", "256MiB", Size { min: MIB, max: STORED_MAX };
        /// `acid`: how many databases the streams are spread over; chosen when the directory is made.
        acid_shard_count: u32 = "storage.acid_shard_count", "16", PowerOfTwo { max: SHARDS_MAX };
        /// `acid`: what the caches of all databases together may take of memory; at most half of
        /// `limits.max_memory_bytes`.
        acid_cache_bytes: u64 = "storage.acid_cache_bytes", "64MiB", Size { min: MIB, max: STORED_MAX };
        /// `acid`: whether each commit also notes which pages are free, which takes a second sync. After a crash the
        /// next start then reads a few pages and not all of them.
        acid_quick_repair: bool = "storage.acid_quick_repair", "false", Switch;
    }

    /// What the server refuses to go beyond.
    limits: LimitsConfig {
        /// Memory mode: stored bytes of all streams together. On disk: what queues, caches and the streams that
        /// are held ready may take of memory; what is stored is bounded by the disk.
        max_memory_bytes: u64 =
            "limits.max_memory_bytes", "100MiB" and "256MiB" on disk, Size { min: 1, max: STORED_MAX };
        /// Memory mode: stored bytes of one stream. On disk: likewise if it is set; else only the disk bounds it.
        max_stream_bytes: u64 =
            "limits.max_stream_bytes", "10MiB" and "1024TiB" on disk, Size { min: 1, max: STORED_MAX };
        /// One request's body.
        max_body_bytes: usize =
            "limits.max_body_bytes", "10MiB", BufferSize(Size { min: 1, max: BUFFER_MAX });
        /// A stream's name, after percent-decoding.
        max_name_bytes: usize = "limits.max_name_bytes", "1024", BufferSize(Size { min: 1, max: 16 * KIB });
        /// Segments in a stream's name, between slashes.
        max_name_segments: usize = "limits.max_name_segments", "16", Count { min: 1, max: 1024 };
        /// One request's header block.
        max_header_bytes: usize =
            "limits.max_header_bytes", "32KiB", BufferSize(Size { min: 8 * KIB, max: 16 * MIB });
        /// Open connections.
        max_connections: usize = "limits.max_connections", "10000", Count { min: 1, max: 10_000_000 };
        /// Requests that are being answered at once, waiting long-polls and answers that are being sent among them.
        max_requests: usize = "limits.max_requests", "20000", Count { min: 1, max: 10_000_000 };
        /// Request bodies that are being received, all together.
        max_in_flight_bytes: usize =
            "limits.max_in_flight_bytes", "64MiB", BufferSize(Size { min: 1, max: STORED_MAX });
        /// Long-polls and SSE connections.
        max_live_readers: usize = "limits.max_live_readers", "10000", Count { min: 1, max: 10_000_000 };
        /// Open connections from one address that is no trusted proxy's; 0 for no limit.
        max_client_connections: usize =
            "limits.max_client_connections", "5000", Count { min: 0, max: 10_000_000 };
        /// Requests of one client that are being answered at once; 0 for no limit.
        max_client_requests: usize = "limits.max_client_requests", "10000", Count { min: 0, max: 10_000_000 };
        /// Reads (GET, HEAD) of one client in a second; 0 for no limit.
        max_client_reads_per_sec: usize =
            "limits.max_client_reads_per_sec", "0", Count { min: 0, max: 1_000_000 };
        /// Writes (POST, PUT, DELETE) of one client in a second; 0 for no limit.
        max_client_writes_per_sec: usize =
            "limits.max_client_writes_per_sec", "0", Count { min: 0, max: 1_000_000 };
        /// A client that has paused may make the requests of so many seconds at once.
        client_burst: Duration = "limits.client_burst_secs", "2", Seconds { min: 1, max: 3600 };
        /// Request bodies of one client that are being received, unless it is only one; 0 for no limit.
        max_client_in_flight_bytes: usize =
            "limits.max_client_in_flight_bytes", "32MiB", BufferSize(Size { min: 0, max: STORED_MAX });
        /// Long-polls and SSE connections of one client; 0 for no limit.
        max_client_live_readers: usize =
            "limits.max_client_live_readers", "5000", Count { min: 0, max: 10_000_000 };
        /// Clients that are told apart; those beyond share the limits of one.
        max_clients: usize = "limits.max_clients", "10000", Count { min: 1, max: 10_000_000 };
        /// What reads may take of the server's time while appends are made; 100 lets them take all.
        max_read_share_percent: usize = "limits.max_read_share_percent", "33", Count { min: 1, max: 100 };
        /// How long a read waits for its share of that time until it is refused.
        max_read_wait_ms: u64 = "limits.max_read_wait_ms", "100", Milliseconds { min: 0, max: 60_000 };
        /// Producers that one stream remembers.
        max_producers_per_stream: usize =
            "limits.max_producers_per_stream", "1000", Count { min: 1, max: ENTRIES_MAX };
        /// Streams held ready; idle ones beyond that are put away. On disk: fewer if
        /// `limits.max_memory_bytes` is small.
        max_open_streams: usize = "limits.max_open_streams", "100000", Count { min: 1, max: ENTRIES_MAX };
        /// Changes that the change feed remembers.
        max_changes: usize = "limits.max_changes", "65536", Count { min: 1, max: ENTRIES_MAX };
        /// Entries in one page of a listing.
        max_list_entries: usize = "limits.max_list_entries", "1000", Count { min: 1, max: 1_000_000 };
        /// Bytes in one answer to a read; one larger message is still returned whole.
        read_chunk_bytes: usize =
            "limits.read_chunk_bytes", "1MiB", BufferSize(Size { min: 1, max: BUFFER_MAX });
        /// How long a long-poll waits for data.
        long_poll_timeout: Duration =
            "limits.long_poll_timeout_secs", "30", Seconds { min: 1, max: DAY_SECS };
    }

    /// Subscriptions: how many there may be, whom webhooks may be sent to, and how long that may take.
    subscriptions: SubscriptionsConfig {
        /// Subscriptions that there may be.
        max_subscriptions: usize =
            "subscriptions.max_subscriptions", "10000", Count { min: 0, max: ENTRIES_MAX };
        /// Streams that one subscription may name; those that a pattern means are not counted.
        max_named_streams: usize =
            "subscriptions.max_named_streams", "10000", Count { min: 1, max: ENTRIES_MAX };
        /// Streams that a worker is told of in one wake; if more have something new, the others come with the next.
        max_wake_streams: usize = "subscriptions.max_wake_streams", "1000", Count { min: 1, max: 1_000_000 };
        /// The body of a request to a subscription.
        max_body_bytes: usize =
            "subscriptions.max_body_bytes", "1MiB", BufferSize(Size { min: KIB, max: 64 * MIB });
        /// For development: whether webhooks may go to `http://localhost`, `http://127.0.0.x` and `http://[::1]`, and
        /// with `https` too. All others go to public addresses over `https`.
        allow_http_localhost: bool = "subscriptions.allow_http_localhost", "false", Switch;
        /// The only hosts that webhooks may be sent to.
        allowed_hosts: Hosts = "subscriptions.allowed_hosts", "", HostList;
        /// Certificates of authorities in PEM, whose signatures count beside those of the authorities that the system
        /// trusts when webhooks are sent.
        ca_path: Option<PathBuf> = "subscriptions.ca_path", "", OptionalFile;
        /// The file with the keys that webhooks and tokens are signed with; made if it is missing. If none is named, it
        /// is `webhook-keys` in the data directory, and in memory mode keys last until the server stops.
        signing_keys_path: Option<PathBuf> = "subscriptions.signing_keys_path", "", OptionalFile;
        /// How long it may take to look a receiver's host up, to connect, and to agree on TLS.
        connect_timeout_ms: u64 =
            "subscriptions.connect_timeout_ms", "5000", Milliseconds { min: 1, max: 600_000 };
        /// How long a webhook may take in all, its answer included; never longer than the lease of its wake.
        delivery_timeout_ms: u64 =
            "subscriptions.delivery_timeout_ms", "10000", Milliseconds { min: 1, max: 600_000 };
        /// The body of a receiver's answer.
        max_answer_bytes: usize =
            "subscriptions.max_answer_bytes", "64KiB", BufferSize(Size { min: 16, max: 16 * MIB });
        /// Webhooks that are being sent at once; others wait.
        max_deliveries: usize = "subscriptions.max_deliveries", "256", Count { min: 1, max: 100_000 };
        /// Those of them that go to one host, so that one that hangs does not keep the others waiting.
        max_deliveries_per_host: usize =
            "subscriptions.max_deliveries_per_host", "32", Count { min: 1, max: 100_000 };
    }

    /// Job queues: how many there may be, and what one call may ask for.
    queues: QueuesConfig {
        /// Job queues that there may be.
        max_queues: usize = "queues.max_queues", "1000", Count { min: 0, max: 1_000_000 };
        /// Jobs that one claim may give to a worker.
        max_claim_jobs: usize = "queues.max_claim_jobs", "100", Count { min: 1, max: 10_000 };
        /// How long a claim may wait for a job.
        max_claim_wait_ms: u64 = "queues.max_claim_wait_ms", "60000", Milliseconds { min: 0, max: 3_600_000 };
        /// The longest lease that a queue may give.
        max_lease_ms: u64 =
            "queues.max_lease_ms", "3600000", Milliseconds { min: 1_000, max: DAY_SECS * 1_000 };
        /// Jobs of one queue that are passed over because their concurrency key holds them back; with more, claims
        /// give out nothing that stands behind them.
        max_held_jobs: usize = "queues.max_held_jobs", "10000", Count { min: 1, max: ENTRIES_MAX };
        /// The body of a call to a queue or a run, and with it the payload of a job that is enqueued by one.
        max_body_bytes: usize =
            "queues.max_body_bytes", "1MiB", BufferSize(Size { min: KIB, max: 64 * MIB });
        /// Queues that have metrics of their own, in the order of their names; those beyond have none.
        max_metric_queues: usize = "queues.max_metric_queues", "100", Count { min: 0, max: 10_000 };
    }

    /// Schedules: how many there may be, and what is done about fire times that passed.
    schedules: SchedulesConfig {
        /// Schedules that there may be.
        max_schedules: usize = "schedules.max_schedules", "1000", Count { min: 0, max: ENTRIES_MAX };
        /// The body of a request to a schedule, most of which is its payload.
        max_body_bytes: usize =
            "schedules.max_body_bytes", "64KiB", BufferSize(Size { min: KIB, max: 16 * MIB });
        /// A fire time that is longer ago has passed, because the server was away or the clock was set: what is done then
        /// is what the schedule's `misfire` says.
        misfire_after_ms: u64 =
            "schedules.misfire_after_ms", "5000", Milliseconds { min: 1, max: 3_600_000 };
        /// Fire times that passed and that a schedule with `misfire: "all"` makes up for; of more, the last ones.
        max_make_up: usize = "schedules.max_make_up", "1000", Count { min: 1, max: 100_000 };
    }

    /// Where the server shows its metrics.
    metrics: MetricsConfig {
        /// Address and port of a listener for `/metrics` and health checks alone, in clear; `/metrics` is then not
        /// served elsewhere. If none is given, it is on the address of the server. Port 0 picks a free one.
        address: Option<SocketAddr> = "metrics.address", "", OptionalAddress;
    }

    /// What spans tell of requests, in builds with the feature `otlp`. Where they go is said by variables `OTEL_…`.
    traces: TracesConfig {
        /// Builds with `otlp`: whether spans have the paths of requests, and with them the names of streams.
        stream_names: bool = "traces.stream_names", "false", Switch;
        /// Builds with `otlp`: whether spans have the addresses that connections come from.
        client_addresses: bool = "traces.client_addresses", "false", Switch;
    }

    /// What the server writes to stderr. Levels come from `RUST_LOG`.
    log: LogConfig {
        /// Lines for people, or one JSON object a line for machines.
        format: LogFormat =
            "log.format", "text", Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    }
}
