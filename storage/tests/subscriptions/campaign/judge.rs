//! Compares subscriptions with what was promised of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tailwater_storage::engine::OpenError;
use tailwater_storage::stream::subscription::{Acked, Delivery, LeaseRefusal, Link, Phase, Tail};
use tailwater_storage::stream::{OffsetToken, StreamName};
use tailwater_storage::subscriptions::{AckRequest, SubscriptionError};

use super::Life;
use super::promises::{HOOK, Known, STREAMS, SUBSCRIPTIONS, Seen, acked, config};
use crate::subscriptions::scene::{Scene, id};
use crate::support::ask::name;

/// How long it is waited for what must come.
const PATIENCE: Duration = Duration::from_secs(15);
/// Of those who were fenced off, the last so many are heard again.
const FENCED_MAX: usize = 4;

/// The storage says nothing any more.
pub(super) struct Failed;

/// A stream as it is now.
pub(super) async fn see(scene: &Scene, stream: &str) -> Result<Option<Seen>, Failed> {
    match scene.rig.engine.look(&name(stream)).await {
        Ok(reader) => {
            let incarnation = reader.incarnation();
            Ok(Some(Seen {
                id: incarnation.id,
                tail: Tail {
                    lineage: incarnation.lineage.clone(),
                    position: incarnation.view().tail,
                },
            }))
        }
        Err(OpenError::NotFound | OpenError::Gone) => Ok(None),
        Err(OpenError::Engine(_)) => Err(Failed),
    }
}

impl Life {
    /// Looks at all that can be seen: no cursor is where it must not be, and what was deleted stays so. What is seen is
    /// promised from now on.
    pub(super) async fn look(&mut self) -> Result<(), Failed> {
        for stream in STREAMS {
            match see(&self.scene, stream).await? {
                Some(seen) => self.promises.streams.insert(stream, seen),
                None => self.promises.streams.remove(stream),
            };
        }
        for id in SUBSCRIPTIONS {
            self.look_at(id).await?;
        }
        Ok(())
    }

    async fn look_at(&mut self, text: &'static str) -> Result<(), Failed> {
        let described = match self.scene.described(text).await {
            Ok(described) => described,
            Err(SubscriptionError::NotFound) => {
                let promised = self.promises.of(text);
                assert_ne!(promised.exists, Known::There, "{text} is gone");
                promised.forget();
                return Ok(());
            }
            Err(_) => return Err(Failed),
        };
        self.hear_letters(text);
        let (promised, streams) = self.promises.with_streams(text);
        assert_ne!(promised.exists, Known::Gone, "{text} was deleted and is there");
        promised.exists = Known::There;
        let generation = described.summary.state.generation;
        assert!(
            generation >= promised.generation,
            "{text}: generation {generation} is behind {}",
            promised.generation
        );
        promised.generation = generation;
        let links: BTreeMap<_, _> = described
            .links
            .iter()
            .map(|(stream, link)| (stream.as_str(), *link))
            .collect();
        for stream in STREAMS {
            let link = links.get(stream);
            let is_named = link.is_some_and(|link| link.explicit);
            match promised.names(stream) {
                Known::There => assert!(is_named, "{text} no longer names {stream}"),
                Known::Gone => assert!(!is_named, "{text} names {stream}"),
                Known::Either => {}
            }
            let now = if is_named { Known::There } else { Known::Gone };
            promised.named.insert(stream, now);
            let Some(seen) = streams.get(stream) else { continue };
            if !is_named && !config(text).wants(&name(stream)) {
                promised.cursors.remove(stream);
                continue;
            }
            let position = seen.position_of(acked(link));
            assert!(
                position <= seen.tail.position,
                "{text}: {stream} ends before its cursor"
            );
            let Some(cursor) = promised.cursor(stream, seen) else {
                promised.link(stream, seen, position);
                continue;
            };
            assert!(
                (cursor.least..=cursor.most).contains(&position),
                "{text}: the cursor of {stream} is at {position} and not within {cursor:?}"
            );
            cursor.least = position;
        }
        Ok(())
    }

    /// A receiver may say that it has processed all that it was told of.
    fn hear_letters(&mut self, text: &str) {
        let (promised, streams) = self.promises.with_streams(text);
        for letter in self.scene.receiver.letters() {
            for told in letter.streams.iter().filter(|_| letter.subscription == id(text)) {
                if let Some(seen) = streams.get(told.stream.as_str()) {
                    promised.may_be_acked(told.stream.as_str(), seen, told.tail.token());
                }
            }
        }
    }

