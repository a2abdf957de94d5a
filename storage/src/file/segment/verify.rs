//! Checks all of a segment: that it is what was written, and that its parts agree with each other.

use super::format::{self, BLOCK_ROW_BYTES, FOOTER_ENTRY_BYTES, HEADER_BYTES, Trailer};
use super::{Run, Segment, refused};
use crate::backend::BackendError;
use crate::codec::Decoder;

/// What a whole segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::file) struct SegmentReport {
    /// Runs.
    pub(in crate::file) runs: u64,
    /// Appends of all runs.
    pub(in crate::file) appends: u64,
    /// Messages of all appends.
    pub(in crate::file) messages: u64,
    /// Bytes of all payloads.
    pub(in crate::file) payload_bytes: u64,
    /// Length of the file.
    pub(in crate::file) bytes: u64,
}

impl Segment {
    /// The runs, in order of stream and position, as the footer lists them.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if the footer is; [`BackendError::Io`] if the disk cannot read it.
    pub(in crate::file) fn runs(&self) -> Result<Vec<Run>, BackendError> {
        let footer_at = self.trailer.footer_at;
        let footer = footer_at..footer_at + self.trailer.runs * FOOTER_ENTRY_BYTES;
        self.fetch(footer.clone())?;
        let runs = self.look(footer, |footer| {
            if crc32fast::hash(footer) != self.trailer.footer_crc {
                return Err(self.damaged(footer_at, "the footer is not what was written"));
            }
            let (entries, _) = footer.as_chunks::<{ FOOTER_ENTRY_BYTES as usize }>();
            let runs = entries.iter().map(|entry| Run::read(&mut Decoder::new(entry)));
            let runs: Result<Vec<_>, _> = runs.collect();
            runs.map_err(|malformed| self.damaged(footer_at, malformed))
        })?;
        let in_order = |pair: &[Run]| {
            let [one, next] = pair else { return true };
            one.stream < next.stream || (one.stream == next.stream && one.until <= next.from)
        };
        if let Some(pair) = runs.windows(2).find(|pair| !in_order(pair)) {
            return Err(self.run_damaged(&pair[1], footer_at, "it is not in order"));
        }
        match runs.iter().find(|run| !run.fits(footer_at)) {
            Some(run) => Err(self.run_damaged(run, footer_at, "it does not lie within the file")),
            None => Ok(runs),
        }
    }

    /// Reads all of the file and checks every byte of it.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] names the first damage; [`BackendError::Io`] if the disk cannot read the file.
    #[cfg(test)]
    pub(in crate::file) fn verify(&self) -> Result<SegmentReport, BackendError> {
        let mut first = None;
        let report = self.survey(&mut |error| {
            first.get_or_insert(error);
        });
        first.map_or(Ok(report), Err)
    }

    /// Likewise, and goes on with the next run behind what is damaged. Only what was right is counted.
    pub(in crate::file) fn survey(&self, damaged: &mut dyn FnMut(BackendError)) -> SegmentReport {
        let mut report = SegmentReport {
            bytes: self.map.len(),
            ..SegmentReport::default()
        };
        let mut runs = match self.check_ends().and_then(|()| self.runs()) {
            Ok(runs) => runs,
            Err(error) => {
                damaged(error);
                return report;
            }
        };
        runs.sort_unstable_by_key(|run| run.payload_at);
        report.runs = runs.len() as u64;
        let mut end = HEADER_BYTES;
        let mut is_whole = true;
        for run in &runs {
            let follows = if run.payload_at == end {
                Ok(())
            } else {
                Err(self.run_damaged(run, end, "it does not follow what stands before it"))
            };
            if let Err(error) = follows.and_then(|()| self.verify_run(run, &mut report)) {
                is_whole = false;
                damaged(error);
            }
            end = run.table().end;
        }
        if end != self.trailer.footer_at {
            damaged(self.damaged(end, "there are bytes that belong to no run"));
        }
        if is_whole && report.payload_bytes != self.trailer.payload_bytes {
            let reason = format_args!(
                "there are {} bytes of payload, and the trailer says {}",
                report.payload_bytes, self.trailer.payload_bytes
            );
            damaged(self.damaged(self.map.len(), reason));
        }
        report
    }

    /// Checks header and trailer as they are now, for the file may have been open for long.
    fn check_ends(&self) -> Result<(), BackendError> {
        let trailer_at = self.map.len() - format::TRAILER_BYTES;
        self.fetch(0..HEADER_BYTES)?;
        self.fetch(trailer_at..self.map.len())?;
        let header = self.look(0..HEADER_BYTES, |header| {
            let header = header.try_into().expect("as long as asked for");
            format::check_header(header, self.number, self.store)
        });
        header.map_err(|refusal| refused(&self.path, 0, refusal))?;
        let trailer = self.look(trailer_at..self.map.len(), |trailer| {
            let trailer = trailer.try_into().expect("as long as asked for");
            Trailer::read(trailer, trailer_at, self.number)
        });
        trailer
            .map(drop)
            .map_err(|refusal| refused(&self.path, trailer_at, refusal))
    }

    fn verify_run(&self, run: &Run, report: &mut SegmentReport) -> Result<(), BackendError> {
        self.check_table(run)?;
        let mut index_end = run.index().start;
        for number in 0..run.blocks {
            let index = self.index_of(run, number)?;
            if index.start != index_end {
                let row_at = run.table_at + u64::from(number) * BLOCK_ROW_BYTES;
                return Err(self.run_damaged(
                    run,
                    row_at,
                    "the index of a block does not follow the last one",
                ));
            }
            index_end = index.end;
        }
        if index_end != run.table_at {
            return Err(self.run_damaged(run, index_end, "there are bytes that belong to no block"));
        }
        let (mut next, mut next_message) = (run.from, None);
        self.copy_run(run, run.from, &mut |start, head, payload| {
            let follows = start == next && next_message.is_none_or(|next| next == head.first_message);
            if !follows {
                let reason = format_args!("the append at position {start} does not follow the last one");
                return Err(self.run_damaged(run, run.table_at, reason));
            }
            let bytes = payload.len() as u64;
            let messages = head.ends.count(payload.len());
            next = start.advance(bytes).expect("within the run");
            next_message = Some(head.first_message + messages);
            report.appends += 1;
            report.messages += messages;
            report.payload_bytes += bytes;
            Ok(())
        })
    }
}
