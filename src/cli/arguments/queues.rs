//! What can be typed behind `tailwater queue` and `tailwater run`, with its help. Does nothing.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::{Connection, parse_name};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum QueueCommand {
    /// Make a stream a queue, or change the settings of one
    ///
    /// The stream is created if there is none. What is not given has its default, also if the queue is there already.
    #[command(after_help = "Example:\n  tailwater queue create jobs/mails --lease-ms 30000 --max-attempts 5")]
    Create(QueueCreateOptions),

    /// List queues, one a line
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  tailwater queue list --json | jq .ready"
    )]
    List(QueueListOptions),

    /// Show a queue with its settings and how much is ready, leased, scheduled and dead, as JSON
    #[command(after_help = "Example:\n  tailwater queue stats jobs/mails | jq .ready")]
    Stats(QueueOptions),

    /// Enqueue a job: PAYLOAD, or the JSON on stdin. Prints the run, which `tailwater run tail` follows
    #[command(
        after_help = "Example:\n  tailwater queue enqueue jobs/mails '{\"to\": \"ada\"}' --id mail-42\n  \
                      tailwater run tail runs/jobs/mails/mail-42"
    )]
    Enqueue(QueueEnqueueOptions),

    /// Claim jobs and run a program for each, with the payload on its stdin
    ///
    /// Lines that the program writes to stdout and stderr become events of the run. It is done if the program exits with
    /// 0. With 75 it is tried again after --retry-after-ms, with 65 never again, and with anything else as the queue's
    /// settings say. A program whose run is called off, or that has lost it to another worker, gets SIGTERM, and SIGKILL
    /// after --kill-after-ms; so do those that it has started. It has TAILWATER_QUEUE, TAILWATER_RUN, TAILWATER_JOB,
    /// TAILWATER_ATTEMPT and TAILWATER_EPOCH in its environment. Prints each run and what became of it.
    ///
    /// On SIGTERM and Ctrl-C no more jobs are claimed. Programs that have not ended after --grace-ms, or at the second
    /// signal, are ended, and their jobs given to others.
    #[command(after_help = "Example:\n  tailwater queue work jobs/mails --exec ./send-mail --concurrency 8")]
    Work(QueueWorkOptions),

    /// List jobs that were given up, one JSON object a line
    #[command(after_help = "Example:\n  tailwater queue dead jobs/mails | jq .reason")]
    Dead(QueueOptions),

    /// Enqueue jobs again that were given up
    ///
    /// One that has a run is tried anew as a fork of it, any other one as a job of its own.
    #[command(after_help = "Example:\n  tailwater queue redrive jobs/mails --all")]
    Redrive(QueueRedriveOptions),

    /// Let nobody claim, while jobs can still be enqueued and workers go on with what they have
    #[command(after_help = "Example:\n  tailwater queue pause jobs/mails")]
    Pause(QueueOptions),

    /// Let workers claim again
    #[command(after_help = "Example:\n  tailwater queue resume jobs/mails")]
    Resume(QueueOptions),

    /// Cancel jobs that are ready, or forget those that were given up
    #[command(after_help = "Example:\n  tailwater queue purge jobs/mails --what dead")]
    Purge(QueuePurgeOptions),

    /// Make a queue a plain stream again. What is open is cancelled
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  tailwater queue delete jobs/mails"
    )]
    Delete(QueueOptions),
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RunCommand {
    /// Show how a run stands, as JSON
    #[command(after_help = "Example:\n  tailwater run show runs/jobs/mails/mail-42 | jq .state")]
    Show(RunOptions),

    /// Print the events of a run as they come, until it ends
    #[command(
        after_help = "Example:\n  tailwater run tail runs/jobs/mails/mail-42 | jq -r 'select(.type==\"log\").line'"
    )]
    Tail(RunTailOptions),

    /// Call a run off
    #[command(
        after_help = "Example:\n  tailwater run cancel runs/jobs/mails/mail-42 --reason 'wrong address'"
    )]
    Cancel(RunCancelOptions),

    /// Run an ended run again, as a new one that has the old one's events. Prints the new run
    #[command(after_help = "Example:\n  tailwater run retry runs/jobs/mails/mail-42 --from checkpoint")]
    Retry(RunRetryOptions),
}

