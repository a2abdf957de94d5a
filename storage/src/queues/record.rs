//! Changes become a record over the streams that they concern: the queue's own, its runs, its dead letters.

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tailwater_stream::queue::event::job_text;
use tailwater_stream::queue::{Change, DeadLetter, JsonText, RunAppend};
use tailwater_stream::{ContentKind, ContentType, EncodedBody, Position, StreamId, StreamName, rfc3339};

use super::Queues;
use super::codec;
use super::drafting::{Drafting, NewLetter};
use super::error::QueueError;
use super::opened::Turn;
use crate::backend::BackendError;
use crate::engine::{Draft, EngineError, Footing, Held, Origin, Settled, Settling};

/// The place of the queue's stream among those of a record.
pub(super) const QUEUE: usize = 0;

/// Why a record is not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// A stream has the name of a run that was to begin.
    #[error("a stream has the name of a run")]
    NameTaken,
    /// A run is not as the queue has it.
    #[error("the run `{run}` is not as its queue has it")]
    Adrift {
        /// The run.
        run: StreamName,
        /// Its job, as far as that is known.
        job: Option<Position>,
    },
    /// What is remembered of the queue was taken back.
    #[error("what the queue remembers was taken back")]
    Stale,
    /// Whoever asked is refused.
    #[error(transparent)]
    Refused(#[from] QueueError),
}

impl From<EngineError> for RecordError {
    fn from(error: EngineError) -> Self {
        Self::Refused(error.into())
    }
}

/// What is appended to the queue's stream in the same record.
pub(super) struct Message {
    pub(super) body: EncodedBody,
    /// Where it is to begin.
    pub(super) at: Position,
}

/// What a record is made of beside changes.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) message: Option<Message>,
    /// What jobs that die without ever having had a run hold.
    pub(super) payloads: HashMap<Position, JsonText, RandomState>,
    /// The worker's lease that speaks, by its run: its number must be the next one.
    pub(super) speaks: Option<(StreamName, (u64, u64))>,
    /// What runs are forks of.
    pub(super) origins: HashMap<StreamName, Origin, RandomState>,
    /// Other control keys of the queue's stream.
    pub(super) controls: Vec<(Bytes, Option<Bytes>)>,
    /// Streams that are deleted.
    pub(super) deletes: Vec<StreamName>,
    /// Up to where the queue's stream is trimmed.
    pub(super) trim: Option<Position>,
    /// Up to its tail, the dead letters are trimmed.
    pub(super) trims_dead: bool,
}

/// The streams of a record.
pub(super) struct Streams {
    pub(super) held: Vec<Held>,
    pub(super) places: HashMap<StreamName, usize, RandomState>,
    /// The place of the dead letters.
    pub(super) dead: Option<usize>,
}

impl Queues {
    /// Queues a record of what was decided. The queue takes it over unless it has it `already`.
    pub(super) async fn record(
        &self,
        turn: &mut Turn,
        changes: &[Change],
        extra: Extra,
        already: bool,
    ) -> Result<Settling, RecordError> {
        let recorded = self.try_record(turn, changes, extra).await;
        if let Err(RecordError::Adrift { run, job }) = &recorded {
            turn.adrift.insert(run.clone(), *job);
        }
        match &recorded {
            Ok(_) if already => turn.note_all(changes),
            Ok(_) => turn.apply(changes),
            // The queue remembers what is not there.
            Err(_) if already => turn.is_stale = true,
            Err(RecordError::Stale) => turn.is_stale = true,
            Err(_) => {}
        }
        recorded
    }

