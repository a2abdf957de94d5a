//! Wakes (PROTOCOL.md §7): when one is made, what becomes of an attempt to send it, and when it ends.

use super::config::Delivery;
use super::id::WakeId;
use super::state::{Change, Phase, SubscriptionState, Trouble};
use super::{Subscription, WokenStream, retry};
use crate::expiry::Timestamp;

/// What became of an attempt to hand a wake over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The receiver has it, or it stands in the wake stream.
    Taken,
    /// The receiver has processed all that it was told of.
    Done {
        /// What it was told of.
        streams: Vec<WokenStream>,
    },
    /// Neither.
    Failed {
        /// Why, for people.
        error: Box<str>,
    },
}

impl Subscription {
    /// Makes a wake if there is something new and nobody knows.
    pub fn wake(&self, now: Timestamp, fresh: WakeId) -> Option<Change> {
        (self.state.phase == Phase::Idle && !self.pending.is_empty())
            .then(|| Change::State(self.next_wake(self.state.clone(), now, fresh)))
    }

    /// Ends the lease if its time is over. If something is new, that makes the next wake.
    pub fn expire(&self, now: Timestamp, fresh: WakeId) -> Option<Change> {
        let is_over = self.state.lease_ends_at().is_some_and(|ends_at| now >= ends_at);
        is_over
            .then(|| Change::State(self.after_wake(self.state.clone(), now, fresh, !self.pending.is_empty())))
    }

    /// Takes back a wake that nobody was told of, because there is nothing new any more.
    pub fn call_off(&self) -> Option<Change> {
        let is_unknown = self.state.phase.wake().is_some() && !self.state.sent;
        let is_claimed = matches!(self.state.phase, Phase::Held { holder: Some(_), .. });
        (is_unknown && !is_claimed && self.pending.is_empty())
            .then(|| Change::State(idle(self.state.clone())))
    }

    /// Takes note of what became of an attempt to send `wake`. What is said of a wake that is no longer current moves no
    /// cursor; but a receiver that failed then is not likely to do better now.
    pub fn sent(
        &self,
        wake: WakeId,
        outcome: &SendOutcome,
        now: Timestamp,
        random: u64,
        fresh: WakeId,
    ) -> Vec<Change> {
        let is_current = self.state.phase.wake() == Some(wake)
            && self.state.lease_ends_at().is_none_or(|ends_at| now < ends_at);
        match outcome {
            SendOutcome::Failed { error } => vec![Change::State(self.after_failure(error, now, random))],
            SendOutcome::Done { streams } if is_current && !self.is_pull() => {
                self.after_done(streams, now, fresh)
            }
            SendOutcome::Taken | SendOutcome::Done { .. } => {
                let sent = self.state.sent || is_current;
                let state = SubscriptionState {
                    sent,
                    ..self.reached()
                };
                let is_new = state != self.state;
                is_new.then_some(Change::State(state)).into_iter().collect()
            }
        }
    }

    fn after_failure(&self, error: &str, now: Timestamp, random: u64) -> SubscriptionState {
        let failures = self.state.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        let failures = failures.saturating_add(1);
        let next_attempt_at = now.plus_millis(retry::pause_ms(failures, random));
        let mut phase = self.state.phase.clone();
        // A lease begins when its wake is sent. Until then the receiver may still be at work on the failed attempt.
        if let Phase::Held {
            holder: None,
            ends_at,
            ..
        } = &mut phase
            && !self.state.sent
        {
            *ends_at = next_attempt_at.plus_millis(self.config.lease_ttl_ms);
        }
        SubscriptionState {
            phase,
            trouble: Some(Trouble {
                failures,
                next_attempt_at,
                failed_at: now,
                error: cut(error, Trouble::ERROR_BYTES_MAX).into(),
            }),
            ..self.state.clone()
        }
    }

    fn after_done(&self, streams: &[WokenStream], now: Timestamp, fresh: WakeId) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut settled = 0;
        for told in streams {
            // A stream that was deleted meanwhile, or named no longer, has no cursor to move; nor does one whose cursor
            // a callback has moved further.
            let Some(pending) = self.pending.get(&told.stream) else {
                continue;
            };
            let acked = told.tail.token();
            if !pending.tail.knows(acked) || acked.position() <= pending.link.acked.position() {
                continue;
            }
            settled += usize::from(!pending.tail.is_behind(acked));
            changes.push(Change::Link {
                stream: told.stream.clone(),
                link: Some(pending.link.at(acked)),
            });
        }
        let more = self.pending.len() > settled;
        changes.push(Change::State(self.after_wake(self.reached(), now, fresh, more)));
        changes
    }

    pub(super) fn is_pull(&self) -> bool {
        matches!(self.config.delivery, Delivery::PullWake { .. })
    }

    /// The state in which the last wake has reached whom it was for.
    pub(super) fn reached(&self) -> SubscriptionState {
        SubscriptionState {
            sent: true,
            trouble: None,
            ..self.state.clone()
        }
    }

    pub(super) fn after_wake(
        &self,
        state: SubscriptionState,
        now: Timestamp,
        fresh: WakeId,
        more: bool,
    ) -> SubscriptionState {
        if more {
            self.next_wake(state, now, fresh)
        } else {
            idle(state)
        }
    }

    pub(super) fn next_wake(
        &self,
        state: SubscriptionState,
        now: Timestamp,
        wake: WakeId,
    ) -> SubscriptionState {
        let phase = if self.is_pull() {
            Phase::Woken { wake }
        } else {
            let trouble = state.trouble.as_ref();
            let sent_at = trouble.map_or(now, |trouble| now.max(trouble.next_attempt_at));
            Phase::Held {
                wake,
                holder: None,
                ends_at: sent_at.plus_millis(self.config.lease_ttl_ms),
            }
        };
        SubscriptionState {
            generation: state.generation + 1,
            phase,
            sent: false,
            ..state
        }
    }
}

/// The same state with nobody woken.
fn idle(state: SubscriptionState) -> SubscriptionState {
    SubscriptionState {
        phase: Phase::Idle,
        sent: false,
        ..state
    }
}

/// The longest beginning of a text that has at most `bytes_max` bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
