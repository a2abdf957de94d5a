//! Why operations on queues and runs are refused.

use tailwater_stream::queue::event::job_text;
use tailwater_stream::queue::{ConfigRefusal, EnvelopeRefusal, RunState, WorkerRefusal};
use tailwater_stream::{AppendRefusal, ContentType, ForkRefusal, Position, StreamName};

use crate::backend::BackendError;
use crate::engine::{CreateError, EngineError, HiddenError, OpenError, ReadFailure};

/// Why a stream does not become a queue.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnfitStream {
    /// It holds no JSON.
    #[error("`{stream}` holds {content_type}, and jobs are JSON")]
    NotJson {
        /// The stream.
        stream: StreamName,
        /// What it holds.
        content_type: ContentType,
    },
    /// It ends by itself.
    #[error("`{stream}` has a lifetime, and a queue may not end by itself")]
    HasLifetime {
        /// The stream.
        stream: StreamName,
    },
    /// It is a fork.
    #[error("`{stream}` is a fork, and the jobs that it inherits are not its own")]
    Fork {
        /// The stream.
        stream: StreamName,
    },
    /// It is a run.
    #[error("`{stream}` is a run")]
    Run {
        /// The stream.
        stream: StreamName,
    },
    /// It is a queue, and is to have dead letters.
    #[error("`{stream}` is a queue, and dead letters are no jobs")]
    Queue {
        /// The stream.
        stream: StreamName,
    },
    /// It has the dead letters of a queue, and is to be one.
    #[error("`{stream}` has the dead letters of the queue `{queue}`, which are no jobs")]
    DeadLetters {
        /// The stream.
        stream: StreamName,
        /// Whose they are.
        queue: StreamName,
    },
    /// The name belongs to a deleted stream that forks still refer to.
    #[error("`{stream}` was deleted and still has forks")]
    Deleted {
        /// The stream.
        stream: StreamName,
    },
    /// It stands in another partition than the queue's own stream.
    #[error("`{stream}` is stored apart from the queue, and one record cannot change both")]
    Apart {
        /// The stream.
        stream: StreamName,
    },
}

