//! Makes queues of streams, changes them, and pauses them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use tailwater_stream::queue::event::parse_job;
use tailwater_stream::queue::{ConfigRefusal, Frontier, QueueState};
use tailwater_stream::{
    ContentKind, CreateCommand, Lifetime, NameLimits, Position, QueueConfig, StreamId, StreamKind,
    StreamName, StreamState,
};

use super::codec::{self, StoredConfig};
use super::enqueue::first_retry_of;
use super::error::{QueueError, UnfitStream};
use super::opened::{Opened, Turn, now_of};
use super::pending::outcome;
use super::record::{Extra, json_type};
use super::show::Described;
use super::{Queues, TakenNames};
use crate::engine::{CreateError, Engine, EngineError, Origin};
use crate::to_its_end::to_its_end;

/// Names of runs that are looked at when a queue is made.
const NUMBERS_MAX: usize = 1_000;

/// A queue that exists now.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// Whether this request made it.
    pub new: bool,
    /// The queue.
    pub described: Described,
}

/// What is known of a stream that is to belong to a queue.
struct Known {
    id: StreamId,
    kind: StreamKind,
    is_json: bool,
    is_fork: bool,
    lifetime: Lifetime,
    content_type: tailwater_stream::ContentType,
    tail: Frontier,
}

impl Queues {
    /// Makes a queue of a stream, which is created if there is none; or finds it, and changes what may be changed.
    ///
    /// # Errors
    /// [`QueueError`]; nothing is changed then, but that the stream may have been created.
    pub async fn put(&self, stream: &StreamName, document: &Map<String, Value>) -> Result<Made, QueueError> {
        let config = QueueConfig::parse(document, stream, self.names())?;
        let lease_ms_max = self.shared.limits.lease_ms_max;
        if config.lease_ms > lease_ms_max {
            return Err(QueueError::Config(ConfigRefusal {
                field: "lease_ms".into(),
                value: config.lease_ms.to_string().into(),
                fix: format!("send at most {lease_ms_max}, or raise queues.max_lease_ms").into(),
            }));
        }
        let (all, stream) = (self.clone(), stream.clone());
        to_its_end(async move { all.make_or_change(&stream, config).await }).await
    }

    async fn make_or_change(&self, stream: &StreamName, config: QueueConfig) -> Result<Made, QueueError> {
        // One that an import has brought is found before it would be made anew.
        match self.find(stream).await {
            Ok(_) | Err(QueueError::NotFound) => {}
            Err(error) => return Err(error),
        }
        loop {
            let opened = self.place(stream, &config)?;
            let mut turn = opened.lock().await;
            // Whoever had this place has given it up.
            if opened.is_gone() {
                continue;
            }
            if let Some(found) = turn.as_mut() {
                self.change(&opened, found, config).await?;
                let described = self.describe(found);
                opened.bell.notify_one();
                return Ok(Made {
                    new: false,
                    described,
                });
            }
            match self.make(stream, &config).await {
                Ok(made) => {
                    let described = self.describe(turn.insert(made));
                    drop(turn);
                    tokio::spawn(self.clone().keep(opened));
                    return Ok(Made { new: true, described });
                }
                Err(error) => {
                    opened.set_gone();
                    self.forget(stream);
                    return Err(error);
                }
            }
        }
    }

    /// Lets a queue that is none be found no more.
    pub(super) fn forget(&self, stream: &StreamName) {
        let mut all = self.shared.all.lock();
        all.remove(stream);
        self.shared.names.lock().remove(stream);
    }

