//! Why a command failed, and its exit code.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tailwater_process::{ConfigErrors, LoggingError};

use crate::mirror::MirrorError;
use crate::settings::SecretError;
use crate::{postgres, source};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    ConfigFile { path: PathBuf, source: io::Error },
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// A file with a secret is of no use.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// RUST_LOG is wrong.
    #[error("{0}")]
    Logging(#[from] LoggingError),
    /// The runtime, or the signals, cannot be had.
    #[error("cannot start: {source}")]
    Runtime { source: io::Error },
    /// Nothing can listen there.
    #[error("cannot listen on {address}: {source}; choose another one with `sync.bind_address`")]
    Bind { address: SocketAddr, source: io::Error },
    /// stdout cannot be written.
    #[error("cannot write to stdout: {source}")]
    Output { source: io::Error },
    /// The pages of the manual cannot be written.
    #[error("cannot write the manual to {}: {source}", directory.display())]
    Manual { directory: PathBuf, source: io::Error },
    /// The source will not do.
    #[error("{0}")]
    Source(#[from] source::Error),
    /// The database will not do.
    #[error("{0}")]
    Postgres(#[from] postgres::Error),
    /// A variable that says how spans are sent is wrong.
    #[cfg(feature = "otlp")]
    #[error("cannot trace: {0}")]
    Traces(#[from] tailwater_process::traces::TracesError),
    /// The mirror could not begin.
    #[error("{0}")]
    Mirror(#[from] MirrorError),
}

impl CommandError {
    /// 2 if what was typed or configured is wrong, else 1.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::ConfigFile { .. } | Self::Config(_) | Self::Secret(_) | Self::Logging(_) => 2,
            #[cfg(feature = "otlp")]
            Self::Traces(_) => 2,
            Self::Source(error) | Self::Mirror(MirrorError::Source(error)) if is_a_setting(error) => 2,
            _ => 1,
        }
    }

    /// Whether the reader of stdout has gone away, as `head` does: that is no failure.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn is_a_setting(error: &source::Error) -> bool {
    matches!(
        error,
        source::Error::BadUrl { .. } | source::Error::NoAuthorities { .. } | source::Error::Token { .. }
    )
}
