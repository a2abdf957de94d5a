//! What clients, workers and receivers do, by chance.

use tailwater_storage::engine::DeleteError;
use tailwater_storage::stream::OffsetToken;
use tailwater_storage::stream::subscription::LeaseRefusal;
use tailwater_storage::subscriptions::deliver::WebhookAnswer;
use tailwater_storage::subscriptions::{AckRequest, StreamAck, SubscriptionError};

use super::Life;
use super::judge::{Failed, assert_fenced, say, see};
use super::promises::{HOOK, Held, Known, STREAMS, SUBSCRIPTIONS, config};
use crate::subscriptions::scene::{LEASE_MS, LIMITS, ack_of, id, streams};
use crate::support::ask::name;

impl Life {
    /// One step. An error if the storage works no more.
    pub(super) async fn step(&mut self) -> Result<(), Failed> {
        let stream = STREAMS[self.rng.usize(..STREAMS.len())];
        let text = SUBSCRIPTIONS[self.rng.usize(..SUBSCRIPTIONS.len())];
        let kind = self.rng.u8(..40);
        self.note(format!("{kind} {text} {stream}"));
        match kind {
            0..=11 => self.append(stream).await?,
            12 => match self.scene.rig.engine.delete(&name(stream)).await {
                Ok(()) => drop(self.promises.streams.remove(stream)),
                Err(DeleteError::NotFound | DeleteError::Gone) => {}
                Err(error) => self.goes_on(Err::<(), _>(error))?,
            },
            13..=15 => self.subscribe(text).await?,
            16 => self.unsubscribe(text).await?,
            17..=18 => self.add(text, stream).await?,
            19..=20 => self.remove(text, stream).await?,
            21..=26 if text != HOOK => drop(self.claim(text).await?),
            27..=31 => {
                let (all, done) = (self.rng.bool(), self.rng.u8(..3) > 0);
                self.acknowledge(text, all, done).await?;
            }
            32 => self.release(text).await?,
            33 => {
                let ms = self.rng.u64(..2 * LEASE_MS);
                self.pass_ms(ms);
            }
            34..=36 => {
                let answers = [WebhookAnswer::Done, WebhookAnswer::Done, WebhookAnswer::Taken];
                match self.rng.choice(answers) {
                    Some(answer) if self.rng.u8(..4) > 0 => self.scene.receiver.answer(answer),
                    _ => self.scene.receiver.fail(),
                }
            }
            37 => self.call_back().await?,
            38 => {
                for fenced in self.promises.of(text).fenced.clone() {
                    assert_fenced(say(&self.scene, text, fenced).await, text)?;
                }
            }
            _ => {}
        }
        self.check_storage()?;
        self.look().await
    }

    async fn append(&mut self, stream: &'static str) -> Result<(), Failed> {
        if !self.promises.streams.contains_key(stream) {
            let created = self.scene.rig.create(stream).await;
            if created.is_err() {
                return self.goes_on(created);
            }
            let seen = see(&self.scene, stream).await?.ok_or(Failed)?;
            self.promises.begin(stream, seen);
        }
        let appended = self.scene.rig.append(stream, "some work").await;
        if let Ok(appended) = &appended {
            let seen = see(&self.scene, stream).await?.ok_or(Failed)?;
            assert_eq!(seen.tail.token(), appended.tail);
            self.promises.streams.insert(stream, seen);
        }
        self.goes_on(appended)
    }

    async fn subscribe(&mut self, text: &'static str) -> Result<(), Failed> {
        let config = config(text);
        let (promised, streams) = self.promises.with_streams(text);
        let before = promised.exists;
        if before == Known::Gone {
            promised.exists = Known::Either;
            for stream in STREAMS {
                let is_named = config.streams.contains(&name(stream));
                if is_named {
                    promised.named.insert(stream, Known::There);
                }
                let seen = streams.get(stream);
                if let Some(seen) = seen.filter(|_| is_named || config.wants(&name(stream))) {
                    promised.link(stream, seen, seen.tail.position);
                }
            }
        }
        let subscribed = self.scene.subscribe(text, config).await;
        if let Ok(subscribed) = &subscribed {
            assert_eq!(subscribed.new, before == Known::Gone);
            self.promises.of(text).exists = Known::There;
        }
        self.goes_on(subscribed)
    }

    async fn unsubscribe(&mut self, text: &'static str) -> Result<(), Failed> {
        let promised = self.promises.of(text);
        if promised.exists == Known::There {
            promised.exists = Known::Either;
        }
        let deleted = self.scene.subscriptions.delete(&id(text)).await;
        if deleted.is_ok() {
            self.promises.of(text).forget();
        }
        self.goes_on(deleted)
    }

