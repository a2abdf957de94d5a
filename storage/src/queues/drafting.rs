//! What was decided is drafted, under the locks of all streams that it concerns, as the record that makes it so.

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tailwater_stream::queue::{Change, RunAppend, RunEvent, RunStatus};
use tailwater_stream::{
    AppendDecision, AppendRefusal, ContentKind, Epoch, Position, ProducerMark, Seq, StreamKind, StreamName,
    Timestamp, kind,
};

use super::codec::{self, StoredDead, StoredEnd};
use super::error::QueueError;
use super::record::{self, Extra, QUEUE, RecordError, Streams, control_of, json, json_type};
use crate::engine::{Draft, Engine, Origin};

/// Somebody who died, as it is told in the stream of dead letters.
pub(super) struct NewLetter {
    pub(super) text: String,
    /// Whether it tells what was to be done.
    pub(super) has_payload: bool,
}

/// A record in the making.
pub(super) struct Drafting<'a, 'b> {
    pub(super) engine: &'a Engine,
    /// The queue's stream.
    pub(super) queue: &'a StreamName,
    pub(super) draft: &'a mut Draft<'b>,
    pub(super) streams: &'a Streams,
    pub(super) extra: &'a Extra,
    /// The oldest group of ended runs that may be there.
    pub(super) ended_from: u64,
}

impl Drafting<'_, '_> {
    /// Drafts all that was decided.
    pub(super) fn all(&mut self, changes: &[Change], letters: &[NewLetter]) -> Result<(), RecordError> {
        self.check_speaker()?;
        self.enqueue()?;
        let mut letters = self.bury(letters)?.into_iter();
        let mut controls: HashMap<Bytes, Option<Bytes>, RandomState> = HashMap::default();
        let mut statuses: HashMap<&StreamName, &RunStatus, RandomState> = HashMap::default();
        for change in changes {
            match change {
                Change::State(_) | Change::Job { .. } | Change::Buried { .. } => {
                    controls.extend(control_of(change));
                }
                Change::LeaseEnds { .. } => {}
                Change::Begin {
                    run,
                    event,
                    epoch,
                    status,
                    at,
                } => {
                    self.begin(run, event, *epoch, *at)?;
                    statuses.insert(run, status);
                }
                Change::Append(append) => {
                    self.append(append)?;
                    if let Some(status) = &append.status {
                        statuses.insert(&append.run, status);
                    }
                }
                Change::Dead(dead) => {
                    let letter = letters.next().flatten();
                    let stored = StoredDead {
                        run: dead.run.clone(),
                        reason: dead.reason,
                        attempt: dead.attempt,
                        at: dead.at,
                        letter,
                    };
                    controls.insert(codec::dead_key(dead.job), Some(codec::encode_dead(&stored)));
                }
                Change::Adopted { run, status } => {
                    if self.draft.state(self.streams.places[run]).is_none() {
                        return Err(adrift(run, status.job));
                    }
                    controls.insert(codec::retry_key(run), None);
                    statuses.insert(run, status);
                }
                Change::Ended { run, at } => {
                    let place = self.streams.places[run];
                    let state = self.draft.state(place).ok_or_else(|| adrift(run, None))?;
                    let end = StoredEnd {
                        at: *at,
                        began_at: state.created_at,
                    };
                    controls.insert(codec::ended_key(run, *at), Some(codec::encode_end(end)));
                    // The clock was set back.
                    if codec::group(*at) < self.ended_from {
                        self.ended_from = codec::group(*at);
                        let key = Bytes::from_static(codec::ENDED_FROM_KEY);
                        controls.insert(key, Some(codec::encode_number(self.ended_from)));
                    }
                }
            }
        }
        for (run, status) in statuses {
            let place = self.streams.places[run];
            let key = Bytes::from_static(codec::RUN_KEY);
            self.draft.control(place, key, Some(codec::encode_status(status)));
        }
        controls.extend(self.extra.controls.iter().cloned());
        for (key, value) in controls {
            self.draft.control(QUEUE, key, value);
        }
        for name in &self.extra.deletes {
            let place = self.streams.places[name];
            if self.draft.state(place).is_some() {
                self.draft.delete(place);
            }
        }
        if let Some(before) = self.extra.trim {
            self.draft.trim(QUEUE, before);
        }
        Ok(())
    }

    /// The number of a worker's word must be the next one, so that none of its events is missing.
    fn check_speaker(&mut self) -> Result<(), RecordError> {
        let Some((run, (epoch, received))) = &self.extra.speaks else {
            return Ok(());
        };
        let place = self.streams.places[run];
        let state = self.draft.state(place).ok_or_else(|| adrift(run, None))?;
        let known = state.producers.get(&kind::lease_producer());
        let expected = match known {
            Some(known) if known.epoch.get() == *epoch && !state.closed => known.seq.get() + 1,
            // They have moved together ever since, unless an import has parted them.
            _ => return Err(adrift(run, None)),
        };
        if expected == *received {
            Ok(())
        } else {
            let received = *received;
            Err(QueueError::Seq { expected, received }.into())
        }
    }

