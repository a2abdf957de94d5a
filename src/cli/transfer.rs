//! `export` and `import`: through a server, or on a data directory that no server uses.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use serde_json::json;
use tailwater_storage::OpenError;
use tailwater_storage::clock::SystemClock;
use tailwater_storage::engine::Existing;
use tailwater_storage::stream::NameLimits;
use tailwater_storage::{Engine, EngineLimits, Store, StoreOptions};
use tokio::sync::mpsc;

use super::arguments::{ExportOptions, ImportOptions};
use super::error::CommandError;
use super::output::Output;
use super::patience::patiently;
use crate::transfer::{Intake, Outlet, Report};

/// Memory to open a store with.
const MEMORY_BYTES: u64 = 256 << 20;
/// The body of the largest append that is imported into a data directory.
const BODY_BYTES_MAX: usize = 1 << 30;
/// Streams that are held ready, each of which was passed.
const OPEN_STREAMS_MAX: u64 = 10_000;
/// How often they are looked through.
const EVICTION_INTERVAL: Duration = Duration::from_secs(1);
/// Input is read in pieces of so many bytes, and so many of them are read ahead.
const PIECE_BYTES: usize = 256 << 10;
const PIECES_MAX: usize = 4;
/// What the last line of an export begins with.
const COMPLETE: &[u8] = b"{\"complete\"";

pub(super) async fn export(options: &ExportOptions, output: Output) -> Result<(), CommandError> {
    let mut target = Target::open(options.output.as_deref(), output)?;
    if let Some(dir) = &options.data_dir {
        let engine = open_engine(dir, None)?;
        let mut outlet = Outlet::new(&engine, &options.prefix);
        while let Some(piece) = outlet.next().await.map_err(CommandError::Engine)? {
            target.write(&piece)?;
        }
        drop(outlet);
        engine.stop();
    } else {
        let client = options.connection.client()?;
        let mut export = patiently(async || client.export(&options.prefix).await).await?;
        while let Some(piece) = export.next().await? {
            target.write(&piece)?;
        }
    }
    target.finish()
}

/// Where an export goes.
struct Target {
    to: Sink,
    last_line: LastLine,
}

enum Sink {
    Stdout(Output),
    /// A file of another name, until all of it is there.
    File {
        file: File,
        path: PathBuf,
        partial: PathBuf,
    },
}

impl Target {
    fn open(path: Option<&Path>, stdout: Output) -> Result<Self, CommandError> {
        let to = match path {
            None => Sink::Stdout(stdout),
            Some(path) => {
                let mut name = path.as_os_str().to_owned();
                name.push(".partial");
                let partial = PathBuf::from(name);
                let file = File::create(&partial).map_err(|source| CommandError::File {
                    path: partial.clone(),
                    source,
                })?;
                Sink::File {
                    file,
                    path: path.to_owned(),
                    partial,
                }
            }
        };
        Ok(Self {
            to,
            last_line: LastLine::default(),
        })
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), CommandError> {
        self.last_line.note(piece);
        match &mut self.to {
            Sink::Stdout(output) => output.write(piece),
            Sink::File { file, partial, .. } => file.write_all(piece).map_err(|source| CommandError::File {
                path: partial.clone(),
                source,
            }),
        }
    }

    fn finish(mut self) -> Result<(), CommandError> {
        if !self.last_line.is_complete() {
            return Err(CommandError::ExportCutOff);
        }
        match &mut self.to {
            Sink::Stdout(output) => output.flush(),
            Sink::File { file, path, partial } => {
                let renamed = file.sync_all().and_then(|()| std::fs::rename(partial, &*path));
                renamed.map_err(|source| CommandError::File {
                    path: path.clone(),
                    source,
                })
            }
        }
    }
}

/// The last line of what comes in pieces, which may end anywhere.
#[derive(Default)]
struct LastLine {
    /// The beginning of the last line that has begun.
    begin: Vec<u8>,
    /// Its break has come, so that whatever comes next begins another one.
    has_ended: bool,
}

impl LastLine {
    fn note(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        // Its own break begins no line yet.
        let before = piece.strip_suffix(b"\n").unwrap_or(piece);
        let begun = memchr::memrchr(b'\n', before).map(|end| end + 1);
        if begun.is_some() || self.has_ended {
            self.begin.clear();
        }
        let part = &piece[begun.unwrap_or(0)..];
        let missing = COMPLETE.len().saturating_sub(self.begin.len());
        self.begin.extend_from_slice(&part[..missing.min(part.len())]);
        self.has_ended = piece.ends_with(b"\n");
    }

    fn is_complete(&self) -> bool {
        self.has_ended && self.begin == COMPLETE
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Sink::File { partial, .. } = &self.to {
            // It has another name by now if all of it is there.
            let _renamed = std::fs::remove_file(partial);
        }
    }
}

