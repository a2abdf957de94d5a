//! A runtime's part for the rules: keeps what is to be durable, notes which streams move, and forgets all else when the
//! process ends.

use std::collections::{BTreeMap, BTreeSet};

use tailwater_stream::subscription::{
    Ack, AckCommand, Change, Delivery, LeaseRefusal, Link, Observed, Pattern, Phase, SendOutcome,
    SubscriptionState, Tail, WakeId, WokenStream,
};
use tailwater_stream::{
    Lineage, NameLimits, OffsetToken, Position, StreamId, StreamName, Subscription, SubscriptionConfig,
    Timestamp,
};

use super::event::{Event, LEASE_TTL_MS, NAMED, Outcome, PATTERN, Place, STREAMS};
use super::naive::Said;

/// What survives the end of the process.
#[derive(Default)]
struct Stored {
    state: SubscriptionState,
    links: BTreeMap<StreamName, Link>,
}

/// A wake, and what somebody was told of it.
#[derive(Clone)]
struct Wake {
    id: WakeId,
    generation: u64,
    told: Vec<WokenStream>,
}

pub(crate) struct Driver {
    config: SubscriptionConfig,
    subscription: Subscription,
    stored: Stored,
    noted: BTreeSet<usize>,
    streams: [Option<Tail>; STREAMS.len()],
    ids: u64,
    wakes: Vec<Wake>,
    random: u128,
    now_ms: u64,
}

fn name(stream: usize) -> StreamName {
    StreamName::parse(STREAMS[stream], NameLimits::default()).expect("a name")
}