    fn enqueue(&mut self) -> Result<(), RecordError> {
        let Some(message) = &self.extra.message else {
            return Ok(());
        };
        let state = self.draft.state(QUEUE).ok_or(RecordError::Stale)?;
        if state.closed {
            return Err(QueueError::Closed.into());
        }
        // Somebody else's message has come in between.
        if state.tail != message.at {
            return Err(RecordError::NameTaken);
        }
        let appended = self.draft.append(QUEUE, message.body.clone(), None, false);
        appended.map_err(QueueError::Append)?;
        Ok(())
    }

    fn begin(
        &mut self,
        run: &StreamName,
        event: &RunEvent,
        epoch: u64,
        at: Timestamp,
    ) -> Result<(), RecordError> {
        let place = self.streams.places[run];
        let created = match self.extra.origins.get(run) {
            Some(origin) => self.draft.create(place, StreamKind::Run, origin),
            None => self
                .draft
                .create(place, StreamKind::Run, &Origin::new(json_type())),
        };
        created.map_err(|_taken| RecordError::NameTaken)?;
        match self
            .append_event(place, event, Some((epoch, 0)), at)
            .map_err(QueueError::Append)?
        {
            AppendDecision::Accept(_) => Ok(()),
            // A stream that has just begun has no producers.
            AppendDecision::Duplicate(_) | AppendDecision::AlreadyClosed => Err(RecordError::Stale),
        }
    }

    fn append(&mut self, append: &RunAppend) -> Result<(), RecordError> {
        let place = self.streams.places[&append.run];
        let is_adrift = || record::adrift(append);
        // A run of another queue, which may have the name, is none of this one's.
        let is_own = self
            .draft
            .state(place)
            .is_some_and(|state| state.kind == StreamKind::Run && state.beside.as_ref() == Some(self.queue));
        if !is_own {
            return Err(is_adrift());
        }
        match self.append_event(place, &append.event, append.producer, append.at) {
            Ok(AppendDecision::Accept(_)) => Ok(()),
            // The run has gone on without the queue, or the queue without it.
            Ok(_) | Err(AppendRefusal::Closed { .. } | AppendRefusal::Producer(_)) => Err(is_adrift()),
            Err(refusal) => Err(QueueError::Append(refusal).into()),
        }
    }

    fn append_event(
        &mut self,
        place: usize,
        event: &RunEvent,
        producer: Option<(u64, u64)>,
        at: Timestamp,
    ) -> Result<AppendDecision, AppendRefusal> {
        let body = json(event.document(at));
        self.draft
            .append_whatever_its_size(place, body, producer.map(lease_mark), event.ends_run())
    }

    /// Adds letters to the stream of dead letters, if it takes them in. Answers where each of them begins that tells what was
    /// to be done.
    fn bury(&mut self, letters: &[NewLetter]) -> Result<Vec<Option<Position>>, RecordError> {
        let Some(place) = self.streams.dead else {
            return Ok(Vec::new());
        };
        if self.draft.state(place).is_none() {
            // If forks hold its name there is none, and the queue does without.
            let _ = self
                .draft
                .create(place, StreamKind::Plain, &Origin::new(json_type()));
        }
        let Some(tail) = self.tail_of_letters(place) else {
            // Whoever closed the stream, or put another one in its place, does without them. The queue still has their keys.
            return Ok(Vec::new());
        };
        if self.extra.trims_dead {
            self.draft.trim(place, tail);
        }
        if letters.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<_> = letters.iter().map(|letter| letter.text.as_str()).collect();
        let body = json(format!("[{}]", texts.join(",")));
        let appended = self.draft.append_whatever_its_size(place, body, None, false);
        let AppendDecision::Accept(append) = appended.map_err(QueueError::Append)? else {
            return Ok(Vec::new());
        };
        let mut begins = Vec::with_capacity(letters.len());
        let mut position = append.start;
        let ends = append.ends.relative(append.payload.len());
        for (end, letter) in ends.zip(letters) {
            begins.push(letter.has_payload.then_some(position));
            position = append.start.advance(u64::from(end)).unwrap_or(Position::LAST);
        }
        Ok(begins)
    }

    /// The tail of the stream of dead letters; none if it takes none in.
    fn tail_of_letters(&mut self, place: usize) -> Option<Position> {
        let id = self.draft.state(QUEUE)?.id;
        let letters = self.draft.state(place)?;
        let takes_them = letters.content_type.kind() == ContentKind::Json
            && letters.kind == StreamKind::Plain
            && !letters.closed
            && self.engine.are_together(id, letters.id);
        takes_them.then_some(letters.tail)
    }
}

fn adrift(run: &StreamName, job: Option<Position>) -> RecordError {
    RecordError::Adrift {
        run: run.clone(),
        job,
    }
}

fn lease_mark((epoch, seq): (u64, u64)) -> ProducerMark {
    ProducerMark {
        id: kind::lease_producer(),
        epoch: Epoch::new(epoch).expect("fewer leases than JavaScript counts"),
        seq: Seq::new(seq).expect("checked against the last one"),
    }
}
