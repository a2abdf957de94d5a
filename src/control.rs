//! What operators ask of a server on its own machine, over the Unix socket in its data directory, and what it
//! answers: one line of JSON each.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tailwater_storage::store::{BackupError, BackupReport};
use tailwater_storage::{StoreStats, acid, file};

/// The socket, in the data directory.
pub(crate) const SOCKET_NAME: &str = "control.sock";
/// No request has a longer line, and none needs one: the system takes no longer paths.
pub(crate) const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Where the server that uses a data directory listens.
pub(crate) fn socket_of(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET_NAME)
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Copies the store into a directory, given by its absolute path.
    Backup { to: PathBuf },
    /// What the store holds.
    Stats,
    /// Makes a new key for webhooks. `at_once` ends all keys before, and the tokens that are out.
    RotateKey {
        #[serde(default)]
        at_once: bool,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Backup(Backup),
    Stats(Stats),
    RotateKey(Rotation),
    /// Why it cannot be done.
    Refused {
        reason: String,
        /// What was asked for cannot be done at all: another directory has to be chosen.
        is_wrong: bool,
    },
}

/// A new key for webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rotation {
    pub(crate) kid: String,
    /// From now.
    pub(crate) signs_in_secs: u64,
    /// Keys that are published, this one among them.
    pub(crate) published: usize,
}

/// Whether another directory has to be chosen for a copy.
pub(crate) fn is_wrong(error: &BackupError) -> bool {
    match error {
        BackupError::Inside { .. } | BackupError::NotEmpty { .. } => true,
        BackupError::Stopping | BackupError::Directory(_) | BackupError::Backend(_) => false,
    }
}

/// A copy of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backup {
    pub(crate) to: PathBuf,
    pub(crate) streams: u64,
    pub(crate) stored_bytes: u64,
    #[serde(flatten)]
    pub(crate) files: BackupFiles,
}

/// What a copy consists of. Which of them it is follows from the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum BackupFiles {
    File {
        segments: u64,
        segment_bytes: u64,
        copied_segments: u64,
        catalog_bytes: u64,
    },
    Acid {
        shards: u64,
        shard_bytes: u64,
    },
}

impl Backup {
    pub(crate) fn new(to: PathBuf, report: BackupReport) -> Self {
        match report {
            BackupReport::File(report) => Self {
                to,
                streams: report.streams,
                stored_bytes: report.stored_bytes,
                files: BackupFiles::File {
                    segments: report.segments,
                    segment_bytes: report.segment_bytes,
                    copied_segments: report.copied_segments,
                    catalog_bytes: report.catalog_bytes,
                },
            },
            BackupReport::Acid(report) => Self {
                to,
                streams: report.streams,
                stored_bytes: report.stored_bytes,
                files: BackupFiles::Acid {
                    shards: report.shards,
                    shard_bytes: report.shard_bytes,
                },
            },
        }
    }
}

/// What a store holds. Which of them it is follows from the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Stats {
    File(FileStats),
    Acid(AcidStats),
}

/// What a store of journals and segments holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileStats {
    pub(crate) streams: u64,
    pub(crate) deleted_streams: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) era: u64,
    pub(crate) journals: u64,
    pub(crate) journal_bytes: u64,
    pub(crate) unfolded_bytes: u64,
    pub(crate) segments: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) live_bytes: u64,
    pub(crate) dead_bytes: u64,
    pub(crate) catalog_bytes: u64,
}

/// What a store of shards holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AcidStats {
    pub(crate) streams: u64,
    pub(crate) deleted_streams: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) shards: u64,
    pub(crate) shard_bytes: u64,
}

impl From<StoreStats> for Stats {
    fn from(stats: StoreStats) -> Self {
        match stats {
            StoreStats::File(stats) => Self::File(stats.into()),
            StoreStats::Acid(stats) => Self::Acid(stats.into()),
        }
    }
}

impl From<file::FileStats> for FileStats {
    fn from(stats: file::FileStats) -> Self {
        let file::FileStats {
            streams,
            deleted_streams,
            stored_bytes,
            era,
            journals,
            journal_bytes,
            unfolded_bytes,
            segments,
            segment_bytes,
            live_bytes,
            dead_bytes,
            catalog_bytes,
        } = stats;
        Self {
            streams,
            deleted_streams,
            stored_bytes,
            era,
            journals,
            journal_bytes,
            unfolded_bytes,
            segments,
            segment_bytes,
            live_bytes,
            dead_bytes,
            catalog_bytes,
        }
    }
}

impl From<acid::AcidStats> for AcidStats {
    fn from(stats: acid::AcidStats) -> Self {
        let acid::AcidStats {
            streams,
            deleted_streams,
            stored_bytes,
            shards,
            shard_bytes,
        } = stats;
        Self {
            streams,
            deleted_streams,
            stored_bytes,
            shards,
            shard_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Request};

    #[test]
    fn requests_are_what_operators_may_send_by_hand() {
        let request = |text| serde_json::from_str::<Request>(text).ok();
        let backup = Request::Backup { to: "/a/b".into() };
        assert_eq!(request(r#"{"command":"backup","to":"/a/b"}"#), Some(backup));
        assert_eq!(request(r#"{"command":"stats"}"#), Some(Request::Stats));
        for (text, at_once) in [
            (r#"{"command":"rotate-key"}"#, false),
            (r#"{"command":"rotate-key","at_once":true}"#, true),
        ] {
            assert_eq!(request(text), Some(Request::RotateKey { at_once }), "{text}");
        }
        for strange in [r#"{"command":"stop"}"#, r#"{"command":"backup"}"#, "{}", "[]", ""] {
            assert_eq!(request(strange), None, "{strange}");
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let refused = Answer::Refused {
            reason: "no".to_owned(),
            is_wrong: false,
        };
        let text = serde_json::to_string(&refused).expect("it is plain");
        assert_eq!(text, r#"{"refused":{"reason":"no","is_wrong":false}}"#);
    }
}
