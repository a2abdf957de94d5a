//! What cannot be brought about from outside: what becomes of those who ask in the very moment in which something else fails.

use std::sync::Arc;

use serde_json::Map;
use tailwater_stream::queue::{Envelope, JsonText};
use tailwater_stream::{NameLimits, StreamName};
use tokio::sync::oneshot;

use super::opened::{Command, Enqueuer, Opened};
use super::pending::Pending;
use super::{QueueLimits, Queues};
use crate::clock::{Clock, ManualClock};
use crate::{Engine, EngineLimits, Memory};

const LIMITS: QueueLimits = QueueLimits {
    queues_max: 1,
    held_jobs_max: 10,
    lease_ms_max: 60_000,
    names: NameLimits::NONE,
};

fn name(text: &str) -> StreamName {
    StreamName::parse(text, NameLimits::NONE).expect("a name")
}

/// The queue `q` among all there are.
async fn queue() -> (Queues, Arc<Opened>) {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at_millis(1_000));
    let memory = Arc::new(Memory::new(1 << 30));
    let engine = Engine::start(memory, clock, EngineLimits::default()).expect("memory works");
    let queues = Queues::start(engine, LIMITS).await.expect("memory works");
    queues.put(&name("q"), &Map::new()).await.expect("made");
    let opened = queues.find(&name("q")).await.expect("there");
    (queues, opened)
}

/// They were dropped, and told that there is no such queue.
#[tokio::test]
async fn whoever_enqueues_waits_when_the_queue_has_to_be_loaded_anew() {
    let (queues, opened) = queue().await;
    let mut turn = opened.lock().await;
    let turn = turn.as_mut().expect("made");
    turn.is_stale = true;
    let (answer, mut answered) = oneshot::channel();
    let envelope = Envelope::of_payload(JsonText::null());
    let mut pending = Pending::default();
    let enqueuers = vec![Enqueuer { envelope, answer }];
    let left = queues.enqueue_all(turn, enqueuers, &mut pending).await;
    assert_eq!(left.len(), 1);
    let unanswered = Err(oneshot::error::TryRecvError::Empty);
    assert_eq!(answered.try_recv().map(|_told| ()), unanswered);
}

/// It waited for a turn that never came, and whoever had asked for its answer.
#[tokio::test]
async fn a_command_that_is_put_back_when_the_queue_is_gone_is_dropped() {
    let (_queues, opened) = queue().await;
    let (answer, mut answered) = oneshot::channel();
    let left = vec![Command::Beat {
        run: name("r"),
        epoch: 1,
        came_ms: 0,
        answer,
    }];
    opened.set_gone();
    opened.put_back(left);
    let dropped = Err(oneshot::error::TryRecvError::Closed);
    assert_eq!(answered.try_recv().map(|_told| ()), dropped);
}