    /// The streams that have something new for a subscription.
    pub(super) fn pending(&mut self, text: &str) -> Vec<&'static str> {
        let (promised, streams) = self.promises.with_streams(text);
        let is_pending = |stream: &&'static str| {
            let seen = streams.get(stream);
            seen.is_some_and(|seen| {
                let cursor = promised.cursor(stream, seen);
                cursor.is_some_and(|cursor| cursor.least < seen.tail.position)
            })
        };
        STREAMS.into_iter().filter(is_pending).collect()
    }

    /// Compares all that a start has found with what was promised: somebody is woken for whatever is pending, and nobody
    /// is heard who was fenced off.
    pub(super) async fn judge(&mut self) -> Result<(), Failed> {
        self.recovered().await?;
        self.look().await?;
        for text in SUBSCRIPTIONS {
            let promised = self.promises.of(text);
            let before = promised.fenced.len().saturating_sub(FENCED_MAX);
            promised.fenced.drain(..before);
            for fenced in promised.fenced.clone() {
                assert_fenced(say(&self.scene, text, fenced).await, text)?;
            }
            self.settle(text).await?;
        }
        Ok(())
    }

    async fn recovered(&self) -> Result<(), Failed> {
        let stopped = async {
            while !self.disk.has_stopped() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            recovered = self.scene.subscriptions.recovered() => recovered.map_err(|_storage| Failed),
            () = stopped => Err(Failed),
        }
    }

    /// Waits until a subscription knows of exactly what is pending, and somebody is woken if anything is.
    async fn settle(&mut self, text: &'static str) -> Result<(), Failed> {
        let began = Instant::now();
        loop {
            self.look().await?;
            let described = match self.scene.described(text).await {
                Ok(described) => described,
                Err(SubscriptionError::NotFound) => return Ok(()),
                Err(_) => return Err(Failed),
            };
            let pending = self.pending(text);
            let summary = described.summary;
            let is_woken = summary.state.phase != Phase::Idle || pending.is_empty();
            let mut links = described.links.iter();
            if summary.pending_streams == pending.len() as u64
                && is_woken
                && links.all(|link| self.is_of_something(link))
            {
                return Ok(());
            }
            self.check_storage()?;
            assert!(
                began.elapsed() < PATIENCE,
                "{text}: {pending:?} is pending, and it says {summary:?}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Whether a link is of a stream that exists, or of one that was named and waits for it.
    fn is_of_something(&self, (stream, link): &(StreamName, Link)) -> bool {
        let waits = link.explicit && link.acked == OffsetToken::START;
        waits || self.promises.streams.contains_key(stream.as_str())
    }

    /// An error if the storage works no more.
    pub(super) fn check_storage(&self) -> Result<(), Failed> {
        let has_failed = self.scene.rig.engine.failure().borrow().is_some() || self.disk.has_stopped();
        if has_failed { Err(Failed) } else { Ok(()) }
    }

    /// Processes all that is pending, as workers and receivers do.
    pub(super) async fn drain(&mut self) -> Result<(), Failed> {
        self.look().await?;
        for text in SUBSCRIPTIONS {
            if self.promises.of(text).exists != Known::There {
                continue;
            }
            // A failed attempt waits for a minute and a little more at the most, and a lease begins behind that.
            self.pass_ms(100_000);
            if text == HOOK {
                self.scene.receiver.be_done_always();
                while !self.pending(text).is_empty() {
                    self.check_storage()?;
                    self.settle(text).await?;
                    tokio::task::yield_now().await;
                }
            } else {
                while self.claim(text).await? {
                    self.ack_all(text, true).await?;
                    self.look().await?;
                }
            }
            self.look().await?;
            assert_eq!(
                self.pending(text),
                [""; 0],
                "{text}: the streams that nobody was told of"
            );
        }
        Ok(())
    }
}

/// Says something of a wake, as whoever is woken by it does.
pub(super) async fn say(scene: &Scene, text: &str, request: AckRequest) -> Result<Acked, SubscriptionError> {
    match config(text).delivery {
        Delivery::Webhook { .. } => scene.subscriptions.callback(&id(text), request).await,
        Delivery::PullWake { .. } => scene.subscriptions.ack(&id(text), request).await,
    }
}

pub(super) fn assert_fenced(answer: Result<Acked, SubscriptionError>, text: &str) -> Result<(), Failed> {
    match answer {
        Err(SubscriptionError::NotFound | SubscriptionError::Lease(LeaseRefusal::Fenced { .. })) => Ok(()),
        Err(SubscriptionError::Engine(_)) => Err(Failed),
        other => panic!("{text}: one who was fenced off is answered {other:?}"),
    }
}
