//! Commands on a data directory: verify, stats, backup. What a server that uses it can answer, it is asked.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use tailwater_storage::file::FileOptions;
use tailwater_storage::store::{VerifyReport, stats_of_directory, verify_directory};
use tailwater_storage::{OpenError, Store, StoreOptions};

use super::arguments::{BackupOptions, DirectoryOptions};
use super::error::CommandError;
use super::output::Output;
use crate::control::{Answer, Backup, BackupFiles, Request, Stats, socket_of};
use crate::webhooks::key_file;

/// No answer has a longer line.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Memory to open a store with.
const MEMORY_BYTES: u64 = 256 << 20;
/// The length of a journal in a store that is opened for a moment.
const JOURNAL_BYTES: u64 = 1 << 20;

pub(super) fn verify(options: &DirectoryOptions, output: &mut Output) -> Result<ExitCode, CommandError> {
    let dir = &options.directory.path;
    let report = verify_directory(dir).map_err(|error| match error {
        OpenError::Locked { dir, pid } => CommandError::InUse { dir, pid },
        error => error.into(),
    })?;
    let report = report.ok_or_else(|| CommandError::UnknownMode { dir: dir.clone() })?;
    let findings = Findings::of(&report);
    if options.json {
        output.line(&json_of(&report, findings).to_string())?;
    } else {
        for line in contents_of(&report).into_iter().chain(findings.text(dir)) {
            output.line(&line)?;
        }
    }
    output.flush()?;
    Ok(ExitCode::from(u8::from(!findings.is_clean())))
}

/// What is told of any store.
#[derive(Clone, Copy)]
struct Findings<'r> {
    damage: &'r [String],
    more_damage: u64,
    notes: &'r [String],
}

impl<'r> Findings<'r> {
    fn of(report: &'r VerifyReport) -> Self {
        let (damage, more_damage, notes) = match report {
            VerifyReport::File(report) => (&report.damage, report.more_damage, &report.notes),
            VerifyReport::Acid(report) => (&report.damage, report.more_damage, &report.notes),
        };
        Self {
            damage,
            more_damage,
            notes,
        }
    }

    fn is_clean(self) -> bool {
        self.damage.is_empty()
    }

    fn text(self, dir: &Path) -> Vec<String> {
        let notes = self.notes.iter().map(|note| format!("note: {note}"));
        let damage = self.damage.iter().map(|damage| format!("damage: {damage}"));
        let mut lines: Vec<_> = notes.chain(damage).collect();
        if self.more_damage > 0 {
            lines.push(format!("damage: {} more", self.more_damage));
        }
        lines.push(if self.is_clean() {
            format!("{} is clean", dir.display())
        } else {
            let count = self.damage.len() as u64 + self.more_damage;
            format!(
                "{} is damaged, in {count} places; restore it from a backup",
                dir.display()
            )
        });
        lines
    }
}

fn json_of(report: &VerifyReport, findings: Findings<'_>) -> Value {
    let mut json = match report {
        VerifyReport::File(report) => json!({
            "streams": report.streams,
            "deleted_streams": report.deleted_streams,
            "segments": report.segments,
            "segment_bytes": report.segment_bytes,
            "runs": report.runs,
            "dead_runs": report.dead_runs,
            "appends": report.appends,
            "messages": report.messages,
            "journals": report.journals,
            "journal_batches": report.journal_batches,
            "journal_bytes": report.journal_bytes,
        }),
        VerifyReport::Acid(report) => json!({
            "streams": report.streams,
            "deleted_streams": report.deleted_streams,
            "shards": report.shards,
            "shard_bytes": report.shard_bytes,
            "blocks": report.blocks,
            "appends": report.appends,
            "messages": report.messages,
        }),
    };
    json["clean"] = findings.is_clean().into();
    json["damage"] = findings.damage.into();
    json["more_damage"] = findings.more_damage.into();
    json["notes"] = findings.notes.into();
    json
}

fn contents_of(report: &VerifyReport) -> Vec<String> {
    match report {
        VerifyReport::File(report) => vec![
            format!(
                "catalog   {} streams, {} of them deleted",
                report.streams, report.deleted_streams
            ),
            format!(
                "segments  {} with {} bytes: {} runs ({} dead), {} appends, {} messages",
                report.segments,
                report.segment_bytes,
                report.runs,
                report.dead_runs,
                report.appends,
                report.messages
            ),
            format!(
                "journals  {} with {} batches of {} bytes that are not in segments yet",
                report.journals, report.journal_batches, report.journal_bytes
            ),
        ],
        VerifyReport::Acid(report) => vec![
            format!(
                "streams   {}, {} of them deleted",
                report.streams, report.deleted_streams
            ),
            format!(
                "shards    {} of {} bytes: {} blocks, {} appends, {} messages",
                report.shards, report.shard_bytes, report.blocks, report.appends, report.messages
            ),
        ],
    }
}