    async fn try_record(
        &self,
        turn: &Turn,
        changes: &[Change],
        extra: Extra,
    ) -> Result<Settling, RecordError> {
        let letters = self.letters(&turn.queue.stream, changes, &extra).await?;
        let streams = match self.hold_streams(turn, changes, &extra, true).await {
            Err(error) if QueueError::from(error.clone()).is_damage() => {
                self.find_damaged_run(changes).await?;
                tracing::error!(queue = %turn.queue.stream, %error, "the queue does without its stream of dead letters");
                self.hold_streams(turn, changes, &extra, false).await?
            }
            streams => streams?,
        };
        let footing = turn.footing;
        let drafted = self.shared.engine.together(&streams.held, |draft| {
            check_ground(draft, turn.id, footing)?;
            let mut drafting = Drafting {
                engine: &self.shared.engine,
                queue: &turn.queue.stream,
                draft,
                streams: &streams,
                extra: &extra,
                ended_from: turn.ended_from.0,
            };
            drafting.all(changes, &letters)
        });
        let ((), settling) = drafted?;
        match settling.known() {
            Some(Settled::Full) => Err(EngineError::Full.into()),
            Some(Settled::Failed) => Err(QueueError::from(BackendError::Poisoned).into()),
            _ => Ok(settling),
        }
    }

    /// Looks for the run of a change that cannot be read, so that no other job has to wait for it.
    async fn find_damaged_run(&self, changes: &[Change]) -> Result<(), RecordError> {
        for change in changes {
            let (run, why) = match change {
                // Whoever looks what has the name finds out.
                Change::Begin { run, .. } => (run, RecordError::NameTaken),
                Change::Append(append) => (&append.run, adrift(append)),
                _ => continue,
            };
            let held = self.shared.engine.hold(std::slice::from_ref(run)).await;
            match held.map_err(QueueError::from) {
                Err(error) if error.is_damage() => return Err(why),
                held => drop(held?),
            }
        }
        Ok(())
    }

    /// Those who died, as they are told of in the stream of dead letters.
    async fn letters(
        &self,
        queue: &StreamName,
        changes: &[Change],
        extra: &Extra,
    ) -> Result<Vec<NewLetter>, QueueError> {
        let mut letters = Vec::new();
        for change in changes {
            let Change::Dead(dead) = change else { continue };
            let payload = match (&dead.run, extra.payloads.get(&dead.job)) {
                (_, Some(payload)) => Some(payload.clone()),
                (Some(run), None) => self.readable_payload_of(run).await?,
                (None, None) => None,
            };
            letters.push(NewLetter {
                text: letter(queue, dead, payload.as_ref()),
                has_payload: payload.is_some(),
            });
        }
        Ok(letters)
    }

    /// Holds all streams that are concerned, that of the dead letters only `with_dead`. Those that begin are to stand beside
    /// the queue's.
    async fn hold_streams(
        &self,
        turn: &Turn,
        changes: &[Change],
        extra: &Extra,
        with_dead: bool,
    ) -> Result<Streams, EngineError> {
        let mut names: Vec<StreamName> = Vec::new();
        let mut places = HashMap::default();
        let mut begins = false;
        let mut dies = extra.trims_dead;
        let mut concern = |name: &StreamName| {
            if !places.contains_key(name) {
                names.push(name.clone());
                // The queue's own stream stands before them.
                places.insert(name.clone(), names.len());
            }
        };
        for change in changes {
            match change {
                Change::Begin { run, .. } => {
                    begins = true;
                    concern(run);
                }
                Change::Append(RunAppend { run, .. }) | Change::Adopted { run, .. } => concern(run),
                Change::Dead(_) => dies = true,
                Change::State(_)
                | Change::Job { .. }
                | Change::LeaseEnds { .. }
                | Change::Buried { .. }
                | Change::Ended { .. } => {}
            }
        }
        extra.deletes.iter().for_each(&mut concern);
        let dead_letter = &turn.queue.config().dead_letter;
        dies &= with_dead;
        if dies {
            concern(dead_letter);
        }
        let dead = dies.then(|| places[dead_letter]);
        let engine = &self.shared.engine;
        let others = if begins || dies {
            engine.hold_beside(&names, &turn.queue.stream, turn.id).await?
        } else {
            engine.hold(&names).await?
        };
        let mut held = Vec::with_capacity(others.len() + 1);
        held.push(turn.stream.clone());
        held.extend(others);
        Ok(Streams { held, places, dead })
    }

