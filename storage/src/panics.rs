//! Tasks that have to run as long as the process. One that panics is told of, counted, and begun again by whoever owns it;
//! without that nobody would know that it is gone, and what it does would not be done until the next start.
//!
//! Knows nothing of what the tasks do.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::stats::Counter;

/// A task that panicked is begun again after so long, so that one that always does takes no processor for itself.
const PAUSE: Duration = Duration::from_secs(1);

/// What runs in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Task {
    /// Accepts connections of clients.
    Connections,
    /// Accepts connections for metrics and health.
    MetricsPort,
    /// Accepts requests of operators on the same machine.
    ControlSocket,
    /// Reads the files of TLS again.
    TlsFiles,
    /// Gives turns to reads that wait.
    ReadTurns,
    /// Ends lifetimes, and evicts streams that nobody uses.
    Sweep,
    /// Answers those whose records are committed. If it panics, the storage has failed.
    Publisher,
    /// Takes the turns of a queue.
    Queue,
    /// Takes a turn of a schedule.
    Schedule,
    /// Finds out which schedules are due.
    ScheduleClock,
    /// Takes over schedules that imports bring.
    ScheduleImports,
    /// Takes a turn of a subscription, or sends a wake.
    Subscription,
    /// Finds out which subscriptions are due.
    SubscriptionClock,
    /// Hands streams that have moved to subscriptions.
    SubscriptionMoves,
    /// Looks for what has moved before the start.
    SubscriptionRecovery,
}

impl Task {
    /// All of them, in their order.
    pub const ALL: [Self; 15] = [
        Self::Connections,
        Self::MetricsPort,
        Self::ControlSocket,
        Self::TlsFiles,
        Self::ReadTurns,
        Self::Sweep,
        Self::Publisher,
        Self::Queue,
        Self::Schedule,
        Self::ScheduleClock,
        Self::ScheduleImports,
        Self::Subscription,
        Self::SubscriptionClock,
        Self::SubscriptionMoves,
        Self::SubscriptionRecovery,
    ];

    /// Its name in logs and metrics. Promised to stay.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::MetricsPort => "metrics_port",
            Self::ControlSocket => "control_socket",
            Self::TlsFiles => "tls_files",
            Self::ReadTurns => "read_turns",
            Self::Sweep => "sweep",
            Self::Publisher => "publisher",
            Self::Queue => "queue",
            Self::Schedule => "schedule",
            Self::ScheduleClock => "schedule_clock",
            Self::ScheduleImports => "schedule_imports",
            Self::Subscription => "subscription",
            Self::SubscriptionClock => "subscription_clock",
            Self::SubscriptionMoves => "subscription_moves",
            Self::SubscriptionRecovery => "subscription_recovery",
        }
    }
}

/// A task has panicked, which was told of and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// How often each task has panicked so far.
#[derive(Debug, Default)]
pub struct TaskPanics {
    counts: [Counter; Task::ALL.len()],
    #[cfg(any(test, feature = "planted-panics"))]
    planted: [std::sync::atomic::AtomicBool; Task::ALL.len()],
}

impl TaskPanics {
    /// How often a task has panicked.
    pub fn of(&self, task: Task) -> u64 {
        self.counts[task as usize].get()
    }

    /// Runs a task, or a part of its work.
    ///
    /// # Errors
    /// [`Panicked`]. What the work held is dropped by then.
    pub async fn watch<T>(&self, task: Task, work: impl Future<Output = T>) -> Result<T, Panicked> {
        let mut work = pin!(work);
        let ended = poll_fn(|context| {
            let poll = AssertUnwindSafe(|| {
                self.go_off(task);
                work.as_mut().poll(context)
            });
            // What has panicked is not polled again.
            catch_unwind(poll).map_or(Poll::Ready(Err(Panicked)), |polled| polled.map(Ok))
        });
        let ended = ended.await;
        if ended.is_err() {
            self.counts[task as usize].add(1);
            tracing::error!(
                task = task.name(),
                "a task of the server panicked, which is a bug; the panic's own lines say where: please report it"
            );
        }
        ended
    }

    /// Runs a task until it ends by itself. After a panic it is begun again.
    pub async fn keep<F: Future<Output = ()>>(&self, task: Task, mut begin: impl FnMut() -> F) {
        while self.watch(task, begin()).await.is_err() {
            Self::pause().await;
        }
    }

    /// Waits as long as is waited before a task that has panicked is begun again.
    pub async fn pause() {
        tokio::time::sleep(PAUSE).await;
    }

    /// Has a task panic when it runs next.
    #[cfg(any(test, feature = "planted-panics"))]
    pub fn plant(&self, task: Task) {
        self.planted[task as usize].store(true, std::sync::atomic::Ordering::SeqCst);
    }

    #[cfg(any(test, feature = "planted-panics"))]
    fn go_off(&self, task: Task) {
        let planted = self.planted[task as usize].swap(false, std::sync::atomic::Ordering::SeqCst);
        assert!(!planted, "a planted panic of the task {}", task.name());
    }

    /// Tests plant panics, and nobody else.
    #[cfg(not(any(test, feature = "planted-panics")))]
    fn go_off(&self, _task: Task) {}
}

#[cfg(test)]
mod tests;
