//! The lines of an export into an engine.

use serde::{Deserialize, Serialize};
use tailwater_storage::Engine;
use tailwater_storage::engine::{Begun, EngineError, Existing, Finished, ImportError, Importer};
use tailwater_storage::stream::{NameLimits, StreamName};

use super::format::{Event, ExportReader, FormatError};

/// Refusals that a report tells of; others are only counted.
const REFUSALS_MAX: usize = 100;
/// What a line may take beside the bytes of an append: the line of a stream with all of its producers.
const LINE_BYTES_MIN: usize = 4 << 20;

/// What became of the streams of an export.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Streams that are here now and were not before.
    pub(crate) imported: u64,
    /// Streams that were here already, just as the export has them.
    pub(crate) present: u64,
    /// Streams that went away while they were exported.
    pub(crate) abandoned: u64,
    /// Streams that were not imported, and why: the first ones.
    pub(crate) refused: Vec<Refused>,
    /// How many more were not imported.
    pub(crate) more_refused: u64,
}

/// A stream that was not imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) stream: String,
    pub(crate) reason: String,
}

/// Why an import ends before all of the export was read. Streams before that are imported, and the one that was
/// being read is not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// It is no export, or a damaged one.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// A line that is longer than any line of what may be imported here.
    #[error(
        "line {line} has more than {bytes_max} bytes, and no append that is allowed here has; raise \
         `limits.max_body_bytes` to what the other server had"
    )]
    LongLine { line: u64, bytes_max: usize },
    /// The end is missing.
    #[error("the export is cut off behind line {lines}: its last line must be `complete`; export again")]
    CutOff { lines: u64 },
    /// The storage cannot take it.
    #[error("{error}, for the stream `{stream}`")]
    Storage { stream: StreamName, error: EngineError },
}

/// An import that is being made, piece by piece.
pub(crate) struct Intake {
    reader: ExportReader,
    importer: Importer,
    /// The stream whose lines come.
    stream: Option<StreamName>,
    /// Whether they are passed over.
    passes_over: bool,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    line_bytes_max: usize,
    report: Report,
}

impl Intake {
    /// An import of appends that had bodies of at most `body_bytes_max`.
    pub(crate) fn new(engine: &Engine, existing: Existing, names: NameLimits, body_bytes_max: usize) -> Self {
        Self {
            reader: ExportReader::new(names),
            importer: engine.import(existing),
            stream: None,
            passes_over: true,
            line: Vec::new(),
            // Text that is longer than in base64 is written so; lengths of messages take at most as much again.
            line_bytes_max: body_bytes_max.saturating_mul(4).saturating_add(LINE_BYTES_MIN),
            report: Report::default(),
        }
    }

    /// What became of the streams so far.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// Bytes that are held until the end of their line comes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.line.len()
    }

    /// Takes the next bytes of the export.
    ///
    /// # Errors
    /// [`IntakeError`]; nothing more may be fed then.
    pub(crate) async fn feed(&mut self, mut bytes: &[u8]) -> Result<(), IntakeError> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.line.is_empty() {
                self.take(line).await?;
            } else {
                self.line.extend_from_slice(line);
                let line = std::mem::take(&mut self.line);
                self.take(&line).await?;
            }
        }
        self.line.extend_from_slice(bytes);
        self.check_length(self.line.len())
    }

    /// Takes what came behind the last line end, and asks whether that was all.
    ///
    /// # Errors
    /// [`IntakeError`] if the export is not complete.
    pub(crate) async fn finish(mut self) -> Result<Report, (IntakeError, Report)> {
        let line = std::mem::take(&mut self.line);
        let taken = if line.is_empty() {
            Ok(())
        } else {
            self.take(&line).await
        };
        match taken {
            Ok(()) if self.reader.is_complete() => Ok(self.report),
            Ok(()) => {
                let lines = self.reader.lines();
                Err((IntakeError::CutOff { lines }, self.report))
            }
            Err(error) => Err((error, self.report)),
        }
    }

    fn check_length(&self, bytes: usize) -> Result<(), IntakeError> {
        if bytes <= self.line_bytes_max {
            return Ok(());
        }
        Err(IntakeError::LongLine {
            line: self.reader.lines() + 1,
            bytes_max: self.line_bytes_max,
        })
    }

    async fn take(&mut self, line: &[u8]) -> Result<(), IntakeError> {
        self.check_length(line.len())?;
        let taken = match self.reader.line(line)? {
            Event::Begun | Event::Complete { .. } => Ok(()),
            Event::Stream(exported) => {
                self.stream = Some(exported.state.name.clone());
                self.passes_over = true;
                let begun = self.importer.begin(*exported).await;
                begun.map(|begun| match begun {
                    Begun::Present => self.report.present += 1,
                    Begun::Staged => self.passes_over = false,
                })
            }
            _ if self.passes_over => Ok(()),
            Event::Control { key, value } => self.importer.control(key, value).await,
            Event::Append(append) => self.importer.append(append).await,
            Event::End => {
                self.passes_over = true;
                let finished = self.importer.finish().await;
                finished.map(|finished| match finished {
                    Finished::Imported => self.report.imported += 1,
                    Finished::Present => self.report.present += 1,
                })
            }
            Event::Abandoned { .. } => {
                self.passes_over = true;
                self.importer.abandon();
                self.report.abandoned += 1;
                Ok(())
            }
        };
        taken.or_else(|refusal| self.refuse(refusal))
    }

    /// Passes over a stream that is not imported. Only what concerns the others too ends the import.
    fn refuse(&mut self, refusal: ImportError) -> Result<(), IntakeError> {
        self.importer.abandon();
        self.passes_over = true;
        let stream = self.stream.clone().expect("only a stream is refused");
        if let ImportError::Engine(error) = refusal {
            return Err(IntakeError::Storage { stream, error });
        }
        if self.report.refused.len() < REFUSALS_MAX {
            self.report.refused.push(Refused {
                stream: stream.to_string(),
                reason: refusal.to_string(),
            });
        } else {
            self.report.more_refused += 1;
        }
        Ok(())
    }
}
