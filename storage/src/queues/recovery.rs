//! What a start finds: every queue as it was stored. Jobs that are ready cost nothing, however many there are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tailwater_stream::name::QUEUES_PREFIX;
use tailwater_stream::{Queue, StreamId, StreamKind, StreamName, StreamState};

use super::codec;
use super::error::{QueueError, damaged};
use super::manage::until_durable;
use super::opened::{AT_ONCE_MAX, Opened, Turn, now_of};
use super::rates::Rates;
use super::{Queues, TakenNames};
use crate::backend::BackendError;
use crate::engine::EngineError;

/// What a queue is opened for that nobody has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// To be served: its names are no other queue's.
    Serving,
    /// To be deleted, whatever its names are.
    Deletion,
}

impl Queues {
    /// Loads all queues that there are. Of two that cannot both be served, because an import has brought one of them, it is
    /// the one that was here first.
    pub(super) async fn load_all(&self) -> Result<(), QueueError> {
        let mut told_of = Vec::new();
        let note = async |state: StreamState| {
            told_of.extend(state.name.queue().map(|stream| (state.id, stream)));
            Ok::<_, QueueError>(())
        };
        self.shared.engine.with_all_hidden(QUEUES_PREFIX, note).await?;
        told_of.sort_unstable();
        for (_, stream) in told_of {
            match self.open_stored(&stream, Opening::Serving).await {
                // What was told of and never made, or is damaged, cannot keep the others from being served.
                Err(QueueError::NotFound) => {
                    let told_of = StreamName::of_queue(&stream);
                    self.shared.engine.delete_hidden(&told_of).await?;
                }
                Err(QueueError::Engine(EngineError::Backend(BackendError::Damaged { what }))) => {
                    tracing::error!(queue = %stream, %what, "the queue cannot be used");
                }
                Err(error @ (QueueError::PrefixTaken { .. } | QueueError::Unfit(_))) => {
                    tracing::error!(queue = %stream, %error, "the queue is not served; delete one of the two");
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// A queue that an import has brought. It is told of, too, so that the next start finds it: an import of a prefix brings
    /// its stream alone.
    pub(super) async fn open_imported(&self, stream: &StreamName) -> Result<Arc<Opened>, QueueError> {
        let opened = self.open_stored(stream, Opening::Serving).await?;
        let (engine, told_of) = (&self.shared.engine, StreamName::of_queue(stream));
        if engine.hidden_id(&told_of).await?.is_none()
            && let Err(error) = engine.create_hidden(&told_of).await
        {
            tracing::warn!(queue = %stream, %error, "the next start does not serve the queue before somebody asks for it");
        }
        Ok(opened)
    }

    /// A queue that is stored and nobody has opened: an import has brought it, or the process has just begun.
    pub(super) async fn open_stored(
        &self,
        stream: &StreamName,
        opening: Opening,
    ) -> Result<Arc<Opened>, QueueError> {
        let held = self.shared.engine.hold(std::slice::from_ref(stream)).await?;
        let (id, _settling) = self.shared.engine.together(&held, |draft| {
            let plain = draft.state(0).filter(|state| state.kind == StreamKind::Plain);
            Ok::<_, EngineError>(plain.map(|state| state.id))
        })?;
        let id = id.ok_or(QueueError::NotFound)?;
        let made = Arc::new(Opened::new(stream.clone()));
        let mut turn = made.lock().await;
        let loaded = self.load(stream, id).await?.ok_or(QueueError::NotFound)?;
        let is_deleting = loaded.queue.state().deleting;
        let is_served = opening == Opening::Serving && !is_deleting;
        let check_names = |all: &BTreeMap<_, _>| {
            if is_served {
                self.check_names(all, stream, loaded.queue.config())
            } else {
                Ok(())
            }
        };
        check_names(&*self.shared.all.lock())?;
        // Whoever made it may have led its runs to it in another store, from where it was imported.
        match self
            .shared
            .engine
            .lead_below(&loaded.queue.config().run_prefix, id)
            .await
        {
            // Without room, each is led by itself.
            Ok(()) | Err(EngineError::Full) => {}
            Err(error) => return Err(error.into()),
        }
        {
            let mut all = self.shared.all.lock();
            // Somebody else has opened it meanwhile.
            if let Some(opened) = all.get(stream) {
                return Ok(Arc::clone(opened));
            }
            check_names(&all)?;
            let names = TakenNames::of(loaded.queue.config());
            self.shared.names.lock().insert(stream.clone(), names);
            all.insert(stream.clone(), Arc::clone(&made));
        }
        *turn = Some(loaded);
        drop(turn);
        // Whoever asks for something meanwhile, or once that has failed, is answered.
        tokio::spawn(self.clone().keep(Arc::clone(&made)));
        if is_deleting {
            let (all, opened) = (self.clone(), Arc::clone(&made));
            tokio::spawn(async move {
                if let Err(error) = all.delete_opened(&opened).await {
                    tracing::warn!(queue = %opened.name, %error, "the deletion of a queue goes on with the next start");
                }
            });
        }
        Ok(made)
    }

    /// Reads what is stored of a queue; none if the stream is none.
    pub(super) async fn load(&self, stream: &StreamName, id: StreamId) -> Result<Option<Turn>, QueueError> {
        let engine = &self.shared.engine;
        let held = engine.hold(std::slice::from_ref(stream)).await?.remove(0);
        // What a turn has left on its way that ended with a panic counts, or does not, before anything is read.
        until_durable(engine, &held).await?;
        let footing = held.footing();
        let reader = match engine.look(stream).await.map_err(QueueError::from) {
            Ok(reader) if reader.incarnation().id == id => reader,
            Ok(_) | Err(QueueError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let place = format!("the queue `{stream}`");
        let broken = |malformed| damaged(&place, malformed);
        let config = engine.control(id, codec::CONFIG_KEY).await?;
        let state = engine.control(id, codec::STATE_KEY).await?;
        let (Some(config), Some(state)) = (config, state) else {
            return Ok(None);
        };
        let stored = codec::decode_config(&config, stream).map_err(broken)?;
        let state = codec::decode_state(&state).map_err(broken)?;
        let ended_from = engine.control(id, codec::ENDED_FROM_KEY).await?;
        let ended_from = ended_from.map(|value| codec::decode_number(&value)).transpose();
        let ended_from = ended_from.map_err(broken)?;
        let mut jobs = BTreeMap::new();
        for (key, value) in engine.controls(id, codec::JOB_PREFIX).await? {
            let job = codec::job_of(&key, codec::JOB_PREFIX).map_err(broken)?;
            jobs.insert(job, codec::decode_job(&value).map_err(broken)?);
        }
        let mut awaited = BTreeMap::new();
        for (key, value) in engine.controls(id, codec::RETRY_PREFIX).await? {
            let run = codec::stream_of(&key, codec::RETRY_PREFIX).map_err(broken)?;
            awaited.insert(run, codec::decode_number(&value).map_err(broken)?);
        }
        let by_run = jobs
            .iter()
            .filter(|(_, job)| !job.is_passed())
            .map(|(position, job)| (job.run.clone(), *position))
            .collect();
        let view = reader.incarnation().view();
        let retries = state.retries;
        Ok(Some(Turn {
            queue: Queue::new(stream.clone(), stored.config, state, jobs, now_of(engine)),
            created_at: stored.created_at,
            stream: held,
            id,
            footing,
            by_run,
            // Those that are not awaited any more have come.
            retries_sent: awaited.values().copied().min().unwrap_or(retries),
            awaited,
            adrift: BTreeMap::new(),
            has_looked_at_all: false,
            claimants: VecDeque::new(),
            expected: BTreeMap::new(),
            has_caught_up: false,
            trimmed: (view.oldest, 0),
            ended_from: (ended_from.unwrap_or_else(|| codec::group(stored.created_at)), 0),
            is_stale: false,
            paused_until_ms: None,
            finds_space: false,
            at_once_max: AT_ONCE_MAX,
            leaves_overdue: false,
            rates: Rates::default(),
            reader,
        }))
    }

    /// Loads a queue anew, because what is remembered of it may not be what is stored. Whoever waits goes on waiting, and
    /// leases end when they would have.
    pub(super) async fn reload(&self, opened: &Opened, turn: &mut Turn) -> Result<(), QueueError> {
        turn.is_stale = true;
        let Some(loaded) = self.load(&opened.name, turn.id).await? else {
            // Its stream was deleted, or an import has put another one in its place.
            opened.set_gone();
            self.forget(&opened.name);
            for (_, expecting) in std::mem::take(&mut turn.expected) {
                let _ = expecting.answer.send(Err(QueueError::NotFound));
            }
            return Err(QueueError::NotFound);
        };
        let before = std::mem::replace(turn, loaded);
        turn.queue.keep_lease_ends(&before.queue);
        turn.claimants = before.claimants;
        turn.expected = before.expected;
        turn.adrift = before.adrift;
        turn.has_looked_at_all = before.has_looked_at_all;
        turn.paused_until_ms = before.paused_until_ms;
        turn.at_once_max = before.at_once_max;
        turn.leaves_overdue = before.leaves_overdue;
        turn.rates = before.rates;
        Ok(())
    }
}
