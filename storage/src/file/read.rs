//! Reads bytes of one stream from the maps of journals and segments, without a copy where they are long.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tailwater_stream::{AppendExtent, Position, StreamId};

use super::journal::{self, AppendMeta};
use super::overlay::{JournalExtent, Overlay};
use super::run_cache::Runs;
use super::segment::{Run, Segment};
use super::store::{Sight, Store};
use crate::backend::{BackendError, ReadError, ReadRequest, Slices};
use crate::disk::Map;

/// Neighbouring slices shorter than this are gathered into one buffer: a slice costs more than copying it.
const GATHER_BYTES: u64 = 4096;
/// Pieces that are this near to each other are fetched together.
const FETCH_GAP_BYTES: u64 = 64 << 10;
/// How often places may turn out to have moved before that is called damage.
const ATTEMPTS: usize = 100;
/// How long a read waits after that, so that whoever moves them gets on.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(1);

/// Where the bytes of a stream stand, from some position on: runs first, then appends of the journals.
#[derive(Default)]
struct Places {
    runs: SmallVec<[(Arc<Segment>, Run); 2]>,
    extents: Vec<JournalExtent>,
    journals: SmallVec<[(u64, Arc<dyn Map>); 4]>,
}

/// Where slices of an answer stand.
struct Piece {
    map: Arc<dyn Map>,
    range: Range<u64>,
}

impl Places {
    fn journal(&self, number: u64) -> &Arc<dyn Map> {
        let found = self.journals.iter().find(|(journal, _)| *journal == number);
        &found.expect("the maps of all extents are there").1
    }

    fn meta(&self, extent: &JournalExtent) -> Result<AppendMeta, BackendError> {
        let mut meta = None;
        self.journal(extent.journal).look(extent.meta(), &mut |entry| {
            meta = Some(journal::append_meta(entry));
        });
        meta.expect("looked at").map_err(|error| BackendError::Damaged {
            what: format!(
                "journal {} at byte {}: {error}; run `tailwater verify`",
                extent.journal, extent.meta_at
            ),
        })
    }

    fn entry(&self, extent: &JournalExtent) -> Piece {
        Piece {
            map: Arc::clone(self.journal(extent.journal)),
            range: extent.meta(),
        }
    }
}

fn position(number: u64) -> Position {
    Position::new(number).expect("positions come from appends")
}

fn unreadable(source: std::io::Error) -> ReadError {
    ReadError::Backend(BackendError::Io {
        what: "reading stored bytes".into(),
        source: Arc::new(source),
    })
}

impl Store {
    pub(super) fn read(&self, request: ReadRequest) -> Result<Slices, ReadError> {
        if request.from >= request.until {
            return Ok(Slices::none(request.from));
        }
        let wanted = request.from.get().saturating_add(request.bytes_max.max(1));
        let places = self.places(&request, wanted)?;
        let (pieces, end) = pieces_of(&places, &request, wanted)?;
        fetch(&pieces, request.may_wait)?;
        Ok(Slices {
            pieces: gather(pieces),
            end: position(end),
        })
    }

    pub(super) fn extents(&self, request: ReadRequest) -> Result<Vec<AppendExtent>, ReadError> {
        let (from, until) = (request.from, request.until);
        if from >= until {
            return Ok(Vec::new());
        }
        let begins_before = from
            .get()
            .saturating_add(request.bytes_max.max(1))
            .min(until.get());
        let places = self.places(&request, begins_before)?;
        let mut extents = Vec::new();
        let mut next = from;
        for (segment, run) in &places.runs {
            if next.get() >= begins_before {
                break;
            }
            fetch_index(segment, run, next, position(begins_before), request.may_wait)?;
            extents.extend(segment.extents(run, next, until, position(begins_before))?);
            next = run.until;
        }
        let wanted = places
            .extents
            .partition_point(|extent| extent.from < begins_before);
        let wanted = &places.extents[..wanted];
        let entries: Vec<_> = wanted.iter().map(|extent| places.entry(extent)).collect();
        fetch(&entries, request.may_wait)?;
        for extent in wanted {
            let meta = places.meta(extent)?;
            extents.push(AppendExtent {
                start: position(extent.from),
                end: position(extent.until().min(until.get())),
                at: meta.at,
                first_message: meta.first_message,
                ends: meta.ends,
            });
        }
        Ok(extents)
    }

    /// Where the bytes from `request.from` up to `until` stand, at least those of the first append.
    fn places(&self, request: &ReadRequest, until: u64) -> Result<Places, ReadError> {
        for _ in 0..ATTEMPTS {
            if let Some(places) = self.look_for(request, until)? {
                return Ok(places);
            }
            if !request.may_wait {
                return Err(ReadError::Cold);
            }
            std::thread::sleep(ATTEMPT_PAUSE);
        }
        let what = format!(
            "files that the catalog names for stream {} are not there; run `tailwater verify`",
            request.stream
        );
        Err(BackendError::Damaged { what }.into())
    }