impl Driver {
    pub(crate) fn new(is_pull: bool) -> Self {
        let delivery = if is_pull {
            Delivery::PullWake {
                wake_stream: StreamName::parse("jobs/wakes", NameLimits::default()).expect("a name"),
            }
        } else {
            Delivery::Webhook {
                url: "https://worker.example/".into(),
            }
        };
        let config = SubscriptionConfig {
            delivery,
            pattern: Some(Pattern::parse(PATTERN).expect("a pattern")),
            streams: BTreeSet::new(),
            lease_ttl_ms: LEASE_TTL_MS,
            description: None,
        };
        let state = SubscriptionState::default();
        let mut driver = Self {
            subscription: Subscription::new(config.clone(), Timestamp::default(), state),
            config,
            stored: Stored::default(),
            noted: BTreeSet::new(),
            streams: [const { None }; STREAMS.len()],
            ids: 0,
            wakes: Vec::new(),
            random: 0,
            now_ms: 0,
        };
        for (stream, name) in STREAMS.iter().enumerate() {
            if NAMED.contains(name) {
                driver.name_stream(stream);
            }
        }
        driver
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_ms)
    }

    fn fresh(&mut self) -> WakeId {
        self.random += 1;
        WakeId::new(self.random)
    }

    fn link(&self, stream: usize) -> Option<Link> {
        self.stored.links.get(&name(stream)).copied()
    }

    fn observed(&self, stream: usize) -> Observed {
        Observed {
            stream: name(stream),
            link: self.link(stream),
            tail: self.streams[stream].clone(),
        }
    }

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::State(state) => {
                    if state.generation > self.stored.state.generation {
                        self.wakes.push(Wake {
                            id: state.phase.wake().expect("a wake"),
                            generation: state.generation,
                            told: Vec::new(),
                        });
                    }
                    self.stored.state = state.clone();
                }
                Change::Link { stream, link } => match link {
                    Some(link) => drop(self.stored.links.insert(stream.clone(), *link)),
                    None => drop(self.stored.links.remove(stream)),
                },
                Change::Pending { .. } | Change::Settled { .. } => {}
            }
            self.subscription.apply(change);
        }
    }

    pub(crate) fn step(&mut self, event: &Event) -> Said {
        let said = self.happen(event);
        if !matches!(event, Event::Nap { .. }) {
            self.settle();
        }
        said
    }

    fn happen(&mut self, event: &Event) -> Said {
        match event {
            Event::Create { stream } => {
                self.ids += 1;
                let id = StreamId::new(self.ids).expect("an id");
                self.streams[*stream].get_or_insert(Tail {
                    lineage: Lineage::root(id),
                    position: Position::ZERO,
                });
                self.noted.insert(*stream);
            }
            Event::Append { stream, bytes } => {
                if let Some(tail) = &mut self.streams[*stream] {
                    tail.position = tail.position.advance(*bytes).expect("a position");
                }
                self.noted.insert(*stream);
            }
            Event::Delete { stream } => {
                self.streams[*stream] = None;
                self.noted.insert(*stream);
            }
            Event::Replace { stream, bytes } => {
                self.ids += 1;
                if let Some(tail) = &mut self.streams[*stream] {
                    *tail = Tail {
                        lineage: Lineage::root(StreamId::new(self.ids).expect("an id")),
                        position: Position::new(*bytes).expect("a position"),
                    };
                    self.noted.insert(*stream);
                }
            }
            Event::Name { stream } => self.name_stream(*stream),
            Event::Unname { stream } => {
                let changes = self
                    .subscription
                    .remove_stream(&name(*stream), self.link(*stream));
                self.apply(&changes);
                self.noted.insert(*stream);
            }
            Event::Claim { worker } => return self.claim(*worker),
            Event::Ack { back, acks, done } => return self.ack(*back, acks, *done),
            Event::Release { back } => return self.release(*back),
            Event::Sent { back, outcome } => self.sent(*back, *outcome),
            Event::Wait { ms } | Event::Nap { ms } => self.now_ms += ms,
            Event::Restart => {
                let state = self.stored.state.clone();
                self.subscription = Subscription::new(self.config.clone(), Timestamp::default(), state);
                self.noted = (0..STREAMS.len()).collect();
            }
        }
        Said::Nothing
    }

    fn name_stream(&mut self, stream: usize) {
        let changes = self.subscription.add_streams(&[self.observed(stream)], 100);
        self.apply(&changes.expect("few streams"));
        self.noted.insert(stream);
    }

    fn claim(&mut self, worker: u8) -> Said {
        let fresh = self.fresh();
        match self
            .subscription
            .claim(&format!("worker-{worker}"), self.now(), fresh)
        {
            Ok(decided) => {
                self.apply(&decided.changes);
                let told = self.subscription.snapshot(usize::MAX);
                let wake = self.wakes.last_mut().expect("a wake");
                if (wake.id, wake.generation) != (decided.answer.wake, decided.answer.generation) {
                    return Said::Broken;
                }
                wake.told = told;
                Said::Claimed {
                    generation: decided.answer.generation,
                }
            }
            Err(refusal) => said(&refusal),
        }
    }

    fn command(&self, wake: &Wake, acks: Vec<Ack>, done: bool) -> AckCommand {
        AckCommand {
            token_generation: wake.generation,
            generation: wake.generation,
            wake: Some(wake.id),
            acks,
            done,
        }
    }

    fn ack(&mut self, back: usize, acks: &[(usize, Place)], done: bool) -> Said {
        let Some(wake) = self.wakes.iter().rev().nth(back).cloned() else {
            return Said::Nothing;
        };
        let acks = acks
            .iter()
            .map(|(stream, place)| self.place(&wake, *stream, *place));
        let command = self.command(&wake, acks.collect(), done);
        let (now, fresh) = (self.now(), self.fresh());
        let decided = match self.config.delivery {
            Delivery::Webhook { .. } => self.subscription.callback(&command, now, fresh),
            Delivery::PullWake { .. } => self.subscription.ack(&command, now, fresh),
        };
        match decided {
            Ok(decided) => {
                self.apply(&decided.changes);
                Said::Acked {
                    next_wake: decided.answer.next_wake,
                }
            }
            Err(refusal) => said(&refusal),
        }
    }

    fn place(&self, wake: &Wake, stream: usize, place: Place) -> Ack {
        let told = wake.told.iter().find(|told| told.stream == name(stream));
        let tail = told.map(|told| &told.tail).or(self.streams[stream].as_ref());
        let offset = match place {
            Place::AsTold => tail.map_or(OffsetToken::START, Tail::token),
            Place::Start => OffsetToken::START,
            Place::Beyond => self.streams[stream].as_ref().map_or(OffsetToken::START, |tail| {
                tail.lineage
                    .token(tail.position.advance(1_000).expect("a position"))
            }),
        };
        Ack {
            stream: name(stream),
            offset,
            link: self.link(stream),
            tail: self.streams[stream].clone(),
        }
    }

    fn release(&mut self, back: usize) -> Said {
        let Some(wake) = self.wakes.iter().rev().nth(back).cloned() else {
            let is_pull = self.config.wake_stream().is_some();
            return if is_pull { Said::Nothing } else { Said::WrongType };
        };
        let command = self.command(&wake, Vec::new(), false);
        let (now, fresh) = (self.now(), self.fresh());
        match self.subscription.release(&command, now, fresh) {
            Ok(decided) => {
                self.apply(&decided.changes);
                Said::Nothing
            }
            Err(refusal) => said(&refusal),
        }
    }

    fn sent(&mut self, back: usize, outcome: Outcome) {
        let Some(wake) = self.wakes.iter().rev().nth(back).cloned() else {
            return;
        };
        let outcome = match outcome {
            Outcome::Taken => SendOutcome::Taken,
            Outcome::Done => SendOutcome::Done { streams: wake.told },
            Outcome::Failed => SendOutcome::Failed {
                error: "no answer".into(),
            },
        };
        let (now, fresh) = (self.now(), self.fresh());
        let changes = self.subscription.sent(wake.id, &outcome, now, 0, fresh);
        self.apply(&changes);
    }

    fn settle(&mut self) {
        let noted: Vec<_> = std::mem::take(&mut self.noted)
            .into_iter()
            .map(|stream| self.observed(stream))
            .collect();
        let changes = self.subscription.observe(&noted);
        self.apply(&changes);
        let before = self.generation();
        let (now, fresh) = (self.now(), self.fresh());
        let ended = self.subscription.expire(now, fresh);
        self.apply(ended.as_slice());
        let called_off = self.subscription.call_off();
        self.apply(called_off.as_slice());
        let woken = self.subscription.wake(now, fresh);
        self.apply(woken.as_slice());
        if self.config.wake_stream().is_none()
            && let Some(wake) = self.wakes.last_mut()
            && (wake.generation > before || wake.told.is_empty())
        {
            wake.told = self.subscription.snapshot(usize::MAX);
        }
    }

    /// How far each stream that exists and is linked has been processed.
    pub(crate) fn cursors(&self) -> Vec<(&'static str, u64)> {
        let cursor = |stream: usize| {
            let tail = self.streams[stream].as_ref()?;
            let wanted = self.config.wants(&name(stream)).then_some(Link::GLOB);
            let link = self.link(stream).or(wanted)?;
            let acked = if tail.knows(link.acked) {
                link.acked.position().get()
            } else {
                0
            };
            Some((STREAMS[stream], acked))
        };
        (0..STREAMS.len()).filter_map(cursor).collect()
    }

    pub(crate) fn pending(&self) -> Vec<(&'static str, u64, u64)> {
        let pending = |stream: usize| {
            let pending = self.subscription.pending().get(&name(stream))?;
            let acked = pending.link.acked.position().get();
            Some((STREAMS[stream], acked, pending.tail.position.get()))
        };
        (0..STREAMS.len()).filter_map(pending).collect()
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.subscription.pending_bytes()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.subscription.state.generation
    }

    pub(crate) fn holder(&self) -> Option<Option<String>> {
        match &self.subscription.state.phase {
            Phase::Held { holder, .. } => Some(holder.as_ref().map(ToString::to_string)),
            Phase::Idle | Phase::Woken { .. } => None,
        }
    }

    pub(crate) fn has_wake(&self) -> bool {
        self.subscription.state.phase != Phase::Idle
    }
}

fn said(refusal: &LeaseRefusal) -> Said {
    match refusal {
        LeaseRefusal::WrongType { .. } => Said::WrongType,
        LeaseRefusal::AlreadyClaimed { holder, .. } => Said::AlreadyClaimed {
            holder: holder.to_string(),
        },
        LeaseRefusal::NoPendingWork => Said::NoPendingWork,
        LeaseRefusal::Fenced { .. } => Said::Fenced,
        LeaseRefusal::NotLinked { .. } => Said::NotLinked,
        LeaseRefusal::UnknownOffset { .. } => Said::UnknownOffset,
        LeaseRefusal::Regress { .. } => Said::Regress,
    }
}
