//! What can be typed behind `tailwater schedule`, with its help. Does nothing.

use clap::{Args, Subcommand, ValueEnum};

use super::{Connection, parse_name};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ScheduleCommand {
    /// Make a schedule, or change the one of that id
    ///
    /// Enqueues PAYLOAD, or the JSON on stdin, at the times of a cron expression: minute, hour, day of the month, month,
    /// day of the week, with the second before them if there are six fields.
    #[command(
        after_help = "Example:\n  tailwater schedule put nightly --stream jobs/reports --cron '30 2 * * MON-FRI' \
                      --time-zone Europe/Berlin '{\"report\": \"sales\"}'"
    )]
    Put(SchedulePutOptions),

    /// List schedules, one id a line
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  tailwater schedule list --json | jq .next_fire_at"
    )]
    List(ScheduleListOptions),

    /// Show a schedule as JSON
    #[command(after_help = "Example:\n  tailwater schedule show nightly | jq .last_error")]
    Show(ScheduleOptions),

    /// Delete schedules. What they have enqueued stays
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  tailwater schedule delete nightly"
    )]
    Delete(ScheduleDeleteOptions),
}

/// A command on one schedule.
#[derive(Debug, Args)]
pub(in crate::cli) struct ScheduleOptions {
    /// The schedule
    #[arg(value_parser = parse_name)]
    pub(in crate::cli) id: String,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
}

/// What is done about fire times that passed while nobody could enqueue.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum MisfireChoice {
    /// Nothing
    Skip,
    /// The last one is made up for
    Once,
    /// Each is made up for
    All,
}

impl MisfireChoice {
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SchedulePutOptions {
    #[command(flatten)]
    pub(in crate::cli) schedule: ScheduleOptions,
    /// What to enqueue, JSON; stdin if absent
    pub(in crate::cli) payload: Option<String>,
    /// The queue, or any JSON stream, to enqueue to
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(in crate::cli) stream: String,
    /// When
    #[arg(long, value_name = "EXPRESSION")]
    pub(in crate::cli) cron: String,
    /// By whose clocks: an IANA name such as Europe/Berlin; UTC if absent
    #[arg(long, value_name = "ZONE")]
    pub(in crate::cli) time_zone: Option<String>,
    /// What is done about fire times that passed while nobody could enqueue
    #[arg(long, value_enum)]
    pub(in crate::cli) misfire: Option<MisfireChoice>,
    /// Enqueue the payload itself, without an envelope that names the job
    #[arg(long)]
    pub(in crate::cli) message: bool,
    /// Let fire times pass
    #[arg(long)]
    pub(in crate::cli) paused: bool,
    /// No fire time before this
    #[arg(long, value_name = "RFC3339")]
    pub(in crate::cli) start_at: Option<String>,
    /// Every fire time before this
    #[arg(long, value_name = "RFC3339")]
    pub(in crate::cli) end_at: Option<String>,
    /// Print the schedule as JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ScheduleListOptions {
    /// Print id, stream, cron expression, time zone, next and last fire time, and the last error, with tabs between
    #[arg(long, short, conflicts_with = "json")]
    pub(in crate::cli) long: bool,
    /// Print one JSON object a schedule
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ScheduleDeleteOptions {
    /// The schedules
    #[arg(required = true, value_name = "ID", value_parser = parse_name)]
    pub(in crate::cli) ids: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
}
