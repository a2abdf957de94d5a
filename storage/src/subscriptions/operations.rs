//! What clients ask of subscriptions that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailwater_stream::subscription::{
    Ack, AckCommand, Acked, Claimed, LeaseRefusal, Link, SubscriptionState, WakeId, WokenStream,
};
use tailwater_stream::{OffsetToken, StreamName, SubscriptionConfig, SubscriptionId, Timestamp};

use super::links::LinksPage;
use super::opened::{Opened, Turn};
use super::turns::fresh;
use super::{SubscriptionError, Subscriptions};
use crate::engine::EngineError;
use crate::to_its_end::to_its_end;

/// A subscription with a page of its links.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// How it stands.
    pub summary: Summary,
    /// The streams that were asked for, in the order of their names.
    pub links: Vec<(StreamName, Link)>,
    /// Whether more of its streams follow.
    pub more: bool,
}

/// How a subscription stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its id.
    pub id: SubscriptionId,
    /// What was asked for.
    pub config: SubscriptionConfig,
    /// The URL of the stream root, as the client that made it used it.
    pub root: Box<str>,
    /// When it was made.
    pub created_at: Timestamp,
    /// How far it has come.
    pub state: SubscriptionState,
    /// Streams with something new.
    pub pending_streams: u64,
    /// Bytes in them that are not acknowledged.
    pub pending_bytes: u64,
}

/// A worker has a subscription, and this is its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The wake.
    pub claimed: Claimed,
    /// What it is about.
    pub work: ClaimedStreams,
    /// How long the worker may be silent.
    pub lease_ttl_ms: u64,
    /// When the lease ends if it is.
    pub lease_ends_at: Timestamp,
}

/// Streams with something new; there may be more if these are as many as a worker is told of.
pub type ClaimedStreams = Vec<WokenStream>;

/// A place up to which a worker has processed a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAck {
    /// The stream.
    pub stream: StreamName,
    /// The place.
    pub offset: OffsetToken,
}

/// What a worker says of its wake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckRequest {
    /// The number of the wake that its token is for.
    pub token_generation: u64,
    /// The number of the wake that it speaks of.
    pub generation: u64,
    /// That wake. None if what was sent is no wake's id.
    pub wake: Option<WakeId>,
    /// What was processed.
    pub acks: Vec<StreamAck>,
    /// Whether it gives the lease back.
    pub done: bool,
}

/// Who says something of a wake, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Callback,
    Ack,
    Release,
}

impl Subscriptions {
    /// A subscription as it is now, with a page of its streams.
    ///
    /// # Errors
    /// [`SubscriptionError`].
    pub async fn get(&self, id: &SubscriptionId, page: &LinksPage) -> Result<Described, SubscriptionError> {
        let opened = self.find(id)?;
        let turn = opened.turn.lock().await;
        let turn = turn.as_ref().ok_or(SubscriptionError::NotFound)?;
        Ok(self.describe(&opened, turn, page).await?)
    }

    /// Subscriptions in the order of their ids, behind `after`, at most `count_max`, and whether more follow. One that is
    /// being made is none yet, and is not waited for.
    pub async fn list(&self, after: Option<&SubscriptionId>, count_max: usize) -> (Vec<Summary>, bool) {
        let mut after = after.cloned();
        let mut summaries = Vec::new();
        while let Some(opened) = self.next_made(after.as_ref()) {
            if summaries.len() == count_max {
                return (summaries, true);
            }
            // It may have been deleted meanwhile.
            if let Some(turn) = opened.turn.lock().await.as_ref() {
                summaries.push(summary(&opened, turn));
            }
            after = Some(opened.id.clone());
        }
        (summaries, false)
    }