    /// What the workers of a run are given: it stands in the first event of the run. None if that was trimmed, or is none.
    pub(super) async fn payload_of(&self, run: &StreamName) -> Result<Option<JsonText>, QueueError> {
        let reader = match self.shared.engine.look(run).await {
            Ok(reader) => reader,
            Err(error) => match QueueError::from(error) {
                QueueError::NotFound => return Ok(None),
                error => return Err(error),
            },
        };
        let view = reader.incarnation().view();
        if view.oldest > Position::ZERO {
            return Ok(None);
        }
        let records = match reader.records(Position::ZERO, &view, 1).await {
            Ok(records) => records,
            Err(failure) => match QueueError::from(failure) {
                QueueError::RunNotFound => return Ok(None),
                error => return Err(error),
            },
        };
        Ok(records.first().and_then(|first| queued_payload(&first.data)))
    }

    /// Likewise, and none if it cannot be read because it is damaged.
    pub(super) async fn readable_payload_of(&self, run: &StreamName) -> Result<Option<JsonText>, QueueError> {
        match self.payload_of(run).await {
            Err(error) if error.is_damage() => {
                tracing::error!(%run, %error, "what the workers of a run are given cannot be read");
                Ok(None)
            }
            payload => payload,
        }
    }
}

/// The run of an event that cannot be added.
pub(super) fn adrift(append: &RunAppend) -> RecordError {
    RecordError::Adrift {
        run: append.run.clone(),
        job: append.status.as_ref().and_then(|status| status.job),
    }
}

/// The payload of the event `run.queued`, as it is stored.
pub(super) fn queued_payload(message: &[u8]) -> Option<JsonText> {
    #[derive(serde::Deserialize)]
    struct Queued<'a> {
        #[serde(borrow)]
        payload: &'a serde_json::value::RawValue,
    }
    let event = message.strip_suffix(b",").unwrap_or(message);
    let queued: Queued<'_> = serde_json::from_slice(event).ok()?;
    Some(JsonText::of(queued.payload))
}

/// The key of the queue's stream that a change sets or removes, if that is all that it does.
pub(super) fn control_of(change: &Change) -> Option<(Bytes, Option<Bytes>)> {
    match change {
        Change::State(state) => {
            let key = Bytes::from_static(codec::STATE_KEY);
            Some((key, Some(codec::encode_state(state))))
        }
        Change::Job { position, job } => {
            let value = job.as_ref().map(|job| codec::encode_job(job));
            Some((codec::job_key(*position), value))
        }
        Change::Buried { job } => Some((codec::dead_key(*job), None)),
        Change::LeaseEnds { .. }
        | Change::Begin { .. }
        | Change::Append(_)
        | Change::Dead(_)
        | Change::Adopted { .. }
        | Change::Ended { .. } => None,
    }
}

/// What is remembered of a queue stands as long as its stream is the same one, and nothing of it was taken back.
pub(super) fn check_ground(draft: &mut Draft<'_>, id: StreamId, footing: Footing) -> Result<(), RecordError> {
    let is_there = draft.state(QUEUE).is_some_and(|state| state.id == id);
    if is_there && draft.footing(QUEUE) == footing {
        Ok(())
    } else {
        Err(RecordError::Stale)
    }
}

/// The document of a dead letter.
fn letter(queue: &StreamName, dead: &DeadLetter, payload: Option<&JsonText>) -> String {
    let text = |text: &str| JsonText::string(text);
    let null = JsonText::null();
    format!(
        "{{\"queue\":{},\"job\":{},\"run\":{},\"reason\":{},\"error\":{},\"attempt\":{},\"payload\":{},\"at\":{}}}",
        text(queue.as_str()),
        text(&job_text(dead.job)),
        dead.run.as_ref().map_or(null.clone(), |run| text(run.as_str())),
        text(dead.reason.code()),
        dead.error.as_ref().unwrap_or(&null),
        dead.attempt,
        payload.unwrap_or(&null),
        text(&rfc3339::format(dead.at)),
    )
}

/// JSON as it is appended.
pub(super) fn json(body: String) -> EncodedBody {
    EncodedBody::new(ContentKind::Json, &Bytes::from(body))
}

/// The content type of all that the runtime makes.
pub(super) fn json_type() -> ContentType {
    ContentType::parse("application/json").expect("a content type")
}