    async fn add(&mut self, text: &'static str, stream: &'static str) -> Result<(), Failed> {
        if self.promises.of(text).exists != Known::There {
            return Ok(());
        }
        let before = self.promises.of(text).names(stream);
        self.promises.of(text).named.insert(stream, Known::Either);
        let added = self
            .scene
            .subscriptions
            .add_streams(&id(text), streams(&[stream]))
            .await;
        let (promised, streams) = self.promises.with_streams(text);
        if added.is_ok() || before == Known::There {
            promised.named.insert(stream, Known::There);
        }
        if let Some(seen) = streams.get(stream).filter(|_| added.is_ok())
            && promised.cursor(stream, seen).is_none()
        {
            promised.link(stream, seen, seen.tail.position);
        }
        self.goes_on(added)
    }

    async fn remove(&mut self, text: &'static str, stream: &'static str) -> Result<(), Failed> {
        if self.promises.of(text).exists != Known::There {
            return Ok(());
        }
        let before = self.promises.of(text).names(stream);
        self.promises.of(text).named.insert(stream, Known::Either);
        let removed = self
            .scene
            .subscriptions
            .remove_stream(&id(text), name(stream))
            .await;
        let promised = self.promises.of(text);
        if removed.is_ok() || before == Known::Gone {
            promised.named.insert(stream, Known::Gone);
            if !config(text).wants(&name(stream)) {
                promised.cursors.remove(stream);
            }
        }
        self.goes_on(removed)
    }

    /// Whether somebody has the subscription then. Whoever has it is told of all that is pending.
    pub(super) async fn claim(&mut self, text: &'static str) -> Result<bool, Failed> {
        let now = self.scene.rig.engine.now();
        let claim = match self.scene.subscriptions.claim(&id(text), "w").await {
            Ok(claim) => claim,
            Err(SubscriptionError::Lease(LeaseRefusal::NoPendingWork)) => {
                assert_eq!(
                    self.pending(text),
                    [""; 0],
                    "{text}: the streams that are forgotten"
                );
                return Ok(false);
            }
            Err(SubscriptionError::Lease(LeaseRefusal::AlreadyClaimed { .. })) => return Ok(true),
            Err(SubscriptionError::NotFound) => {
                assert_ne!(self.promises.of(text).exists, Known::There, "{text} is gone");
                return Ok(false);
            }
            Err(error) => return self.goes_on(Err::<(), _>(error)).map(|()| false),
        };
        let pending = self.pending(text);
        let told: Vec<_> = claim.work.iter().map(|told| told.stream.as_str()).collect();
        if pending.len() <= LIMITS.wake_streams_max {
            assert_eq!(told, pending, "{text}: what a worker is told of");
        } else {
            assert_eq!(told.len(), LIMITS.wake_streams_max);
        }
        for told in &claim.work {
            let seen = &self.promises.streams[told.stream.as_str()];
            assert_eq!(told.tail, seen.tail, "{text}: how far {} reaches", told.stream);
        }
        let promised = self.promises.of(text);
        assert!(
            promised.held.as_ref().is_none_or(|held| now >= held.lasts_until),
            "{text}: two have it at once"
        );
        assert!(claim.claimed.generation >= promised.generation);
        promised.fence();
        promised.held = Some(Held {
            whole: ack_of(&claim, true),
            lasts_until: claim.lease_ends_at,
            over_at: claim.lease_ends_at,
        });
        Ok(true)
    }

    /// Whoever holds a lease acknowledges all that it was told of.
    pub(super) async fn ack_all(&mut self, text: &'static str, done: bool) -> Result<(), Failed> {
        self.acknowledge(text, true, done).await
    }