pub(super) async fn import(options: &ImportOptions, output: &mut Output) -> Result<ExitCode, CommandError> {
    let pieces = read_input(options.file.as_deref())?;
    let report = match &options.data_dir {
        Some(dir) => import_into(dir, options, pieces).await?,
        None => {
            let client = options.connection.client()?;
            let pieces = unfold(pieces, |mut pieces| async {
                Some((pieces.recv().await?, pieces))
            });
            let answer = client.import(pieces, options.replace).await?;
            serde_json::from_slice(&answer).map_err(|source| CommandError::BadReport { source })?
        }
    };
    tell(&report, options.json, output)?;
    let all_imported = report.refused.is_empty();
    Ok(ExitCode::from(u8::from(!all_imported)))
}

fn tell(report: &Report, as_json: bool, output: &mut Output) -> Result<(), CommandError> {
    if as_json {
        output.line(&json!(report).to_string())?;
        return output.flush();
    }
    for refused in &report.refused {
        eprintln!("`{}` was not imported: {}", refused.stream, refused.reason);
    }
    let refused = report.refused.len() as u64 + report.more_refused;
    output.line(&format!(
        "imported {} streams; {} were there already, {refused} were refused, {} had gone away while they were exported",
        report.imported, report.present, report.abandoned
    ))?;
    output.flush()
}

async fn import_into(
    dir: &Path,
    options: &ImportOptions,
    mut pieces: mpsc::Receiver<io::Result<Bytes>>,
) -> Result<Report, CommandError> {
    let engine = open_engine(dir, Some(options.storage_mode.as_deref()))?;
    let existing = if options.replace {
        Existing::Replace
    } else {
        Existing::Refuse
    };
    // What another server has taken for a name is one.
    let mut intake = Intake::new(&engine, existing, NameLimits::NONE, BODY_BYTES_MAX);
    let imported = async {
        while let Some(piece) = pieces.recv().await {
            let piece = piece.map_err(|source| CommandError::Input { source })?;
            let fed = intake.feed(&piece).await;
            fed.map_err(|error| CommandError::Import {
                imported: intake.report().imported,
                error,
            })?;
        }
        let finished = intake.finish().await;
        finished.map_err(|(error, report)| CommandError::Import {
            imported: report.imported,
            error,
        })
    };
    let imported = imported.await;
    engine.sweep().await.map_err(CommandError::Engine)?;
    engine.stop();
    let imported = imported?;
    // A store of `file-fast` syncs what was written last only here.
    let failure = engine.failure();
    let failed = failure.borrow().clone();
    failed.map_or(Ok(imported), |error| Err(error.into()))
}

/// Reads a file or stdin ahead, in a thread of its own: there is nothing else to wait for it with.
fn read_input(path: Option<&Path>) -> Result<mpsc::Receiver<io::Result<Bytes>>, CommandError> {
    let mut input: Box<dyn io::Read + Send> = match path {
        None => Box::new(io::stdin()),
        Some(path) => Box::new(File::open(path).map_err(|source| CommandError::File {
            path: path.to_owned(),
            source,
        })?),
    };
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    std::thread::spawn(move || {
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let read = input.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
            let is_end = read.as_ref().is_ok_and(|count| *count == 0);
            // Whoever imports may have given up.
            if is_end || sender.blocking_send(read.map(|_| Bytes::from(piece))).is_err() {
                return;
            }
        }
    });
    Ok(pieces)
}

/// The engine over a data directory. A new one is made only for an import, which says of which mode.
fn open_engine(dir: &Path, import_as: Option<Option<&str>>) -> Result<Engine, CommandError> {
    let options = match (StoreOptions::as_made(dir, MEMORY_BYTES), import_as) {
        (Ok(Some(options)), _) => options,
        (Ok(None), _) => return Err(CommandError::UnknownMode { dir: dir.to_owned() }),
        (Err(OpenError::NoStore { .. }), Some(mode)) => mode
            .and_then(|mode| StoreOptions::of_mode(mode, dir, MEMORY_BYTES))
            .ok_or_else(|| CommandError::NoMode {
                given: mode.map(str::to_owned),
            })?,
        (Err(error), _) => return Err(error.into()),
    };
    let store = Store::open(options).map_err(|error| match error {
        OpenError::Locked { dir, pid } => CommandError::TransferInUse { dir, pid },
        error => error.into(),
    })?;
    let limits = EngineLimits {
        stream_bytes_max: u64::MAX,
        producers_max: usize::MAX,
        open_streams_max: OPEN_STREAMS_MAX,
        ..EngineLimits::default()
    };
    let engine = Engine::start(store.backend(), Arc::new(SystemClock), limits)?;
    let evicted = engine.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVICTION_INTERVAL).await;
            evicted.evict_idle();
        }
    });
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::LastLine;

    /// An export whose last line came in a piece of its own was taken for cut off.
    #[test]
    fn an_export_is_complete_wherever_its_pieces_end() {
        let export = b"{\"export\":1}\n{\"end\":{}}\n{\"complete\":{\"streams\":1}}\n";
        let is_complete = |export: &[u8], piece_bytes| {
            let mut last_line = LastLine::default();
            export.chunks(piece_bytes).for_each(|piece| last_line.note(piece));
            last_line.is_complete()
        };
        for piece_bytes in 1..=export.len() {
            assert!(is_complete(export, piece_bytes), "pieces of {piece_bytes}");
            for cut in 0..export.len() {
                assert!(!is_complete(&export[..cut], piece_bytes), "cut at {cut}");
            }
        }
    }
}
