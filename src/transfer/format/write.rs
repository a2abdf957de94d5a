//! Writes an export line by line.

use std::borrow::Cow;

use serde::Serialize;
use tailwater_storage::engine::{ExportedAppend, ExportedStream};
use tailwater_storage::stream::Timestamp;

use super::lines::{AbandonedLine, Binary, CompleteLine, ControlLine, EndLine, HeadLine, Line};
use super::section::Tally;
use super::{FORMAT, append, stream};

/// Writes the lines of an export, in order; each comes with its line end.
///
/// Of each stream: [`stream`](Self::stream), its [`control`](Self::control) lines, its [`append`](Self::append)
/// lines in order, and [`end`](Self::end) or [`abandon`](Self::abandon). At last [`complete`](Self::complete).
/// A call out of this order panics: it is a bug.
#[derive(Debug)]
pub(crate) struct ExportWriter {
    section: Option<Tally>,
    streams: u64,
}

impl ExportWriter {
    /// Begins an export, which is written at `now`; gives its first line too.
    pub(crate) fn begin(now: Timestamp) -> (Self, Vec<u8>) {
        let head = HeadLine {
            tailwater_export: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            exported_at: now.as_millis(),
        };
        let writer = Self {
            section: None,
            streams: 0,
        };
        (writer, written(&head, 128))
    }

    /// A stream begins.
    pub(crate) fn stream(&mut self, exported: &ExportedStream) -> Vec<u8> {
        assert!(
            self.section.is_none(),
            "a stream begins before the last one ended"
        );
        let line = written(&Line::Stream(Box::new(stream::line(exported))), 1024);
        self.section.insert(Tally::default()).line(&line);
        line
    }

    /// A control key of the stream.
    pub(crate) fn control(&mut self, key: &[u8], value: &[u8]) -> Vec<u8> {
        let section = self.section();
        assert_eq!(section.appends(), 0, "a control key comes behind an append");
        let line = Line::Control(ControlLine {
            key: Binary(Cow::Borrowed(key)),
            value: Binary(Cow::Borrowed(value)),
        });
        let line = written(&line, (key.len() + value.len()) * 4 / 3 + 64);
        section.line(&line);
        line
    }

    /// The next append of the stream.
    pub(crate) fn append(&mut self, exported: &ExportedAppend) -> Vec<u8> {
        let line = append::line(exported);
        let bytes = append::line_bytes(&line);
        let line = written(&Line::Append(line), bytes);
        let section = self.section();
        section.line(&line);
        section.append(exported.payload.len());
        line
    }

    /// The stream ends: it is in the export with all that it has.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        let section = self.section.take().expect("a stream has begun");
        self.streams += 1;
        let line = EndLine {
            appends: section.appends(),
            bytes: section.bytes(),
            crc32: section.crc32().into(),
        };
        written(&Line::End(line), 128)
    }

    /// The stream is not in the export after all, and what was written of it counts for nothing.
    pub(crate) fn abandon(&mut self, reason: &str) -> Vec<u8> {
        assert!(self.section.take().is_some(), "no stream has begun");
        let reason = reason.into();
        written(&Line::Abandoned(AbandonedLine { reason }), 128)
    }

    /// The last line.
    pub(crate) fn complete(self) -> Vec<u8> {
        assert!(
            self.section.is_none(),
            "the export ends before the last stream did"
        );
        let streams = self.streams;
        written(&Line::Complete(CompleteLine { streams }), 64)
    }

    fn section(&mut self) -> &mut Tally {
        self.section.as_mut().expect("a stream has begun")
    }
}

/// A line with its end, for which `bytes` are set aside.
fn written(line: &impl Serialize, bytes: usize) -> Vec<u8> {
    let mut written = Vec::with_capacity(bytes);
    serde_json::to_writer(&mut written, line).expect("a line has only texts, numbers and lists");
    written.push(b'\n');
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> ExportWriter {
        ExportWriter::begin(Timestamp::from_millis(0)).0
    }

    #[test]
    #[should_panic(expected = "a stream has begun")]
    fn an_end_without_a_stream_is_a_bug() {
        begun().end();
    }

    #[test]
    #[should_panic(expected = "no stream has begun")]
    fn an_abandoned_stream_that_never_began_is_a_bug() {
        begun().abandon("x");
    }

    #[test]
    fn an_export_without_streams_is_whole() {
        let complete = begun().complete();
        assert_eq!(complete, b"{\"complete\":{\"streams\":0}}\n");
    }
}