    /// None if what the catalog said has changed meanwhile.
    fn look_for(&self, request: &ReadRequest, until: u64) -> Result<Option<Places>, ReadError> {
        let (id, from) = (request.stream, request.from.get());
        let generations = self.generations.read();
        let active = Arc::clone(&generations.active);
        let frozen = generations
            .frozen
            .as_ref()
            .map(|frozen| Arc::clone(&frozen.overlay));
        let mut places = Places::default();
        let overlays = frozen.iter().chain([&active]);
        for overlay in overlays {
            collect_extents(overlay, id, from, until, &mut places.extents)?;
        }
        let journals_begin = places.extents.first().map_or(u64::MAX, |extent| extent.from);
        if from < journals_begin {
            let runs = if let Some(runs) = self.runs.get(id) {
                drop(generations);
                runs
            } else {
                if !request.may_wait {
                    return Err(ReadError::Cold);
                }
                let sight = Sight {
                    active,
                    frozen: generations.frozen.clone(),
                    catalog: self.catalog.view()?,
                    version: generations.version,
                };
                drop(generations);
                self.look_up_runs(id, &sight)?
            };
            if !self.collect_runs(&runs, from, until.min(journals_begin), &mut places) {
                return Ok(None);
            }
            // A generation that has just been folded stands in both.
            let runs_end = places.runs.last().map_or(from, |(_, run)| run.until.get());
            places.extents.retain(|extent| extent.from >= runs_end);
            let begins = places.runs.first().map(|(_, run)| run.from.get());
            if begins.is_none_or(|begin| begin > from) {
                return Err(ReadError::Gone);
            }
        } else {
            drop(generations);
        }
        Ok(self.collect_maps(&mut places).then_some(places))
    }

    fn look_up_runs(&self, id: StreamId, sight: &Sight) -> Result<Runs, BackendError> {
        let runs: Runs = sight.catalog.runs(id)?.into();
        let generations = self.generations.read();
        if generations.version == sight.version {
            self.runs.put(id, Arc::clone(&runs));
        }
        Ok(runs)
    }

    /// Answers whether all their segments are there.
    fn collect_runs(&self, runs: &Runs, from: u64, until: u64, places: &mut Places) -> bool {
        let files = self.files.read();
        let first = runs.partition_point(|(_, run)| run.until.get() <= from);
        for (number, run) in &runs[first..] {
            if run.from.get() >= until {
                break;
            }
            let Some(segment) = files.segments.get(number) else {
                return false;
            };
            places.runs.push((Arc::clone(segment), *run));
        }
        true
    }

    fn collect_maps(&self, places: &mut Places) -> bool {
        let files = self.files.read();
        for extent in &places.extents {
            let known = places
                .journals
                .iter()
                .any(|(number, _)| *number == extent.journal);
            if !known {
                let Some(map) = files.journals.get(&extent.journal) else {
                    return false;
                };
                places.journals.push((extent.journal, Arc::clone(map)));
            }
        }
        true
    }
}

/// Adds the appends of a generation that have bytes between `from` and `until`; the one at `from` in any case.
fn collect_extents(
    overlay: &Overlay,
    id: StreamId,
    from: u64,
    until: u64,
    extents: &mut Vec<JournalExtent>,
) -> Result<(), ReadError> {
    overlay
        .with(id, |delta| {
            let is_gone = delta.released || delta.stored_from.is_some_and(|stored| from < stored.get());
            if is_gone {
                return Err(ReadError::Gone);
            }
            let first = delta.extents.partition_point(|extent| extent.until() <= from);
            let wanted = delta.extents[first..]
                .iter()
                .take_while(|extent| extent.from < until);
            extents.extend(wanted);
            Ok(())
        })
        .unwrap_or(Ok(()))
}