/// A command on one queue.
#[derive(Debug, Args)]
pub(in crate::cli) struct QueueOptions {
    /// The queue's stream
    #[arg(value_parser = parse_name)]
    pub(in crate::cli) stream: String,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct QueueCreateOptions {
    #[command(flatten)]
    pub(in crate::cli) queue: QueueOptions,
    /// How long a worker may be silent
    #[arg(long, value_name = "MILLISECONDS")]
    pub(in crate::cli) lease_ms: Option<u64>,
    /// Attempts before a job is given up
    #[arg(long, value_name = "COUNT")]
    pub(in crate::cli) max_attempts: Option<u64>,
    /// The pause behind the first failure; it doubles with each further one
    #[arg(long, value_name = "MILLISECONDS")]
    pub(in crate::cli) backoff_base_ms: Option<u64>,
    /// No pause is longer
    #[arg(long, value_name = "MILLISECONDS")]
    pub(in crate::cli) backoff_cap_ms: Option<u64>,
    /// How much of a pause is left to chance, from 0 to 1
    #[arg(long, value_name = "SHARE")]
    pub(in crate::cli) backoff_jitter: Option<f64>,
    /// Jobs that all workers together may have at once
    #[arg(long, value_name = "COUNT")]
    pub(in crate::cli) concurrency: Option<u64>,
    /// A JSON pointer into the payload: only --concurrency-per-key jobs with an equal value there at once
    #[arg(long, value_name = "POINTER")]
    pub(in crate::cli) concurrency_key: Option<String>,
    /// Jobs with an equal value at --concurrency-key at once
    #[arg(long, value_name = "COUNT", requires = "concurrency_key")]
    pub(in crate::cli) concurrency_per_key: Option<u64>,
    /// What the names of runs begin with
    #[arg(long, value_name = "PREFIX")]
    pub(in crate::cli) run_prefix: Option<String>,
    /// The stream that jobs go to that were given up
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(in crate::cli) dead_letter: Option<String>,
    /// How long a run may take, from its first attempt on
    #[arg(long, value_name = "MILLISECONDS")]
    pub(in crate::cli) run_timeout_ms: Option<u64>,
    /// A job that nobody has begun by then expires
    #[arg(long, value_name = "MILLISECONDS")]
    pub(in crate::cli) start_ttl_ms: Option<u64>,
    /// Ended runs are deleted after so long
    #[arg(long, value_name = "MILLISECONDS")]
    pub(in crate::cli) run_retention_ms: Option<u64>,
    /// Print the queue as JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct QueueListOptions {
    /// Print stream, paused or running, and how many jobs are ready, leased, scheduled and dead, with tabs between
    #[arg(long, short, conflicts_with = "json")]
    pub(in crate::cli) long: bool,
    /// Print one JSON object a queue
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct QueueEnqueueOptions {
    #[command(flatten)]
    pub(in crate::cli) queue: QueueOptions,
    /// What is to be done, JSON; stdin if absent
    pub(in crate::cli) payload: Option<String>,
    /// Names the run: a second job of that id is the same one
    #[arg(long, value_name = "ID", value_parser = parse_name)]
    pub(in crate::cli) id: Option<String>,
    /// Not before this
    #[arg(long, value_name = "RFC3339")]
    pub(in crate::cli) run_at: Option<String>,
    /// Attempts before it is given up; the queue's if absent
    #[arg(long, value_name = "COUNT")]
    pub(in crate::cli) max_attempts: Option<u64>,
    /// Print the server's answer as JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// What becomes a run's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ResultChoice {
    /// Nothing
    None,
    /// The last line of stdout that is JSON
    LastLine,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct QueueWorkOptions {
    #[command(flatten)]
    pub(in crate::cli) queue: QueueOptions,
    /// The program, as a command for `sh -c`
    #[arg(long, value_name = "COMMAND")]
    pub(in crate::cli) exec: String,
    /// Programs at once
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) concurrency: u16,
    /// Who works; the host's name and the process if absent
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(in crate::cli) worker: Option<String>,
    /// What becomes the run's result
    #[arg(long, value_enum, default_value = "none")]
    pub(in crate::cli) result: ResultChoice,
    /// Stop once there is nothing to do
    #[arg(long)]
    pub(in crate::cli) until_empty: bool,
    /// When a program that exits with 75 is tried again
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 60_000)]
    pub(in crate::cli) retry_after_ms: u64,
    /// How long programs may go on after SIGTERM or Ctrl-C
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 20_000)]
    pub(in crate::cli) grace_ms: u64,
    /// From SIGTERM to SIGKILL, for programs that are to end
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 5_000)]
    pub(in crate::cli) kill_after_ms: u64,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").args(["job", "all"]).required(true))]
pub(in crate::cli) struct QueueRedriveOptions {
    #[command(flatten)]
    pub(in crate::cli) queue: QueueOptions,
    /// This one, by what `tailwater queue dead` says of it
    #[arg(long, value_name = "JOB")]
    pub(in crate::cli) job: Option<String>,
    /// All of them
    #[arg(long)]
    pub(in crate::cli) all: bool,
}

/// What is purged.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum PurgeChoice {
    /// Jobs that are ready
    Ready,
    /// Jobs that were given up
    Dead,
    /// Both, and jobs whose time has not come; workers are told to stop
    All,
}

impl PurgeChoice {
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Dead => "dead",
            Self::All => "all",
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct QueuePurgeOptions {
    #[command(flatten)]
    pub(in crate::cli) queue: QueueOptions,
    /// Which jobs
    #[arg(long, value_enum, default_value = "ready")]
    pub(in crate::cli) what: PurgeChoice,
}

/// A command on one run.
#[derive(Debug, Args)]
pub(in crate::cli) struct RunOptions {
    /// The run's stream
    #[arg(value_parser = parse_name)]
    pub(in crate::cli) run: String,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RunTailOptions {
    #[command(flatten)]
    pub(in crate::cli) run: RunOptions,
    /// Begin here: an offset that the server gave, -1 (the beginning) or now (the tail)
    #[arg(long, default_value = "-1", allow_hyphen_values = true)]
    pub(in crate::cli) offset: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RunCancelOptions {
    #[command(flatten)]
    pub(in crate::cli) run: RunOptions,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RunRetryOptions {
    #[command(flatten)]
    pub(in crate::cli) run: RunOptions,
    /// From `start`, from the last `checkpoint`, or from an offset of the run
    #[arg(long, value_name = "PLACE")]
    pub(in crate::cli) from: Option<String>,
}
