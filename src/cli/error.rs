//! Why a command failed, and its exit code.

use std::io;
use std::path::PathBuf;

use tailwater_process::LoggingError;
use tailwater_storage::BackendError;
use tailwater_storage::OpenError;
use tailwater_storage::engine::EngineError;
use tailwater_storage::store::BackupError;

use super::token::TokenError;
use crate::client::ClientError;
use crate::config::ConfigErrors;
use crate::control;
use crate::server::ServeError;
use crate::transfer::IntakeError;
use crate::webhooks::KeyFileError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The server refused, or did not answer.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The token cannot be had.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// An append to a stream that nobody has created.
    #[error("{source}; create it with `tailwater create {name}`, or give --create")]
    NoStream { name: String, source: ClientError },
    /// An append whose answer was lost.
    #[error(
        "{source}; what was sent last may or may not have been appended (--follow --producer makes repeating it safe)"
    )]
    InDoubt { source: ClientError },
    /// The stream has another type than the data.
    #[error("`{name}` is a stream of {actual}, not of {wanted}")]
    OtherContentType {
        name: String,
        actual: String,
        wanted: String,
    },
    /// Another process appends under the same producer id.
    #[error("the producer `{id}` has been taken over by a later process: {source}")]
    TakenOver { id: String, source: ClientError },
    /// A line that is no JSON message.
    #[error("line {line} of stdin is not JSON ({source}); lines before it have been appended")]
    BadLine { line: u64, source: serde_json::Error },
    /// A line that no server would take.
    #[error("line {line} of stdin has more than {max} bytes; lines before it have been appended")]
    LongLine { line: u64, max: usize },
    /// What is to be enqueued is no JSON.
    #[error("the payload is no JSON ({source}); a text needs quotes of its own, as in '\"hello\"'")]
    BadPayload { source: serde_json::Error },
    /// The server sent a JSON stream that is not JSON.
    #[error("the server's answer is not an array of JSON messages: {source}")]
    BadMessages { source: serde_json::Error },
    /// stdin cannot be read.
    #[error("cannot read stdin: {source}")]
    Input { source: io::Error },
    /// stdout cannot be written.
    #[error("cannot write to stdout: {source}")]
    Output { source: io::Error },
    /// The pages of the manual cannot be written.
    #[error("cannot write the manual to {}: {source}", directory.display())]
    Manual { directory: PathBuf, source: io::Error },
    /// The runtime cannot be started.
    #[error("cannot start: {source}")]
    Runtime { source: io::Error },
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    ConfigFile { path: PathBuf, source: io::Error },
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// RUST_LOG is wrong.
    #[error("{0}")]
    Logging(#[from] LoggingError),
    /// A data directory that is to be checked is in use.
    #[error(
        "{} is in use by {}; stop that one first, or verify a backup (`tailwater backup`)",
        dir.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("the process {pid}"))
    )]
    InUse { dir: PathBuf, pid: Option<u32> },
    /// A data directory that only a command by itself can work on is in use.
    #[error(
        "{} is in use by {}; stop that one first: this is done while no server uses it",
        dir.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("the process {pid}"))
    )]
    InUseByServer { dir: PathBuf, pid: Option<u32> },
    /// A data directory that need not be compacted.
    #[error(
        "{} holds a store of the mode `{mode}`, which its server compacts by itself; only stores of the mode `acid` \
         are compacted by this command",
        dir.display()
    )]
    CompactsItself { dir: PathBuf, mode: String },
    /// A data directory of another mode was to get another number of shards.
    #[error("{} holds a store of the mode `{found}`, and only those of the mode `acid` have shards", dir.display())]
    NoShards { dir: PathBuf, found: String },
    /// The data directory cannot be looked at.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// A store of a mode that this version does not have.
    #[error("{} holds a store of a mode that this version does not know", dir.display())]
    UnknownMode { dir: PathBuf },
    /// The copy could not be made.
    #[error("{0}")]
    Backup(#[from] BackupError),
    /// The keys of webhooks could not be copied.
    #[error("{0}; the copy has everything but the keys")]
    Keys(#[from] KeyFileError),
    /// The store could not be closed.
    #[error("{0}")]
    Store(#[from] BackendError),
    /// The server that uses the data directory cannot be asked.
    #[error("the server that uses {} cannot be asked: {source}", dir.display())]
    Control { dir: PathBuf, source: io::Error },
    /// That server refuses.
    #[error("{reason}")]
    ControlRefused { reason: String, is_wrong: bool },
    /// A data directory that streams are to be moved from or to is in use.
    #[error(
        "{} is in use by {}; give --url instead of --data-dir to go through that server, or stop it first",
        dir.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("the process {pid}"))
    )]
    TransferInUse { dir: PathBuf, pid: Option<u32> },
    /// A new data directory, and no mode for it.
    #[error(
        "--storage-mode is {}; there is no store in the directory yet, so give `file-durable`, `file-fast` or `acid`",
        given.as_deref().map_or_else(|| "missing".to_owned(), |given| format!("`{given}`"))
    )]
    NoMode { given: Option<String> },
    /// A file that cannot be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// An export without its last line.
    #[error(
        "the export was cut off, because the server failed or was stopped; its log says why, export again"
    )]
    ExportCutOff,
    /// An import that could not be made to its end.
    #[error("{error}; {imported} streams were imported before")]
    Import { imported: u64, error: IntakeError },
    /// The server's report of an import cannot be read.
    #[error("the server's report cannot be read: {source}")]
    BadReport { source: serde_json::Error },
    /// What should be a claim is none.
    #[error("this is no claim ({source}); give what `tailwater sub claim` printed")]
    BadClaim { source: serde_json::Error },
    /// Only a server could do it, and none listens there.
    #[error(
        "no server listens in {}; only the one that uses the keys can replace them: start it with this data directory first",
        dir.display()
    )]
    NoServer { dir: PathBuf },
    /// The storage failed.
    #[error("{0}")]
    Engine(EngineError),
    /// The server could not run, or not go on.
    #[error("{0}")]
    Serve(#[from] ServeError),
}

impl CommandError {
    /// 2 if what was typed or configured is wrong, else 1.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Client(
                ClientError::BadUrl { .. }
                | ClientError::BadHeader { .. }
                | ClientError::BadAuthorities { .. },
            )
            | Self::Token(_)
            | Self::ConfigFile { .. }
            | Self::Config(_)
            | Self::Logging(_)
            | Self::InUse { .. }
            | Self::InUseByServer { .. }
            | Self::CompactsItself { .. }
            | Self::NoShards { .. }
            | Self::TransferInUse { .. }
            | Self::NoMode { .. }
            | Self::BadClaim { .. }
            | Self::BadPayload { .. }
            | Self::NoServer { .. }
            | Self::Open(_)
            | Self::UnknownMode { .. } => 2,
            Self::Backup(error) if control::is_wrong(error) => 2,
            Self::ControlRefused { is_wrong: true, .. } => 2,
            _ => 1,
        }
    }

    /// Whether the reader of stdout has gone away, as `head` does: that is no failure.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}
