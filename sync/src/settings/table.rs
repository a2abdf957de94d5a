//! The table of the mirror's settings: key, type, default, what is allowed, and what it means, each written once.
//! Knows nothing of where a value comes from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tailwater_process::kinds::{
    Address, BufferSize, Choice, Count, Hidden, Milliseconds, OptionalFile, Seconds, Size, Switch,
};
use tailwater_process::{LogFormat, Table};

use super::kinds::{InstanceName, PostgresUrl, StreamPatterns, StreamRoot};
use crate::source::Patterns;

/// What becomes of a stream when one of its events cannot be a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnmappable {
    /// The event goes to `tailwater.dead_letters`, and the stream goes on.
    DeadLetter,
    /// The stream stands still in front of it.
    Halt,
}

/// The mirror's settings. Those of the server may stand in the same environment.
pub(super) static TABLE: Table = Table {
    settings: SETTINGS,
    variables: "DS_SYNC__",
    foreign_variables: &[],
    elsewhere: &[(
        "sync.source_token",
        "a token is read from a file, again whenever that changes: name it in `sync.source_token_file`",
    )],
    lists: &[crate::route::file::KEY],
};

const MIB: u64 = 1 << 20;
const BUFFER_MAX: u64 = 2048 * MIB;

tailwater_process::settings! {
    /// The mirror: from where, to where, and in which steps.
    sync: SyncConfig {
        /// The URL that streams are below on the server, or on the proxy in front of it.
        source_url: String = "sync.source_url", "http://127.0.0.1:4437/v1/stream", StreamRoot;
        /// A file with the bearer token that is sent to the source; read again when it changes.
        source_token_file: Option<PathBuf> = "sync.source_token_file", "", OptionalFile;
        /// Certificates of authorities in PEM that may have signed the source's; without it those of the system.
        source_ca_path: Option<PathBuf> = "sync.source_ca_path", "", OptionalFile;
        /// The database that the rows are written to.
        postgres_url: Option<Hidden> = "sync.postgres_url", "", PostgresUrl;
        /// A file with that URL, in place of the URL itself.
        postgres_url_file: Option<PathBuf> = "sync.postgres_url_file", "", OptionalFile;
        /// Certificates of authorities in PEM that may have signed the database's; without it those of the system.
        postgres_ca_path: Option<PathBuf> = "sync.postgres_ca_path", "", OptionalFile;
        /// Which streams: names, `*` for any one segment, `**` at the end for any number of them.
        streams: Patterns = "sync.streams", "**", StreamPatterns;
        /// Address and port of `/healthz`, `/readyz` and `/metrics`; port 0 picks a free one.
        bind_address: SocketAddr = "sync.bind_address", "127.0.0.1:4438", Address;
        /// A transaction begins once so many bytes wait for it.
        batch_bytes: usize = "sync.batch_bytes", "4MiB", BufferSize(Size { min: 1, max: BUFFER_MAX });
        /// A transaction begins once so many rows wait for it.
        batch_rows: usize = "sync.batch_rows", "20000", Count { min: 1, max: 1_000_000 };
        /// A transaction begins once a row has waited so long for others.
        batch_ms: u64 = "sync.batch_ms", "20", Milliseconds { min: 0, max: 60_000 };
        /// What is read and not written yet; no more is read beyond it.
        buffer_bytes: usize = "sync.buffer_bytes", "32MiB", BufferSize(Size { min: MIB, max: BUFFER_MAX });
        /// Streams that are read at once, each by one connection.
        readers: usize = "sync.readers", "8", Count { min: 1, max: 1024 };
        /// The largest answer to one read: a few times the server's `limits.read_chunk_bytes`, and its longest message.
        read_bytes_max: usize = "sync.read_bytes_max", "64MiB", BufferSize(Size { min: MIB, max: BUFFER_MAX });
        /// What this instance is called in `tailwater.instances`; without it by the host's name and the process's
        /// number.
        instance_name: Option<String> = "sync.instance_name", "", InstanceName;
        /// How long an instance that is not heard of keeps its share of the streams; then the others take it.
        lease_ms: u64 = "sync.lease_ms", "10000", Milliseconds { min: 500, max: 600_000 };
        /// What becomes of a stream when one of its events cannot be a row.
        on_unmappable: OnUnmappable = "sync.on_unmappable", "dead_letter", Choice(&[
            ("dead_letter", OnUnmappable::DeadLetter),
            ("halt", OnUnmappable::Halt),
        ]);
        /// Whether the tables of routes are made if they are not there; a route may say otherwise for its own.
        create_tables: bool = "sync.create_tables", "false", Switch;
        /// Whether a closed stream is deleted at the source once its last row is committed.
        delete_after_sync: bool = "sync.delete_after_sync", "false", Switch;
        /// Whether open streams are trimmed at the source up to what is committed.
        trim_after_sync: bool = "sync.trim_after_sync", "false", Switch;
        /// How long the transaction under way may take after SIGTERM.
        shutdown_timeout: Duration = "sync.shutdown_timeout_secs", "30", Seconds { min: 0, max: 86_400 };
        /// Lines for people, or one JSON object a line for machines. Levels come from `RUST_LOG`.
        log_format: LogFormat =
            "sync.log_format", "text", Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    }
}