    /// The first subscription behind an id that is there.
    fn next_made(&self, after: Option<&SubscriptionId>) -> Option<Arc<Opened>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let all = self.shared.all.lock();
        let mut behind = all.range::<SubscriptionId, _>((from, Unbounded));
        let found = behind.find(|(_, opened)| opened.is_made());
        found.map(|(_, opened)| Arc::clone(opened))
    }

    /// Deletes a subscription. Whoever holds it is fenced off. That there is none is no error.
    ///
    /// # Errors
    /// If the storage fails. The subscription is there as before.
    pub async fn delete(&self, id: &SubscriptionId) -> Result<(), EngineError> {
        let Ok(opened) = self.find(id) else { return Ok(()) };
        let all = self.clone();
        to_its_end(async move { all.delete_opened(&opened).await }).await
    }

    async fn delete_opened(&self, opened: &Arc<Opened>) -> Result<(), EngineError> {
        let mut turn = opened.turn.lock().await;
        let Some(deleted) = turn.as_mut() else {
            return Ok(());
        };
        let named = self.named_streams(deleted).await?;
        self.shared.engine.delete_hidden(&opened.name()).await?;
        self.forget(opened, deleted, &named);
        *turn = None;
        Ok(())
    }

    /// Forgets a subscription whose hidden stream is deleted, in its turn.
    pub(super) fn forget(&self, opened: &Arc<Opened>, turn: &mut Turn, named: &[StreamName]) {
        opened.set_gone();
        self.shared.timers.set(opened, &mut turn.timer, None);
        self.remove_from_index(opened, &turn.subscription.config, named);
        self.shared.all.lock().remove(&opened.id);
    }

    /// Names streams of a subscription. They are linked at their tails, unless they are linked already.
    ///
    /// # Errors
    /// [`SubscriptionError`]; nothing is changed then.
    pub async fn add_streams(
        &self,
        id: &SubscriptionId,
        streams: BTreeSet<StreamName>,
    ) -> Result<(), SubscriptionError> {
        let opened = self.find(id)?;
        let all = self.clone();
        to_its_end(async move {
            let mut turn = opened.turn.lock().await;
            let turn = turn.as_mut().ok_or(SubscriptionError::NotFound)?;
            all.catch_up(&opened, turn).await?;
            let streams: Vec<_> = streams.into_iter().collect();
            // What moves from now on is told of, whatever is seen of it here.
            let index = &all.shared.engine.moves().index;
            index.add_streams(&streams, &opened);
            let added = all.add_named(&opened, turn, &streams).await;
            if added.is_err()
                && let Ok(named) = all.named_streams(turn).await
            {
                index.remove_streams(streams.iter().filter(|stream| !named.contains(stream)), &opened);
            }
            added
        })
        .await
    }

    async fn add_named(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        streams: &[StreamName],
    ) -> Result<(), SubscriptionError> {
        let observed = self.observe(turn, streams).await?;
        let links_max = self.shared.limits.named_streams_max;
        let changes = turn.subscription.add_streams(&observed, links_max)?;
        self.store(opened, turn, &changes).await
    }

    /// Takes the name of a stream back. It stays linked if the pattern means it.
    ///
    /// # Errors
    /// [`SubscriptionError`]; nothing is changed then.
    pub async fn remove_stream(
        &self,
        id: &SubscriptionId,
        stream: StreamName,
    ) -> Result<(), SubscriptionError> {
        let opened = self.find(id)?;
        let all = self.clone();
        to_its_end(async move {
            let mut turn = opened.turn.lock().await;
            let turn = turn.as_mut().ok_or(SubscriptionError::NotFound)?;
            all.catch_up(&opened, turn).await?;
            let streams = [stream];
            let observed = all.observe(turn, &streams).await?;
            let link = observed.first().and_then(|observed| observed.link);
            let changes = turn.subscription.remove_stream(&streams[0], link);
            all.store(&opened, turn, &changes).await?;
            all.shared.engine.moves().index.remove_streams(&streams, &opened);
            Ok(())
        })
        .await
    }

    /// Gives a subscription to a worker.
    ///
    /// # Errors
    /// [`SubscriptionError`].
    pub async fn claim(&self, id: &SubscriptionId, worker: &str) -> Result<Claim, SubscriptionError> {
        self.recovered().await?;
        let opened = self.find(id)?;
        let (all, worker) = (self.clone(), worker.to_owned());
        to_its_end(async move {
            let mut turn = opened.turn.lock().await;
            let turn = turn.as_mut().ok_or(SubscriptionError::NotFound)?;
            all.catch_up(&opened, turn).await?;
            let decided = turn.subscription.claim(&worker, all.now(), fresh())?;
            all.store(&opened, turn, &decided.changes).await?;
            let work = turn.subscription.snapshot(all.shared.limits.wake_streams_max);
            let claim = Claim {
                claimed: decided.answer,
                work,
                lease_ttl_ms: turn.subscription.config.lease_ttl_ms,
                lease_ends_at: turn.subscription.state.lease_ends_at().unwrap_or_default(),
            };
            all.settle(&opened, turn).await;
            Ok(claim)
        })
        .await
    }

    /// Accepts what a webhook's receiver says.
    ///
    /// # Errors
    /// [`SubscriptionError`]; no cursor has moved then.
    pub async fn callback(
        &self,
        id: &SubscriptionId,
        request: AckRequest,
    ) -> Result<Acked, SubscriptionError> {
        self.accept(id, request, Said::Callback).await
    }

    /// Accepts what a worker says that has claimed the subscription.
    ///
    /// # Errors
    /// [`SubscriptionError`]; no cursor has moved then.
    pub async fn ack(&self, id: &SubscriptionId, request: AckRequest) -> Result<Acked, SubscriptionError> {
        self.accept(id, request, Said::Ack).await
    }

    /// Takes a subscription back from a worker. Its acks are not looked at.
    ///
    /// # Errors
    /// [`SubscriptionError`].
    pub async fn release(
        &self,
        id: &SubscriptionId,
        request: AckRequest,
    ) -> Result<Acked, SubscriptionError> {
        self.accept(id, request, Said::Release).await
    }

    async fn accept(
        &self,
        id: &SubscriptionId,
        request: AckRequest,
        said: Said,
    ) -> Result<Acked, SubscriptionError> {
        self.recovered().await?;
        let opened = self.find(id)?;
        let all = self.clone();
        to_its_end(async move {
            let mut turn = opened.turn.lock().await;
            let turn = turn.as_mut().ok_or(SubscriptionError::NotFound)?;
            all.catch_up(&opened, turn).await?;
            let command = all.command(turn, request).await?;
            let now = all.now();
            let decided = match said {
                Said::Callback => turn.subscription.callback(&command, now, fresh()),
                Said::Ack => turn.subscription.ack(&command, now, fresh()),
                Said::Release => turn.subscription.release(&command, now, fresh()),
            };
            if matches!(decided, Err(LeaseRefusal::Fenced { .. })) {
                all.shared.stats.fenced.add(1);
            }
            let decided = decided?;
            all.store(&opened, turn, &decided.changes).await?;
            if said != Said::Release {
                all.shared.stats.acks.add(1);
            }
            all.settle(&opened, turn).await;
            Ok(decided.answer)
        })
        .await
    }

    /// A request with what the rules need to know of streams that have nothing new.
    async fn command(&self, turn: &Turn, request: AckRequest) -> Result<AckCommand, SubscriptionError> {
        let pending = turn.subscription.pending();
        let settled: BTreeSet<_> = request
            .acks
            .iter()
            .map(|ack| &ack.stream)
            .filter(|stream| !pending.contains_key(*stream))
            .collect();
        let settled: Vec<_> = settled.into_iter().cloned().collect();
        let observed = self.observe(turn, &settled).await?;
        let observed: BTreeMap<_, _> = observed
            .into_iter()
            .map(|one| (one.stream.clone(), one))
            .collect();
        let acks = request.acks.into_iter().map(|ack| {
            let known = observed.get(&ack.stream);
            Ack {
                link: known.and_then(|observed| observed.link),
                tail: known.and_then(|observed| observed.tail.clone()),
                stream: ack.stream,
                offset: ack.offset,
            }
        });
        Ok(AckCommand {
            token_generation: request.token_generation,
            generation: request.generation,
            wake: request.wake,
            acks: acks.collect(),
            done: request.done,
        })
    }

    pub(super) async fn describe(
        &self,
        opened: &Opened,
        turn: &Turn,
        page: &LinksPage,
    ) -> Result<Described, EngineError> {
        let (links, more) = self.links(turn, page).await?;
        Ok(Described {
            summary: summary(opened, turn),
            links,
            more,
        })
    }
}

fn summary(opened: &Opened, turn: &Turn) -> Summary {
    let subscription = &turn.subscription;
    Summary {
        id: opened.id.clone(),
        config: subscription.config.clone(),
        root: turn.root.clone(),
        created_at: subscription.created_at,
        state: subscription.state.clone(),
        pending_streams: subscription.pending().len() as u64,
        pending_bytes: subscription.pending_bytes(),
    }
}
