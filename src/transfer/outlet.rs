//! The streams of an engine as the lines of an export.

use bytes::Bytes;
use tailwater_storage::Engine;
use tailwater_storage::engine::{EngineError, Export, Exporter, ReadFailure};

use super::format::ExportWriter;

/// A piece is handed on once it has so many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// An export that is being made, piece by piece.
pub(crate) struct Outlet {
    exporter: Exporter,
    /// None once the last line is written.
    writer: Option<ExportWriter>,
    /// The stream whose turn it is.
    export: Option<Export>,
    piece: Vec<u8>,
}

impl Outlet {
    /// An export of the streams whose names begin with `prefix`.
    pub(crate) fn new(engine: &Engine, prefix: &str) -> Self {
        let (writer, head) = ExportWriter::begin(engine.now());
        Self {
            exporter: engine.export(prefix),
            writer: Some(writer),
            export: None,
            piece: head,
        }
    }

    /// The next piece; none after the last one.
    ///
    /// # Errors
    /// If the storage cannot be read. The export is not complete then, and says so by its missing end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        while self.piece.len() < PIECE_BYTES && self.writer.is_some() {
            self.step().await?;
        }
        let piece = std::mem::take(&mut self.piece);
        Ok((!piece.is_empty()).then(|| piece.into()))
    }

    /// Writes the next line or lines.
    async fn step(&mut self) -> Result<(), EngineError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let Some(export) = &mut self.export else {
            match self.exporter.next().await? {
                Some(export) => {
                    self.piece.extend(writer.stream(export.stream()));
                    for (key, value) in export.controls() {
                        self.piece.extend(writer.control(key, value));
                    }
                    self.export = Some(export);
                }
                None => self
                    .piece
                    .extend(self.writer.take().map_or_else(Vec::new, ExportWriter::complete)),
            }
            return Ok(());
        };
        let lines = match export.next().await {
            Ok(Some(append)) => writer.append(&append),
            Ok(None) => {
                self.export = None;
                writer.end()
            }
            Err(ReadFailure::Engine(error)) => return Err(error),
            Err(gone @ (ReadFailure::Gone | ReadFailure::Trimmed { .. })) => {
                self.export = None;
                writer.abandon(&gone.to_string())
            }
        };
        self.piece.extend(lines);
        Ok(())
    }
}