    /// The place of a queue that exists, or is to be made.
    fn place(&self, stream: &StreamName, config: &QueueConfig) -> Result<Arc<Opened>, QueueError> {
        let mut all = self.shared.all.lock();
        if let Some(opened) = all.get(stream) {
            return Ok(Arc::clone(opened));
        }
        // One that was put away for the stop is none that could be made.
        if self.is_stopping() {
            return Err(QueueError::Stopping);
        }
        let queues_max = self.shared.limits.queues_max;
        if all.len() >= queues_max {
            return Err(QueueError::TooMany { queues_max });
        }
        self.check_names(&all, stream, config)?;
        let names = TakenNames::of(config);
        self.shared.names.lock().insert(stream.clone(), names);
        let opened = Arc::new(Opened::new(stream.clone()));
        all.insert(stream.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    /// Refuses a queue whose runs, or dead letters, would be mixed up with what another one has. `all` are those there are.
    pub(super) fn check_names(
        &self,
        all: &BTreeMap<StreamName, Arc<Opened>>,
        stream: &StreamName,
        config: &QueueConfig,
    ) -> Result<(), QueueError> {
        // Dead letters are no jobs, so nobody could work them off.
        if all.contains_key(&config.dead_letter) {
            let stream = config.dead_letter.clone();
            return Err(UnfitStream::Queue { stream }.into());
        }
        let names = self.shared.names.lock();
        let others = names
            .iter()
            .filter(|(queue, _)| *queue != stream && all.contains_key(*queue));
        for (queue, taken) in others {
            let (one, other) = (&*taken.run_prefix, &*config.run_prefix);
            if one.starts_with(other) || other.starts_with(one) {
                return Err(QueueError::PrefixTaken { queue: queue.clone() });
            }
            if taken.dead_letter == *stream {
                let (stream, queue) = (stream.clone(), queue.clone());
                return Err(UnfitStream::DeadLetters { stream, queue }.into());
            }
        }
        Ok(())
    }

    async fn change(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        config: QueueConfig,
    ) -> Result<(), QueueError> {
        if turn.queue.state().deleting {
            return Err(QueueError::Deleting);
        }
        if let Some(field) = turn.queue.config().unchangeable_difference(&config) {
            return Err(QueueError::Unchangeable { field });
        }
        if *turn.queue.config() == config {
            return Ok(());
        }
        let stored = StoredConfig {
            config: config.clone(),
            created_at: turn.created_at,
        };
        let extra = Extra {
            controls: vec![(
                Bytes::from_static(codec::CONFIG_KEY),
                Some(codec::encode_config(&stored)),
            )],
            ..Extra::default()
        };
        self.record_and_wait(opened, turn, &[], extra).await?;
        turn.queue.reconfigure(config, now_of(&self.shared.engine));
        Ok(())
    }

    /// Makes a record in a turn of its own, and waits until it is durable.
    pub(super) async fn record_and_wait(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        changes: &[tailwater_stream::queue::Change],
        extra: Extra,
    ) -> Result<(), QueueError> {
        let settled = match self.record(turn, changes, extra, false).await {
            Ok(settling) => outcome(settling.settled().await),
            Err(error) => Err(error.into()),
        };
        if settled.is_err() || turn.is_stale {
            self.reload(opened, turn).await?;
        }
        settled
    }

    /// Makes a queue of a stream that is none. First it is told of, so that it is found again, and then it is one.
    async fn make(&self, stream: &StreamName, config: &QueueConfig) -> Result<Turn, QueueError> {
        let engine = &self.shared.engine;
        engine.create_hidden(&StreamName::of_queue(stream)).await?;
        let made = self.make_told_of(stream, config).await;
        if made.is_err() {
            engine.delete_hidden(&StreamName::of_queue(stream)).await?;
        }
        made
    }

    async fn make_told_of(&self, stream: &StreamName, config: &QueueConfig) -> Result<Turn, QueueError> {
        let engine = &self.shared.engine;
        let known = self.json_stream(stream).await?;
        self.refuse_letters(stream).await?;
        // Runs stand beside the queue, and none of them has to be led there by itself.
        engine.lead_below(&config.run_prefix, known.id).await?;
        let dead_letter = &config.dead_letter;
        let names = std::slice::from_ref(dead_letter);
        let mut held = vec![engine.hold(std::slice::from_ref(stream)).await?.remove(0)];
        held.extend(engine.hold_beside(names, stream, known.id).await?);
        let dead = look(engine, &held[1..]).await?;
        if let Some(dead) = &dead {
            let name = || dead_letter.clone();
            if dead.kind == StreamKind::Run {
                return Err(UnfitStream::Run { stream: name() }.into());
            }
            if !dead.is_json {
                let content_type = dead.content_type.clone();
                return Err(UnfitStream::NotJson {
                    stream: name(),
                    content_type,
                }
                .into());
            }
            if !engine.are_together(known.id, dead.id) {
                return Err(UnfitStream::Apart { stream: name() }.into());
            }
        }
        let stored = StoredConfig {
            config: config.clone(),
            created_at: engine.now(),
        };
        let beginning = engine.look(stream).await?.incarnation().view().oldest;
        // What stands in the stream already are jobs, too.
        let messages_before = known.tail.messages;
        let state = QueueState {
            admitted: self.first_frontier(stream, beginning, messages_before).await?,
            ..QueueState::default()
        };
        let state = QueueState {
            taken: state.admitted,
            ..state
        };
        self.refuse_numbers_of_another(config, known.id, state.admitted.position)
            .await?;
        let ((), settling) = engine.together(&held, |draft| {
            let retries = match draft.state(0) {
                Some(state) if state.id == known.id => first_retry_of(state),
                _ => return Err(QueueError::NotFound),
            };
            if draft.state(1).is_none() {
                let created = draft.create(1, StreamKind::Plain, &Origin::new(json_type()));
                created.map_err(|_taken| UnfitStream::Deleted {
                    stream: dead_letter.clone(),
                })?;
            }
            let config_key = Bytes::from_static(codec::CONFIG_KEY);
            draft.control(0, config_key, Some(codec::encode_config(&stored)));
            draft.control(
                0,
                Bytes::from_static(codec::STATE_KEY),
                Some(codec::encode_state(&QueueState {
                    retries,
                    ..state.clone()
                })),
            );
            Ok(())
        })?;
        outcome(settling.settled().await)?;
        self.load(stream, known.id).await?.ok_or(QueueError::NotFound)
    }

    /// Refuses runs that are named by jobs of an earlier stream of the same name: its numbers come again. Looks at no more than
    /// the first page of names, for jobs that meet such a run are refused one by one as well.
    async fn refuse_numbers_of_another(
        &self,
        config: &QueueConfig,
        id: StreamId,
        first: Position,
    ) -> Result<(), QueueError> {
        let engine = &self.shared.engine;
        let prefix = &*config.run_prefix;
        let is_of_another = |state: &StreamState| {
            let number = state.name.as_str().strip_prefix(prefix).and_then(parse_job);
            state.id < id && !state.deleted && number.is_some_and(|number| number >= first)
        };
        let before = StreamName::parse(&format!("{prefix}{:015}", 0), NameLimits::NONE).ok();
        let listed = engine.list_states(prefix.to_owned(), before, NUMBERS_MAX).await?;
        match listed.into_iter().find(is_of_another) {
            Some(state) => Err(QueueError::NumberTaken { run: state.name }),
            None => Ok(()),
        }
    }

    /// Where the messages of a stream begin that are still there.
    async fn first_frontier(
        &self,
        stream: &StreamName,
        oldest: Position,
        messages: u64,
    ) -> Result<Frontier, QueueError> {
        let reader = self.shared.engine.look(stream).await?;
        let view = reader.incarnation().view();
        let first = if oldest < view.tail {
            reader
                .records(oldest, &view, 1)
                .await?
                .first()
                .map(|record| record.index)
        } else {
            None
        };
        Ok(Frontier {
            position: oldest,
            messages: first.unwrap_or(messages),
        })
    }

    /// A stream that may be a queue, created if there is none.
    async fn json_stream(&self, stream: &StreamName) -> Result<Known, QueueError> {
        let engine = &self.shared.engine;
        let held = engine.hold(std::slice::from_ref(stream)).await?;
        let known = match look(engine, &held).await? {
            Some(known) => known,
            None => {
                let command = CreateCommand {
                    content_type: Some(json_type()),
                    ..CreateCommand::default()
                };
                match engine.create(stream, command).await {
                    Ok(_) | Err(CreateError::Refused(_)) => {}
                    Err(CreateError::HeldByForks) => {
                        return Err(UnfitStream::Deleted {
                            stream: stream.clone(),
                        }
                        .into());
                    }
                    Err(error) => return Err(error.into()),
                }
                look(engine, &held).await?.ok_or(QueueError::NotFound)?
            }
        };
        let stream = stream.clone();
        if known.kind == StreamKind::Run {
            return Err(UnfitStream::Run { stream }.into());
        }
        if !known.is_json {
            let content_type = known.content_type;
            return Err(UnfitStream::NotJson { stream, content_type }.into());
        }
        if known.lifetime != Lifetime::Forever {
            return Err(UnfitStream::HasLifetime { stream }.into());
        }
        if known.is_fork {
            return Err(UnfitStream::Fork { stream }.into());
        }
        Ok(known)
    }

    /// Stops giving jobs to workers, or begins again.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn pause(&self, queue: &StreamName, paused: bool) -> Result<(), QueueError> {
        let opened = self.find(queue).await?;
        let all = self.clone();
        to_its_end(async move {
            let mut turn = opened.lock().await;
            let turn = turn.as_mut().ok_or(QueueError::NotFound)?;
            let changes = turn.queue.set_paused(paused);
            if !changes.is_empty() {
                all.record_and_wait(&opened, turn, &changes, Extra::default())
                    .await?;
            }
            opened.bell.notify_one();
            Ok(())
        })
        .await
    }
}

/// Waits until nothing is on its way of a stream that is held.
pub(super) async fn until_durable(engine: &Engine, held: &crate::engine::Held) -> Result<(), QueueError> {
    look(engine, std::slice::from_ref(held)).await.map(drop)
}

/// What is known of the first of the streams that are held; none if there is none.
async fn look(engine: &Engine, held: &[crate::engine::Held]) -> Result<Option<Known>, QueueError> {
    loop {
        let (known, settling) = engine.together(&held[..1], |draft| {
            let known = draft.state(0).map(|state| Known {
                id: state.id,
                kind: state.kind,
                is_json: state.content_type.kind() == ContentKind::Json,
                is_fork: state.source.is_some(),
                lifetime: state.lifetime,
                content_type: state.content_type.clone(),
                tail: Frontier {
                    position: state.tail,
                    messages: state.messages,
                },
            });
            Ok::<_, EngineError>(known)
        })?;
        match settling.settled().await {
            crate::engine::Settled::Durable => return Ok(known),
            crate::engine::Settled::Failed => return Err(crate::BackendError::Poisoned.into()),
            crate::engine::Settled::Full | crate::engine::Settled::DecideAgain => {}
        }
    }
}
