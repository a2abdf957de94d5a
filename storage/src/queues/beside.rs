//! What is decided beside records that are on their way: commands that have come since, and messages that have become
//! durable. So one commit follows the other without waiting for answers and for what these lead to.
//!
//! All that was decided rests on what was accepted before, and falls with it. What is due by itself, and what others do to the
//! queue in turns of their own, has its turn only once nothing is on its way.

use std::pin::Pin;
use std::sync::Arc;

use tailwater_stream::Position;
use tokio::sync::watch;

use super::Queues;
use super::admit::MESSAGE_BYTES_MAX;
use super::error::QueueError;
use super::opened::{Command, Opened, Turn, now_of};
use super::pending::Pending;
use crate::engine::{Settled, View};

/// No more is decided beside so many records that are on their way.
const RECORDS_MAX: usize = 1_024;

/// Whether anything is decided beside what is on its way, and since when.
pub(super) struct Beside<'v> {
    /// Tells of messages that have become durable; none if nothing is decided any more.
    view: Option<&'v mut watch::Receiver<View>>,
    /// Up to where messages had been looked at when it began.
    admitted: Position,
    trouble: Option<QueueError>,
}

impl<'v> Beside<'v> {
    /// Nothing is decided.
    pub(super) fn nothing() -> Self {
        Self {
            view: None,
            admitted: Position::ZERO,
            trouble: None,
        }
    }

    /// All that can be is decided.
    pub(super) fn all(turn: &Turn, view: &'v mut watch::Receiver<View>) -> Self {
        Self {
            view: Some(view),
            admitted: turn.queue.state().admitted.position,
            trouble: None,
        }
    }

    /// Nothing more is decided.
    pub(super) fn end(&mut self) {
        self.view = None;
    }

    /// Why no more could be decided.
    pub(super) fn trouble(self) -> Option<QueueError> {
        self.trouble
    }

    fn fail(&mut self, error: QueueError) {
        self.end();
        self.trouble = Some(error);
    }
}

impl Queues {
    /// Decides what comes until it is known what became of a record.
    pub(super) async fn decide_beside(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        pending: &mut Pending,
        beside: &mut Beside<'_>,
        mut settled: Pin<&mut impl Future<Output = Settled>>,
    ) -> Settled {
        loop {
            if !self.may_go_on(opened, turn, pending, beside) {
                beside.end();
            }
            let Some(view) = beside.view.as_mut() else {
                return settled.await;
            };
            tokio::select! {
                biased;
                settled = &mut settled => return settled,
                () = opened.bell.notified() => {}
                Ok(()) = view.changed() => {}
            }
            // Others have their turns, however much comes.
            tokio::task::consume_budget().await;
            if !self.may_go_on(opened, turn, pending, beside) {
                // What has come is for the next turn.
                opened.bell.notify_one();
                continue;
            }
            match self.decide_what_has_come(opened, turn, pending).await {
                // That is put right once nothing is on its way.
                Ok(()) | Err(QueueError::Adrift { .. }) => {}
                Err(error) => {
                    self.note_trouble(opened, turn, &error);
                    beside.fail(error);
                }
            }
        }
    }

    /// Whether nothing has to wait until nothing is on its way.
    fn may_go_on(&self, opened: &Opened, turn: &Turn, pending: &Pending, beside: &Beside<'_>) -> bool {
        let is_in_order = !turn.is_stale && turn.adrift.is_empty() && turn.stream.footing() == turn.footing;
        // What comes behind something that finds no space falls with it.
        let has_space = turn.paused_until_ms.is_none() && turn.finds_space;
        let admitted = turn.queue.state().admitted.position.since(beside.admitted);
        is_in_order
            && has_space
            && !opened.is_wanted()
            && !self.is_stopping()
            && pending.len() < RECORDS_MAX
            && admitted < MESSAGE_BYTES_MAX
            && self.due_by_itself_ms(turn).is_none_or(|due_ms| due_ms > 0)
    }

    async fn decide_what_has_come(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        pending: &mut Pending,
    ) -> Result<(), QueueError> {
        let now = now_of(&self.shared.engine);
        turn.rates.note(now.monotonic_ms, turn.queue.state().counters);
        let (mut enqueuers, mut left) = (Vec::new(), Vec::new());
        self.decide(turn, opened.take_commands(), &mut enqueuers, &mut left, pending)
            .await;
        let later = self.enqueue_all(turn, enqueuers, pending).await;
        left.extend(later.into_iter().map(Command::Enqueue));
        let mut done = Ok(());
        if !turn.is_stale {
            done = self.admit(turn, pending).await.map(drop);
            opened.ring_for_messages(turn);
        }
        if !turn.is_stale {
            done = done.and(self.serve(opened, turn, pending).await);
        }
        opened.put_back(left);
        self.count_if_asked(opened, turn);
        done
    }
}