pub(super) fn stats(options: &DirectoryOptions, output: &mut Output) -> Result<(), CommandError> {
    let dir = &options.directory.path;
    let stats = match ask(dir, &Request::Stats)? {
        Some(Answer::Stats(stats)) => stats,
        Some(other) => return Err(unasked(dir, other)),
        None => stats_of_directory(dir)?
            .ok_or_else(|| CommandError::UnknownMode { dir: dir.clone() })?
            .into(),
    };
    if options.json {
        output.line(&json!(stats).to_string())?;
    } else {
        for line in text_of_stats(&stats) {
            output.line(&line)?;
        }
    }
    output.flush()
}

fn text_of_stats(stats: &Stats) -> Vec<String> {
    let streams = |streams: u64, stored_bytes: u64, deleted_streams: u64| {
        format!("streams   {streams} with {stored_bytes} bytes, {deleted_streams} of them deleted")
    };
    match stats {
        Stats::File(stats) => vec![
            streams(stats.streams, stats.stored_bytes, stats.deleted_streams),
            format!(
                "journals  {} files of {} bytes, {} of them not in segments yet",
                stats.journals, stats.journal_bytes, stats.unfolded_bytes
            ),
            format!(
                "segments  {} files of {} bytes: {} live, {} dead",
                stats.segments, stats.segment_bytes, stats.live_bytes, stats.dead_bytes
            ),
            format!("catalog   {} bytes", stats.catalog_bytes),
            format!("era       {}", stats.era),
        ],
        Stats::Acid(stats) => vec![
            streams(stats.streams, stats.stored_bytes, stats.deleted_streams),
            format!("shards    {} of {} bytes", stats.shards, stats.shard_bytes),
        ],
    }
}

pub(super) fn backup(options: &BackupOptions, output: &mut Output) -> Result<(), CommandError> {
    let dir = &options.store.directory.path;
    let to = std::path::absolute(&options.to).unwrap_or_else(|_unknown| options.to.clone());
    let backup = match ask(dir, &Request::Backup { to: to.clone() })? {
        Some(Answer::Backup(backup)) => backup,
        Some(other) => return Err(unasked(dir, other)),
        None => {
            let options = StoreOptions::as_made(dir, MEMORY_BYTES)?;
            let options = options.ok_or_else(|| CommandError::UnknownMode { dir: dir.clone() })?;
            let store = Store::open(for_a_moment(options))?;
            let backup = Backup::new(to.clone(), store.backup(&to)?);
            key_file::copy(dir, &to)?;
            store.backend().stop()?;
            backup
        }
    };
    if options.store.json {
        output.line(&json!(backup).to_string())?;
    } else {
        output.line(&text_of_backup(&backup))?;
    }
    output.flush()
}

/// A store that is opened for a moment needs no long journal, and leaves compaction to the next server.
fn for_a_moment(options: StoreOptions) -> StoreOptions {
    match options {
        StoreOptions::File(options) => StoreOptions::File(FileOptions {
            journal_bytes: JOURNAL_BYTES,
            compacts_by_itself: false,
            ..options
        }),
        StoreOptions::Acid(options) => StoreOptions::Acid(options),
    }
}

fn text_of_backup(backup: &Backup) -> String {
    let files = match backup.files {
        BackupFiles::File {
            segments,
            copied_segments,
            catalog_bytes,
            ..
        } => format!(
            "{segments} segments ({copied_segments} of them not as links) and a catalog of {catalog_bytes} bytes"
        ),
        BackupFiles::Acid { shards, shard_bytes } => format!("{shards} shards of {shard_bytes} bytes"),
    };
    format!(
        "copied {} streams with {} bytes to {}: {files}",
        backup.streams,
        backup.stored_bytes,
        backup.to.display()
    )
}

/// Asks the server that uses a data directory. None if none listens there.
pub(super) fn ask(dir: &Path, request: &Request) -> Result<Option<Answer>, CommandError> {
    use io::ErrorKind::{ConnectionRefused, InvalidInput, NotFound};
    let failed = |source| CommandError::Control {
        dir: dir.to_owned(),
        source,
    };
    let mut stream = match UnixStream::connect(socket_of(dir)) {
        Ok(stream) => stream,
        // Paths that are too long for a socket are those where no server listens.
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused | InvalidInput) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let asked = (|| {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        // A copy takes as long as it takes; a server that ends closes its side.
        let mut answer = String::new();
        BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut answer)?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&answer)?)
    })();
    asked.map(Some).map_err(failed)
}

/// What an answer means that is none to what was asked.
pub(super) fn unasked(dir: &Path, answer: Answer) -> CommandError {
    match answer {
        Answer::Refused { reason, is_wrong } => CommandError::ControlRefused { reason, is_wrong },
        Answer::Backup(_) | Answer::Stats(_) | Answer::RotateKey(_) => CommandError::Control {
            dir: dir.to_owned(),
            source: io::ErrorKind::InvalidData.into(),
        },
    }
}