/// Why an operation on a queue or a run is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// There is no queue of that name.
    #[error("there is no such queue")]
    NotFound,
    /// The queue's turn panicked, and it is not known whether the command was carried out.
    #[error("the queue's turn was cut off by a bug, and whether this was done is not known")]
    Interrupted,
    /// The runtime of queues does nothing more.
    #[error("the server is stopping")]
    Stopping,
    /// There is no run of that name.
    #[error("there is no such run")]
    RunNotFound,
    /// The queue is being deleted.
    #[error("the queue is being deleted")]
    Deleting,
    /// There are as many as there may be.
    #[error("there are {queues_max} queues already")]
    TooMany {
        /// How many there may be.
        queues_max: usize,
    },
    /// It cannot be made like that.
    #[error(transparent)]
    Config(#[from] ConfigRefusal),
    /// It exists, and that cannot be changed.
    #[error("the queue exists, and its {field} cannot be changed")]
    Unchangeable {
        /// What.
        field: &'static str,
    },
    /// Another queue names its runs alike.
    #[error("the runs of the queue `{queue}` are named alike")]
    PrefixTaken {
        /// The other queue.
        queue: StreamName,
    },
    /// Jobs of the queue would have the numbers of those that an earlier stream of its name had.
    #[error("`{run}` is a run of an earlier stream of this name, whose numbers come again")]
    NumberTaken {
        /// The first such run.
        run: StreamName,
    },
    /// The stream cannot be a queue, or not its dead letters.
    #[error(transparent)]
    Unfit(#[from] UnfitStream),
    /// The queue's stream is closed.
    #[error("the queue's stream is closed")]
    Closed,
    /// The queue's stream takes no more.
    #[error(transparent)]
    Append(AppendRefusal),
    /// What is enqueued cannot be meant.
    #[error(transparent)]
    Envelope(#[from] EnvelopeRefusal),
    /// There is a run of that id with another payload.
    #[error("the run `{run}` has another payload")]
    Conflict {
        /// The run.
        run: StreamName,
    },
    /// A stream that is no run of the job has the name of the run.
    #[error("`{run}` is a stream, but no run of this job")]
    NameTaken {
        /// The name.
        run: StreamName,
    },
    /// A deleted stream had the name of the run, and its forks are still there.
    #[error("`{run}` was deleted, and forks of it are still there")]
    NameHeldByForks {
        /// The name.
        run: StreamName,
    },
    /// The stream that has the name of the run cannot be read.
    #[error("`{run}` cannot be read, because its stream is damaged")]
    RunDamaged {
        /// The name.
        run: StreamName,
    },
    /// The job is in the queue's stream, and whether its run may begin was not found out yet.
    #[error("the job is in the queue as {}, and its run `{run}` has not begun yet", job_text(*.job))]
    Undecided {
        /// The job.
        job: Position,
        /// The run that it is to have.
        run: StreamName,
    },
    /// What a worker says does not count.
    #[error(transparent)]
    Worker(#[from] WorkerRefusal),
    /// The worker's events before this are missing, or this number was used already.
    #[error("sequence number {expected} is expected next, but {received} came")]
    Seq {
        /// The next one.
        expected: u64,
        /// The one that came.
        received: u64,
    },
    /// The run has not ended.
    #[error("the run has not ended: it is {}", .state.name())]
    NotEnded {
        /// Where it stands.
        state: RunState,
    },
    /// The run has no checkpoint.
    #[error("the run has no checkpoint")]
    NoCheckpoint,
    /// A run cannot branch off there.
    #[error(transparent)]
    Fork(#[from] ForkRefusal),
    /// There is no such dead letter.
    #[error("there is no such dead letter")]
    DeadNotFound,
    /// The dead letter was no job.
    #[error("the dead letter was no job: {0}")]
    DeadInvalid(EnvelopeRefusal),
    /// The run of the dead letter is gone, and so is what its stream said of it.
    #[error("the dead letter has no run, and its stream does not have it any more")]
    DeadLost,
    /// A run is not as the queue has it: an import has brought the one without the other, or each as of another moment, or its
    /// stream is damaged.
    #[error("the run `{run}` is not as its queue has it")]
    Adrift {
        /// The run.
        run: StreamName,
    },
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl QueueError {
    /// Whether something that is stored is not what was written, which to wait does not mend.
    pub(super) fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Engine(EngineError::Backend(BackendError::Damaged { .. }))
        )
    }
}

impl From<BackendError> for QueueError {
    fn from(error: BackendError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<OpenError> for QueueError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotFound | OpenError::Gone => Self::NotFound,
            OpenError::Engine(error) => Self::Engine(error),
        }
    }
}

impl From<ReadFailure> for QueueError {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Gone | ReadFailure::Trimmed { .. } => Self::RunNotFound,
            ReadFailure::Engine(error) => Self::Engine(error),
        }
    }
}

impl From<HiddenError> for QueueError {
    fn from(error: HiddenError) -> Self {
        match error {
            HiddenError::Gone => Self::NotFound,
            HiddenError::Engine(error) => Self::Engine(error),
        }
    }
}

impl From<CreateError> for QueueError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Fork(refusal) => Self::Fork(refusal),
            CreateError::Engine(error) => Self::Engine(error),
            CreateError::Refused(_)
            | CreateError::HeldByForks
            | CreateError::SourceNotFound
            | CreateError::SourceGone
            | CreateError::ForkContentType { .. } => Self::RunNotFound,
        }
    }
}

/// What is stored of a queue is not what was written.
pub(super) fn damaged(place: &str, malformed: crate::codec::Malformed) -> QueueError {
    let what = format!("{malformed} in {place}");
    BackendError::Damaged { what }.into()
}
