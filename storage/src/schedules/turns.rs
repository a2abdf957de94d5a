//! What is done in a schedule's turn: decide, store, append.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::schedule::{Fire, ScheduleState, Step};
use tailwater_stream::{AppendRefusal, ContentKind, Epoch, ProducerId, ProducerMark, Seq, Timestamp};

use super::opened::{Opened, Turn};
use super::{ScheduleError, Schedules, codec};
use crate::engine::{AppendError, AppendRequest, EngineError, OpenError};
use crate::panics::Task;

/// What could not be stored is tried again after so long.
const PAUSE_MS: u64 = 1_000;
/// Messages that are enqueued in one turn; the others come in the next, so that clients who ask are answered in between.
const FIRES_A_TURN: usize = 100;

impl Schedules {
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
        if panics.watch(Task::Schedule, turn).await.is_err() {
            self.pause(opened).await;
        }
    }

    /// A turn has panicked and has set no timer, without which there would be no other one.
    async fn pause(&self, opened: &Arc<Opened>) {
        opened.unschedule();
        if let Some(turn) = opened.turn.lock().await.as_mut() {
            let until = self.now().plus_millis(PAUSE_MS);
            turn.paused_until = Some(until);
            self.shared.timers.set(opened, &mut turn.timer, Some(until));
        }
    }

    /// Does all that is due. What cannot be stored is left to a later turn.
    pub(super) async fn settle(&self, opened: &Arc<Opened>, turn: &mut Turn) {
        let next = match self.try_settle(opened, turn).await {
            Ok(next) => next,
            // Its hidden stream was deleted or replaced by an import, which is told of by itself.
            Err(ScheduleError::NotFound) => None,
            Err(error) => {
                tracing::warn!(schedule = %opened.id, %error, "a schedule has to wait");
                let until = self.now().plus_millis(PAUSE_MS);
                turn.paused_until = Some(until);
                Some(until)
            }
        };
        self.shared.timers.set(opened, &mut turn.timer, next);
    }

    /// Answers when there is something to do again.
    async fn try_settle(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
    ) -> Result<Option<Timestamp>, ScheduleError> {
        let now = self.now();
        if let Some(until) = turn.paused_until
            && now < until
            && until.millis_since(now) <= PAUSE_MS
        {
            return Ok(Some(until));
        }
        turn.paused_until = None;
        let mut fires = 0;
        loop {
            let now = self.now();
            match turn.schedule.step(now, self.shared.limits.of_each) {
                Step::Wait(until) => return Ok(until),
                Step::Append(_) if fires == FIRES_A_TURN => return Ok(Some(now)),
                Step::Append(fire) => {
                    fires += 1;
                    self.enqueue(opened, turn, fire).await?;
                }
                Step::Store { state, has_misfired } => {
                    self.store(opened, turn, state).await?;
                    self.shared.stats.misfires.add(u64::from(has_misfired));
                }
            }
        }
    }

    /// Appends the message of a fire that has begun, and stores what became of it.
    ///
    /// # Errors
    /// If it is not known whether it was appended, or what became of it cannot be stored.
    pub(super) async fn enqueue(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        fire: Fire,
    ) -> Result<(), ScheduleError> {
        let appended = self.append(opened, turn, fire).await;
        let now = self.now();
        match appended {
            Ok(()) => {
                self.store(opened, turn, turn.schedule.done(now)).await?;
                self.shared.stats.fires.add(1);
            }
            Err(AppendError::Engine(error @ EngineError::Backend(_))) => return Err(error.into()),
            Err(refusal) => {
                self.shared.stats.failures.add(1);
                let error = format!("the stream `{}`: {refusal}", turn.schedule.config.stream);
                tracing::info!(schedule = %opened.id, %error, "a message was not enqueued");
                let failed = turn.schedule.failed(error.into(), now, fastrand::u64(..));
                self.store(opened, turn, failed).await?;
            }
        }
        Ok(())
    }

    /// The fire is the only request of its own epoch, so that one that is appended again after a restart is known as a
    /// repetition.
    async fn append(&self, opened: &Opened, turn: &Turn, fire: Fire) -> Result<(), AppendError> {
        let engine = &self.shared.engine;
        let stream = &turn.schedule.config.stream;
        let reader = engine.look(stream).await.map_err(|error| match error {
            OpenError::NotFound => AppendError::NotFound,
            OpenError::Gone => AppendError::Gone,
            OpenError::Engine(error) => error.into(),
        })?;
        let content_type = reader.incarnation().content_type.clone();
        if content_type.kind() != ContentKind::Json {
            let expected = content_type;
            return Err(AppendRefusal::ContentType { expected }.into());
        }
        let producer = producer(opened, turn, fire);
        let request = AppendRequest {
            body: Bytes::from(one_message(&turn.schedule.message(&opened.id, fire))),
            content_type: Some(content_type),
            producer: Some(producer),
            ..AppendRequest::default()
        };
        engine.append(stream, request).await.map(drop)
    }

    /// Makes a state durable, and then applies it.
    pub(super) async fn store(
        &self,
        opened: &Opened,
        turn: &mut Turn,
        state: ScheduleState,
    ) -> Result<(), ScheduleError> {
        let changes = vec![(
            Bytes::from_static(codec::STATE_KEY),
            Some(codec::encode_state(&state)),
        )];
        self.shared
            .engine
            .change_hidden(&opened.id.stream(), turn.stream, changes)
            .await?;
        turn.schedule.state = state;
        Ok(())
    }
}

/// A body is split if it is an array; in one, a payload that is an array stays one message.
fn one_message(message: &str) -> String {
    format!("[{message}]")
}

/// Another schedule of the same id is another producer.
fn producer(opened: &Opened, turn: &Turn, fire: Fire) -> ProducerMark {
    let id = format!("{}/{}", opened.id.stream(), turn.stream);
    ProducerMark {
        id: ProducerId::parse(&id).expect("ids of schedules are short enough"),
        epoch: Epoch::new(fire.number).expect("nobody fires that often"),
        seq: Seq::ZERO,
    }
}
