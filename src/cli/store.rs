//! Commands on a data directory: verify, stats, backup. What a server that uses it can answer, it is asked.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use tailwater_storage::Backend as _;
use tailwater_storage::OpenError;
use tailwater_storage::file::{self, FileOptions, VerifyReport};

use super::arguments::{BackupOptions, StoreOptions};
use super::error::CommandError;
use super::output::Output;
use crate::control::{Answer, Backup, Request, Stats, socket_of};

/// No answer has a longer line.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Memory to open a store with.
const MEMORY_BYTES: u64 = 256 << 20;
/// A store that is opened for a moment needs no long journal.
const JOURNAL_BYTES: u64 = 1 << 20;

pub(super) fn verify(options: &StoreOptions, output: &mut Output) -> Result<ExitCode, CommandError> {
    let dir = &options.directory.path;
    let report = file::verify_directory(dir).map_err(|error| match error {
        OpenError::Locked { dir, pid } => CommandError::InUse { dir, pid },
        error => error.into(),
    })?;
    if options.json {
        output.line(&json_of(&report).to_string())?;
    } else {
        for line in text_of(&report, dir) {
            output.line(&line)?;
        }
    }
    output.flush()?;
    Ok(ExitCode::from(u8::from(!report.is_clean())))
}

fn json_of(report: &VerifyReport) -> Value {
    json!({
        "clean": report.is_clean(),
        "damage": report.damage,
        "more_damage": report.more_damage,
        "notes": report.notes,
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
    })
}

fn text_of(report: &VerifyReport, dir: &Path) -> Vec<String> {
    let mut lines = vec![
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
    ];
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(report.damage.iter().map(|damage| format!("damage: {damage}")));
    if report.more_damage > 0 {
        lines.push(format!("damage: {} more", report.more_damage));
    }
    lines.push(if report.is_clean() {
        format!("{} is clean", dir.display())
    } else {
        let count = report.damage.len() as u64 + report.more_damage;
        format!(
            "{} is damaged, in {count} places; restore it from a backup",
            dir.display()
        )
    });
    lines
}

pub(super) fn stats(options: &StoreOptions, output: &mut Output) -> Result<(), CommandError> {
    let dir = &options.directory.path;
    let stats = match ask(dir, &Request::Stats)? {
        Some(Answer::Stats(stats)) => stats,
        Some(other) => return Err(unasked(dir, other)),
        None => file::stats_of_directory(dir)?.into(),
    };
    let Stats {
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
    if options.json {
        output.line(&json!(stats).to_string())?;
    } else {
        output.line(&format!(
            "streams   {streams} with {stored_bytes} bytes, {deleted_streams} of them deleted"
        ))?;
        output.line(&format!(
            "journals  {journals} files of {journal_bytes} bytes, {unfolded_bytes} of them not in segments yet"
        ))?;
        output.line(&format!(
            "segments  {segments} files of {segment_bytes} bytes: {live_bytes} live, {dead_bytes} dead"
        ))?;
        output.line(&format!("catalog   {catalog_bytes} bytes"))?;
        output.line(&format!("era       {era}"))?;
    }
    output.flush()
}

pub(super) fn backup(options: &BackupOptions, output: &mut Output) -> Result<(), CommandError> {
    let dir = &options.store.directory.path;
    let to = std::path::absolute(&options.to).unwrap_or_else(|_unknown| options.to.clone());
    let backup = match ask(dir, &Request::Backup { to: to.clone() })? {
        Some(Answer::Backup(backup)) => backup,
        Some(other) => return Err(unasked(dir, other)),
        None => {
            let durability = file::durability_of(dir)?;
            let durability = durability.ok_or_else(|| CommandError::UnknownMode { dir: dir.clone() })?;
            let store = file::open(FileOptions {
                journal_bytes: JOURNAL_BYTES,
                compacts_by_itself: false,
                ..FileOptions::new(dir.clone(), durability, MEMORY_BYTES)
            })?;
            let backup = Backup::new(to.clone(), store.backup(&to)?);
            store.stop()?;
            backup
        }
    };
    if options.store.json {
        output.line(&json!(backup).to_string())?;
    } else {
        output.line(&format!(
            "copied {} streams with {} bytes to {}: {} segments ({} of them not as links) and a catalog of {} bytes",
            backup.streams,
            backup.stored_bytes,
            backup.to.display(),
            backup.segments,
            backup.copied_segments,
            backup.catalog_bytes
        ))?;
    }
    output.flush()
}

/// Asks the server that uses a data directory. None if none listens there.
fn ask(dir: &Path, request: &Request) -> Result<Option<Answer>, CommandError> {
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
fn unasked(dir: &Path, answer: Answer) -> CommandError {
    match answer {
        Answer::Refused { reason, is_wrong } => CommandError::ControlRefused { reason, is_wrong },
        Answer::Backup(_) | Answer::Stats(_) => CommandError::Control {
            dir: dir.to_owned(),
            source: io::ErrorKind::InvalidData.into(),
        },
    }
}
