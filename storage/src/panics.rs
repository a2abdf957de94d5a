//! Work that is watched for panics, each of which is told of and counted. A task that has to run as long as the process is
//! begun again by whoever owns it; without that nobody would know that it is gone, and what it does would not be done until
//! the next start. What serves one client ends, and its client is told if that is still possible.
//!
//! Knows nothing of what the work is.

use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::stats::Counter;

/// A task that panicked is begun again after so long, so that one that always does takes no processor for itself.
const PAUSE: Duration = Duration::from_secs(1);

/// What is watched: what runs in the background, and what serves one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Task {
    /// Finds the answer to one request.
    Request,
    /// Serves one connection, or sends one answer on it. It ends with a panic.
    ClientConnection,
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
    /// Looks for what has moved before the start, and takes over subscriptions that imports bring.
    SubscriptionRecovery,
}

impl Task {
    /// All of them, in their order.
    pub const ALL: [Self; 17] = [
        Self::Request,
        Self::ClientConnection,
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
            Self::Request => "request",
            Self::ClientConnection => "client_connection",
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

    /// Runs a task, or a part of its work, and answers [`Panicked`] if it panics. What the work held is dropped with what this
    /// gives, so by the time at which that has been awaited.
    pub fn watch<F: Future>(&self, task: Task, work: F) -> Watched<&Self, F> {
        Watched {
            panics: self,
            task,
            work,
        }
    }

    /// Likewise, for work that is spawned.
    pub fn watch_spawned<F: Future>(panics: &Arc<Self>, task: Task, work: F) -> Watched<Arc<Self>, F> {
        Watched {
            panics: Arc::clone(panics),
            task,
            work,
        }
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

    /// Does a part of a task's work, and answers [`Panicked`] if it panics.
    ///
    /// # Errors
    /// Then, and for nothing else.
    pub fn guard<T>(&self, task: Task, part: impl FnOnce() -> T) -> Result<T, Panicked> {
        let guarded = AssertUnwindSafe(|| {
            self.go_off(task);
            part()
        });
        catch_unwind(guarded).map_err(|_panic| {
            self.counts[task as usize].add(1);
            tracing::error!(
                task = task.name(),
                "a task of the server panicked, which is a bug; the panic's own lines say where: please report it"
            );
            Panicked
        })
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

pin_project! {
    /// Work that is watched. It takes no more room than the work itself, for connections and requests are many.
    #[must_use = "nothing is done before it is polled"]
    pub struct Watched<P, F> {
        panics: P,
        task: Task,
        #[pin]
        work: F,
    }
}

impl<P: Deref<Target = TaskPanics>, F: Future> Future for Watched<P, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let watched = self.project();
        let (panics, work): (&TaskPanics, _) = (watched.panics, watched.work);
        match panics.guard(*watched.task, || work.poll(context)) {
            Ok(polled) => polled.map(Ok),
            // What has panicked is not polled again.
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}

#[cfg(test)]
mod tests;
