//! What is done in a subscription's turn: look at the streams that have moved, decide, store, send.

use std::sync::Arc;

use tailwater_stream::StreamName;
use tailwater_stream::subscription::{Change, Link, Observed, WakeId};

use super::opened::{CHUNK, Opened, Turn};
use super::{SubscriptionError, Subscriptions, codec};
use crate::backend::BackendError;
use crate::engine::EngineError;
use crate::panics::Task;

/// What could not be stored for want of space is tried again after so long.
pub(super) const PAUSE_MS: u64 = 1_000;

/// A wake that nobody has had.
pub(super) fn fresh() -> WakeId {
    WakeId::new(fastrand::u128(..))
}

impl Subscriptions {
    /// A turn that nobody asked for.
    pub(super) async fn take_turn(&self, opened: &Arc<Opened>) {
        let turn = async {
            let mut turn = opened.turn.lock().await;
            opened.unschedule();
            if let Some(turn) = turn.as_mut() {
                self.settle(opened, turn).await;
            }
        };
        let panics = &self.shared.engine.stats().panics;
        if panics.watch(Task::Subscription, turn).await.is_err() {
            self.pause(opened).await;
        }
    }

    /// A turn has panicked and has set no timer, without which there might be no other one.
    pub(super) async fn pause(&self, opened: &Arc<Opened>) {
        opened.unschedule();
        if let Some(turn) = opened.turn.lock().await.as_mut() {
            turn.paused_until = Some(self.now().plus_millis(PAUSE_MS));
            self.set_timer(opened, turn);
        }
    }

    /// Brings a subscription to rest: what has moved is looked at, whatever is pending has a wake, and what is due is
    /// sent. What cannot be stored is left to a later turn.
    pub(super) async fn settle(&self, opened: &Arc<Opened>, turn: &mut Turn) {
        if let Err(error) = self.try_settle(opened, turn).await {
            match error {
                // Its hidden stream was deleted or replaced by an import, which is told of by itself.
                SubscriptionError::NotFound => {}
                error => {
                    tracing::warn!(subscription = %opened.id, %error, "a subscription has to wait");
                    turn.paused_until = Some(self.now().plus_millis(PAUSE_MS));
                }
            }
        }
        self.set_timer(opened, turn);
    }

    async fn try_settle(&self, opened: &Arc<Opened>, turn: &mut Turn) -> Result<(), SubscriptionError> {
        self.look(opened, turn).await?;
        let now = self.now();
        if turn.paused_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        turn.paused_until = None;
        if let Some(ended) = turn.subscription.expire(now, fresh()) {
            self.store(opened, turn, &[ended]).await?;
            self.shared.stats.expired_leases.add(1);
        }
        // Before all is found, nothing pending means nothing.
        if *self.shared.is_recovered.borrow() {
            if let Some(called_off) = turn.subscription.call_off() {
                self.store(opened, turn, &[called_off]).await?;
            }
            if let Some(woken) = turn.subscription.wake(now, fresh()) {
                self.store(opened, turn, &[woken]).await?;
            }
            self.send_if_due(opened, turn, now);
        }
        Ok(())
    }

    fn set_timer(&self, opened: &Arc<Opened>, turn: &mut Turn) {
        let subscription = &turn.subscription;
        let send_at = subscription
            .state
            .send_at(subscription.created_at)
            .filter(|_| !turn.is_sending);
        let due = [send_at, subscription.state.lease_ends_at()]
            .into_iter()
            .flatten()
            .min();
        let at = match turn.paused_until {
            Some(until) => Some(due.map_or(until, |due| due.max(until))),
            None => due,
        };
        self.shared.timers.set(opened, &mut turn.timer, at);
    }

    /// Looks at the streams that have moved until now.
    pub(super) async fn look(&self, opened: &Arc<Opened>, turn: &mut Turn) -> Result<(), SubscriptionError> {
        let mut unseen = Unseen {
            opened,
            streams: opened.take_moved(),
        };
        while !unseen.streams.is_empty() {
            let seen = unseen.streams.len().saturating_sub(CHUNK);
            self.look_at(opened, turn, &unseen.streams[seen..]).await?;
            unseen.streams.truncate(seen);
        }
        Ok(())
    }

    async fn look_at(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        moved: &[StreamName],
    ) -> Result<(), SubscriptionError> {
        let observed = self.observe(turn, moved).await?;
        let changes = turn.subscription.observe(&observed);
        self.store(opened, turn, &changes).await
    }

    /// Streams as they are now, with their links.
    pub(super) async fn observe(
        &self,
        turn: &Turn,
        streams: &[StreamName],
    ) -> Result<Vec<Observed>, SubscriptionError> {
        let known = |stream: &StreamName| {
            turn.subscription
                .pending()
                .get(stream)
                .map(|pending| pending.link)
        };
        let asked = streams.iter().map(|stream| {
            let key = known(stream).is_none().then(|| codec::link_key(stream));
            (stream.clone(), key)
        });
        let found = self.shared.engine.tails(turn.stream, asked.collect()).await?;
        let observed = found.into_iter().map(|(stream, tail, stored)| {
            let link = match known(&stream) {
                Some(link) => Some(link),
                None => stored.map(|value| read_link(&stream, &value)).transpose()?,
            };
            Ok(Observed { stream, link, tail })
        });
        observed.collect()
    }

    /// Makes changes durable, and then applies them.
    pub(super) async fn store(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        changes: &[Change],
    ) -> Result<(), SubscriptionError> {
        let controls: Vec<_> = changes.iter().filter_map(codec::stored).collect();
        if !controls.is_empty() {
            self.shared
                .engine
                .change_hidden(&opened.name(), turn.stream, controls)
                .await?;
        }
        let before = turn.subscription.state.generation;
        turn.subscription.apply_all(changes);
        self.shared
            .stats
            .wakes
            .add(turn.subscription.state.generation - before);
        Ok(())
    }

    /// Looks at all that has moved before now, so that what a client has appended is seen by what it asks next.
    pub(super) async fn catch_up(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
    ) -> Result<(), SubscriptionError> {
        self.hand_out();
        self.look(opened, turn).await
    }
}

/// Streams that have moved and were taken to be looked at. Those that are not, since something failed or panicked, have moved
/// all the same.
struct Unseen<'a> {
    opened: &'a Opened,
    streams: Vec<StreamName>,
}

impl Drop for Unseen<'_> {
    fn drop(&mut self) {
        self.streams.drain(..).for_each(|stream| self.opened.note(stream));
    }
}

pub(super) fn read_link(stream: &StreamName, value: &[u8]) -> Result<Link, EngineError> {
    codec::decode_link(value).map_err(|malformed| damaged(&format!("the link of `{stream}`"), malformed))
}

pub(super) fn damaged(place: &str, malformed: crate::codec::Malformed) -> EngineError {
    let what = format!("{malformed} in {place}");
    BackendError::Damaged { what }.into()
}