    /// Whoever holds a lease acknowledges all that it was told of, or some of it; now and then something is appended
    /// meanwhile.
    async fn acknowledge(&mut self, text: &'static str, all: bool, done: bool) -> Result<(), Failed> {
        let Some(held) = self.promises.of(text).held.clone() else {
            return Ok(());
        };
        let mut acks = Vec::new();
        for ack in &held.whole.acks {
            let is_wanted = self.is_known(text, ack.stream.as_str(), ack.offset);
            if is_wanted && (all || self.rng.bool()) {
                acks.push(ack.clone());
            }
        }
        self.expect_acks(text, &acks);
        let request = AckRequest {
            acks: acks.clone(),
            done,
            ..held.whole.clone()
        };
        let now = self.scene.rig.engine.now();
        let answer = if self.rng.bool() {
            say(&self.scene, text, request).await
        } else {
            let other = STREAMS[self.rng.usize(..STREAMS.len())];
            let append = self.scene.rig.append(other, "meanwhile");
            tokio::join!(say(&self.scene, text, request), append).0
        };
        let promised = self.promises.of(text);
        match answer {
            Ok(_) => {
                self.heed_acks(text, &acks);
                let promised = self.promises.of(text);
                if done {
                    promised.fence();
                } else if let Some(held) = &mut promised.held {
                    held.lasts_until = now.plus_millis(LEASE_MS);
                    held.over_at = held.lasts_until;
                }
            }
            Err(SubscriptionError::Lease(refusal)) => {
                assert!(now >= held.lasts_until, "{text}: a lease that lasts: {refusal}");
                promised.fence();
            }
            Err(error) => {
                match &mut promised.held {
                    Some(held) if !done => held.over_at = now.plus_millis(LEASE_MS),
                    held => *held = None,
                }
                return self.goes_on(Err::<(), _>(error));
            }
        }
        Ok(())
    }

    /// Whether a stream is still the one that a worker was told of, and the subscription's.
    fn is_known(&mut self, text: &str, stream: &str, offset: OffsetToken) -> bool {
        let (promised, streams) = self.promises.with_streams(text);
        let seen = streams.get(stream).filter(|seen| seen.tail.knows(offset));
        // One that was named anew since begins at its tail.
        seen.and_then(|seen| promised.cursor(stream, seen))
            .is_some_and(|cursor| cursor.most <= offset.position())
    }

    /// Acks are on their way.
    fn expect_acks(&mut self, text: &str, acks: &[StreamAck]) {
        let (promised, streams) = self.promises.with_streams(text);
        for ack in acks {
            let stream = ack.stream.as_str();
            if let Some(seen) = streams.get(stream) {
                promised.may_be_acked(stream, seen, ack.offset);
            }
        }
    }

    /// Acks were answered.
    fn heed_acks(&mut self, text: &str, acks: &[StreamAck]) {
        let (promised, streams) = self.promises.with_streams(text);
        for ack in acks {
            let stream = ack.stream.as_str();
            if let Some(seen) = streams.get(stream) {
                promised.is_acked(stream, seen, ack.offset);
            }
        }
    }

    async fn release(&mut self, text: &'static str) -> Result<(), Failed> {
        let Some(held) = self.promises.of(text).held.clone() else {
            return Ok(());
        };
        let now = self.scene.rig.engine.now();
        let answer = self
            .scene
            .subscriptions
            .release(&id(text), held.whole.clone())
            .await;
        let promised = self.promises.of(text);
        match answer {
            Ok(_) => promised.fence(),
            Err(SubscriptionError::Lease(refusal)) => {
                assert!(now >= held.lasts_until, "{text}: a lease that lasts: {refusal}");
                promised.fence();
            }
            Err(error) => {
                promised.held = None;
                return self.goes_on(Err::<(), _>(error));
            }
        }
        Ok(())
    }

    /// The receiver says something of a wake that it had at some time.
    async fn call_back(&mut self) -> Result<(), Failed> {
        let letters = self.scene.receiver.letters();
        let newest = letters.len().saturating_sub(3);
        let Some(letter) = self.rng.choice(&letters[newest..]) else {
            return Ok(());
        };
        let acks = letter.streams.iter().map(|told| StreamAck {
            stream: told.stream.clone(),
            offset: told.tail.token(),
        });
        let request = AckRequest {
            token_generation: letter.generation,
            generation: letter.generation,
            wake: Some(letter.wake),
            acks: acks.collect(),
            done: self.rng.bool(),
        };
        let acks = request.acks.clone();
        if say(&self.scene, HOOK, request.clone()).await.is_ok() {
            self.heed_acks(HOOK, &acks);
            if request.done {
                self.promises.of(HOOK).fenced.push(request);
            }
        }
        Ok(())
    }

    /// An error if the storage works no more: whatever fails while there is space.
    fn goes_on<T, E: std::fmt::Display>(&mut self, answer: Result<T, E>) -> Result<(), Failed> {
        match answer {
            Ok(_) => Ok(()),
            Err(error) => {
                self.note(error);
                if self.is_full { Ok(()) } else { Err(Failed) }
            }
        }
    }

    /// Moves the clock, and does what has become due.
    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.scene.pass_ms(ms);
        self.promises.pass(self.scene.rig.engine.now());
    }
}
