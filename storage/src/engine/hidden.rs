//! Hidden streams: streams of the server's own, under reserved names, whose content is control keys and nothing else.
//! They are placed, committed, recovered, backed up and exported like any other. Knows nothing of what the keys mean.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::subscription::Tail;
use tailwater_stream::{ControlChange, CreateCommand, Part, Record, StreamId, StreamName, StreamState};

use super::sequencer::{Decision, Standing};
use super::{CreateError, DeleteError, Engine, EngineError};
use crate::backend::{BackendError, ControlsRequest, ListRequest};
use crate::subscriptions::Moves;

/// Hidden streams that are listed in one go.
const PAGE: usize = 1_000;

/// Why a hidden stream is not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum HiddenError {
    /// It is another one by now, or none.
    #[error("the hidden stream is gone")]
    Gone,
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<BackendError> for HiddenError {
    fn from(error: BackendError) -> Self {
        Self::Engine(error.into())
    }
}

impl Engine {
    /// What tells which streams move.
    pub(crate) fn moves(&self) -> &Arc<Moves> {
        &self.shared.moves
    }

    /// Creates a hidden stream; one that has the name already is deleted before, for it was never finished.
    pub(crate) async fn create_hidden(&self, name: &StreamName) -> Result<StreamId, HiddenError> {
        loop {
            let created = match self.create(name, CreateCommand::default()).await {
                Ok(created) => created,
                Err(CreateError::Engine(error)) => return Err(error.into()),
                Err(refusal) => unreachable!("a hidden stream has nothing to refuse: {refusal}"),
            };
            let entry = self.open(name).await?;
            let id = entry.sequencer.lock().accepted().map(|state| state.id);
            match id {
                Some(id) if created.new => return Ok(id),
                _ => self.delete_hidden(name).await?,
            }
        }
    }

    /// Deletes a hidden stream. That there is none is no error.
    pub(crate) async fn delete_hidden(&self, name: &StreamName) -> Result<(), EngineError> {
        match self.delete(name).await {
            Ok(()) | Err(DeleteError::NotFound | DeleteError::Gone) => Ok(()),
            Err(DeleteError::Engine(error)) => Err(error),
            Err(DeleteError::Refused(refusal)) => unreachable!("a hidden stream is no run: {refusal}"),
        }
    }

    /// Sets and removes control keys of a hidden stream, all of them or none. Answers once that is durable.
    pub(crate) async fn change_hidden(
        &self,
        name: &StreamName,
        id: StreamId,
        changes: Vec<(Bytes, Option<Bytes>)>,
    ) -> Result<(), HiddenError> {
        let entry = self.open(name).await?;
        let parts = changes.into_iter().map(|(key, value)| {
            Part::Control(ControlChange {
                stream: id,
                key,
                value,
            })
        });
        let record = Record {
            parts: parts.collect(),
        };
        let is_there = self
            .sequence(&entry, |sequencer, now| match sequencer.standing(now) {
                Standing::Alive(state) if state.id == id => Decision::Commit(record.clone(), true),
                _ => Decision::Answer(false),
            })
            .await?;
        if is_there { Ok(()) } else { Err(HiddenError::Gone) }
    }

    /// Streams, hidden ones included, with all that is known of them, whose names begin with `prefix`, behind `after`, at most `count_max`.
    pub(crate) async fn list_states(
        &self,
        prefix: String,
        after: Option<StreamName>,
        count_max: usize,
    ) -> Result<Vec<StreamState>, EngineError> {
        self.ask(move |backend| {
            backend.list(&ListRequest {
                prefix: &prefix,
                after: after.as_ref().map(StreamName::as_str),
                count_max,
            })
        })
        .await
    }

    /// Does something with each hidden stream whose name begins with `prefix`.
    pub(crate) async fn with_all_hidden<E: From<EngineError>>(
        &self,
        prefix: &str,
        mut work: impl AsyncFnMut(StreamState) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after: Option<StreamName> = None;
        loop {
            let listed = self.list_states(prefix.to_owned(), after, PAGE).await?;
            let is_last = listed.len() < PAGE;
            after = listed.last().map(|state| state.name.clone());
            for state in listed {
                work(state).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The hidden stream that has this name.
    pub(crate) async fn hidden_id(&self, name: &StreamName) -> Result<Option<StreamId>, EngineError> {
        let name = name.clone();
        let state = self.ask(move |backend| backend.load(&name)).await?;
        Ok(state.filter(|state| !state.deleted).map(|state| state.id))
    }

    /// The value of a control key of a hidden stream.
    pub(crate) async fn control(
        &self,
        id: StreamId,
        key: &'static [u8],
    ) -> Result<Option<Bytes>, EngineError> {
        self.ask(move |backend| backend.control(id, key)).await
    }

    /// Likewise, of a key that is made.
    pub(crate) async fn control_at(&self, id: StreamId, key: Bytes) -> Result<Option<Bytes>, EngineError> {
        self.ask(move |backend| backend.control(id, &key)).await
    }

    /// The control keys of a hidden stream that begin with `prefix`, in order, with their values.
    pub(crate) async fn controls(
        &self,
        id: StreamId,
        prefix: &'static [u8],
    ) -> Result<Vec<(Bytes, Bytes)>, EngineError> {
        self.ask(move |backend| backend.controls(id, prefix)).await
    }

    /// Likewise, those behind the key `after`, at most `count_max` of them.
    pub(crate) async fn controls_behind(
        &self,
        id: StreamId,
        prefix: Vec<u8>,
        after: Option<Bytes>,
        count_max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, EngineError> {
        self.ask(move |backend| {
            let request = ControlsRequest {
                prefix: &prefix,
                after: after.as_deref(),
                count_max,
            };
            backend.list_controls(id, &request)
        })
        .await
    }

    /// The values of one control key of many streams.
    pub(crate) async fn control_of_each(
        &self,
        ids: Vec<StreamId>,
        key: &'static [u8],
    ) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.ask(move |backend| ids.into_iter().map(|id| backend.control(id, key)).collect())
            .await
    }

    /// How far streams reach, each beside the value of a control key of the hidden stream `id`, if a key is given.
    pub(crate) async fn tails(
        &self,
        id: StreamId,
        streams: Vec<(StreamName, Option<Bytes>)>,
    ) -> Result<Vec<(StreamName, Option<Tail>, Option<Bytes>)>, EngineError> {
        let open: Vec<_> = streams.iter().map(|(name, _)| self.durable_tail(name)).collect();
        self.ask(move |backend| {
            let mut found = Vec::with_capacity(streams.len());
            for ((name, key), open) in streams.into_iter().zip(open) {
                let tail = match open {
                    Some(tail) => tail,
                    None => backend
                        .load(&name)?
                        .filter(|state| !state.deleted)
                        .map(|state| Tail {
                            position: state.tail,
                            lineage: state.lineage,
                        }),
                };
                let value = key.map(|key| backend.control(id, &key)).transpose()?.flatten();
                found.push((name, tail, value));
            }
            Ok(found)
        })
        .await
    }

    /// How far an open stream reaches, none if it was deleted; none at all if it is not open.
    fn durable_tail(&self, name: &StreamName) -> Option<Option<Tail>> {
        let entry = self.shared.registry.peek(name)?;
        let durable = entry.sequencer.lock().durable().cloned()?;
        let view = durable.view();
        Some((!view.deleted).then(|| Tail {
            lineage: durable.lineage.clone(),
            position: view.tail,
        }))
    }
}