/// The pieces from `request.from` to the end of the last message that ends at or before `wanted`, or else to the
/// end of the first message; in any case at most to `request.until`.
fn pieces_of(
    places: &Places,
    request: &ReadRequest,
    wanted: u64,
) -> Result<(SmallVec<[Piece; 2]>, u64), ReadError> {
    let until = request.until.get();
    let mut pieces = SmallVec::new();
    let mut at = request.from.get();
    for (segment, run) in &places.runs {
        check_follows(request.stream, at, run.from.get())?;
        let whole = run.until.get().min(until);
        let limit = wanted.min(whole);
        let end = if limit == whole {
            whole
        } else {
            fetch_index(segment, run, position(at), position(limit), request.may_wait)?;
            match segment.last_message_end(run, position(at), position(limit))? {
                Some(end) => end.get(),
                None if pieces.is_empty() => segment.first_message_end(run, position(at))?.get().min(until),
                None => return Ok((pieces, at)),
            }
        };
        pieces.push(Piece {
            map: Arc::clone(segment.map()),
            range: segment.payload(run, position(at), position(end))?,
        });
        at = end;
        if end < whole || end >= wanted || end == until {
            return Ok((pieces, at));
        }
    }
    for extent in &places.extents {
        check_follows(request.stream, at, extent.from)?;
        let whole = extent.until().min(until);
        let end = if whole <= wanted {
            whole
        } else {
            fetch(&[places.entry(extent)], request.may_wait)?;
            match message_end(&places.meta(extent)?, at, wanted, pieces.is_empty()) {
                Some(end) => end.min(until),
                None => break,
            }
        };
        push(
            &mut pieces,
            places.journal(extent.journal),
            extent.payload(at, end),
        );
        at = end;
        if end < whole || end >= wanted || end == until {
            break;
        }
    }
    Ok((pieces, at))
}

/// The end of the last message of an append that ends in (`at`, `wanted`]; if there is none and the first
/// message `must` be given, its end.
fn message_end(append: &AppendMeta, at: u64, wanted: u64, must: bool) -> Option<u64> {
    let start = append.start.get();
    let ends = append.ends.relative(append.payload_len as usize);
    let mut ends = ends.map(|end| start + u64::from(end)).filter(|end| *end > at);
    let first = ends.next()?;
    if first > wanted {
        return must.then_some(first);
    }
    Some(ends.take_while(|end| *end <= wanted).last().unwrap_or(first))
}

/// Adds a piece; appends of one batch stand side by side and become one.
fn push(pieces: &mut SmallVec<[Piece; 2]>, map: &Arc<dyn Map>, range: Range<u64>) {
    if let Some(last) = pieces.last_mut()
        && last.range.end == range.start
        && Arc::ptr_eq(&last.map, map)
    {
        last.range.end = range.end;
        return;
    }
    pieces.push(Piece {
        map: Arc::clone(map),
        range,
    });
}

/// Nothing is ever given in place of bytes that are missing.
fn check_follows(stream: StreamId, at: u64, from: u64) -> Result<(), BackendError> {
    if from <= at {
        return Ok(());
    }
    let what = format!("stream {stream} lacks the bytes from {at} to {from}; run `tailwater verify`");
    Err(BackendError::Damaged { what })
}

/// Makes sure that pieces can be read without waiting for a disk.
fn fetch(pieces: &[Piece], may_wait: bool) -> Result<(), ReadError> {
    let mut rest = pieces;
    while let Some((first, _)) = rest.split_first() {
        // Asking the system costs more than a few pages more.
        let mut end = first.range.end;
        let together = rest.iter().take_while(|piece| {
            let near = Arc::ptr_eq(&piece.map, &first.map)
                && (end..=end + FETCH_GAP_BYTES).contains(&piece.range.start);
            let taken = near || std::ptr::eq(*piece, first);
            if taken {
                end = end.max(piece.range.end);
            }
            taken
        });
        rest = &rest[together.count()..];
        let range = first.range.start..end;
        if first.map.is_resident(range.clone()) {
            continue;
        }
        if !may_wait {
            return Err(ReadError::Cold);
        }
        first.map.populate(range).map_err(unreadable)?;
    }
    Ok(())
}

/// Makes sure that the index of a run between two positions can be looked at without waiting for a disk.
fn fetch_index(
    segment: &Segment,
    run: &Run,
    from: Position,
    until: Position,
    may_wait: bool,
) -> Result<(), ReadError> {
    let piece = |range| Piece {
        map: Arc::clone(segment.map()),
        range,
    };
    if let Some(table) = segment.table_range(run)? {
        fetch(&[piece(table)], may_wait)?;
    }
    fetch(&[piece(segment.index_range(run, from, until)?)], may_wait)
}

fn gather(pieces: SmallVec<[Piece; 2]>) -> SmallVec<[Bytes; 2]> {
    let bytes_of = |piece: &Piece| piece.range.end - piece.range.start;
    if pieces.iter().all(|piece| bytes_of(piece) >= GATHER_BYTES) || pieces.len() == 1 {
        return pieces
            .into_iter()
            .map(|piece| piece.map.bytes(piece.range))
            .collect();
    }
    let mut gathered = SmallVec::new();
    let mut buffer = BytesMut::new();
    for piece in pieces {
        if bytes_of(&piece) < GATHER_BYTES {
            piece
                .map
                .look(piece.range.clone(), &mut |bytes| buffer.extend_from_slice(bytes));
            continue;
        }
        if !buffer.is_empty() {
            gathered.push(buffer.split().freeze());
        }
        gathered.push(piece.map.bytes(piece.range));
    }
    if !buffer.is_empty() {
        gathered.push(buffer.freeze());
    }
    gathered
}
