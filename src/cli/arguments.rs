//! Everything that can be typed, with its help. Does nothing.

pub(super) mod queues;
pub(super) mod schedules;
pub(super) mod subscriptions;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use super::error::CommandError;
use super::token;
use crate::client::{Client, View};
use crate::config;

use queues::{QueueCommand, RunCommand};
use schedules::ScheduleCommand;
use subscriptions::SubCommand;

/// A durable-stream server, and a client for it.
///
/// Without a command the server runs, with the options of `tailwater serve`.
#[derive(Debug, Parser)]
#[command(
    name = "tailwater",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  tailwater &\n  tailwater create notes --content-type text/plain\n  \
                  echo hello | tailwater append notes\n  tailwater read notes"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) serve: ServeOptions,
}

/// What names a server, and means nothing beside `--data-dir`.
const OF_A_SERVER: [&str; 3] = ["url", "token", "token_file"];

impl Arguments {
    /// Takes apart what was typed, with what variables say.
    ///
    /// # Errors
    /// Help and versions that were asked for, and what cannot be meant.
    pub(super) fn read(typed: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut known = Self::command();
        let matches = known.try_get_matches_from_mut(typed)?;
        if let Some((_, command)) = matches.subcommand() {
            // Variables may name a server for other commands. Only what is typed beside it contradicts.
            let is_typed = |id: &str| {
                let source = command
                    .try_contains_id(id)
                    .is_ok()
                    .then(|| command.value_source(id));
                source.flatten() == Some(ValueSource::CommandLine)
            };
            let opposite = OF_A_SERVER.iter().find(|id| is_typed(id));
            if let Some(id) = opposite.filter(|_| is_typed("data_dir")) {
                let option = id.replace('_', "-");
                let reason = format!("--data-dir cannot be used with --{option}: no server is asked");
                return Err(known.error(ErrorKind::ArgumentConflict, reason));
            }
        }
        Self::from_arg_matches(&matches)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the server (the default command)
    ///
    /// Settings come from built-in defaults, then the TOML file, then DS_SECTION__KEY variables, then flags;
    /// later ones win. RUST_LOG sets the log levels. SIGTERM and Ctrl-C end the server gracefully.
    #[command(
        after_help = "Example:\n  tailwater serve --bind 0.0.0.0:4437 --set limits.max_memory_bytes=1GiB"
    )]
    Serve(ServeOptions),

    /// Print the effective configuration as TOML, or everything that is wrong with it
    ///
    /// Each value is followed by where it comes from. Exits with 2 if the server would refuse to start.
    #[command(
        after_help = "Example:\n  tailwater check --config tailwater.toml && systemctl restart tailwater"
    )]
    Check(CheckOptions),

    /// Create a stream
    ///
    /// Prints the new stream's tail offset. A stream that exists with the same configuration is left as it is.
    #[command(
        after_help = "Examples:\n  tailwater create orders --content-type application/json --ttl 86400\n  \
                            tailwater create orders-test --from orders"
    )]
    Create(CreateOptions),

    /// Append to a stream
    ///
    /// Appends DATA, or all of stdin, exactly as it is, and prints the stream's new tail offset. A JSON array
    /// becomes one message for each of its elements.
    #[command(after_help = "Examples:\n  tailwater append orders '{\"id\": 1}'\n  \
                            journalctl -f | tailwater append logs --follow --create --content-type text/plain")]
    Append(AppendOptions),

    /// Print what a stream has
    ///
    /// Text and binary streams are printed as they are, JSON streams one message a line.
    #[command(after_help = "Example:\n  tailwater read orders | jq .id")]
    Read(ReadOptions),

    /// Print what is appended to a stream, as it comes
    ///
    /// Goes on until the stream is closed (exit code 0) or Ctrl-C (130). Waits for a server that goes away, and
    /// resumes where it was.
    #[command(after_help = "Example:\n  tailwater tail orders --offset -1 --records")]
    Tail(TailOptions),

    /// List streams, one name a line
    #[command(after_help = "Example:\n  tailwater ls orders/ --json | jq .bytes")]
    Ls(ListOptions),

    /// Show a stream's content type, tail and other properties
    #[command(after_help = "Example:\n  tailwater head orders --json | jq -r .next_offset")]
    Head(HeadOptions),

    /// Ask a server, or a mirror, whether it is ready: for health checks of containers
    ///
    /// Exits with 0 if it is, and else with 1 and the reason. Needs no token.
    #[command(
        after_help = "Examples:\n  tailwater health\n  tailwater health --alive --url http://127.0.0.1:4438"
    )]
    Health(HealthOptions),

    /// Close a stream: nothing can be appended to it any more
    ///
    /// Prints the stream's last offset.
    #[command(after_help = "Example:\n  tailwater close orders")]
    Close(StreamOptions),

    /// Delete streams with all their data
    #[command(after_help = "Example:\n  tailwater ls test/ | xargs tailwater rm")]
    Rm(RemoveOptions),

    /// Subscriptions: whom to wake when streams move, and the work of those who are woken
    #[command(
        subcommand,
        after_help = "Example:\n  tailwater sub create mails --pattern 'jobs/*' --webhook https://worker.example/hooks\n  \
                      tailwater sub list --long"
    )]
    Sub(SubCommand),

    /// Job queues: enqueue jobs, and run a program for each
    #[command(
        subcommand,
        after_help = "Example:\n  tailwater queue create jobs/mails\n  tailwater queue work jobs/mails --exec ./send-mail &\n  \
                      tailwater queue enqueue jobs/mails '{\"to\": \"ada\"}'"
    )]
    Queue(QueueCommand),

    /// Runs: what became of a job, and its events as they come
    #[command(
        subcommand,
        after_help = "Example:\n  tailwater run tail runs/jobs/mails/mail-42"
    )]
    Run(RunCommand),

    /// Schedules: what is enqueued at the times of a cron expression
    #[command(
        subcommand,
        after_help = "Example:\n  tailwater schedule put nightly --stream jobs/reports --cron '30 2 * * *' '{}'\n  \
                      tailwater schedule list --long"
    )]
    Schedule(ScheduleCommand),

    /// Check every byte of a data directory that no server uses
    ///
    /// Changes nothing, goes on behind what is damaged, and prints all of it. Exits with 0 if nothing is damaged,
    /// with 1 if something is, and with 2 if that cannot be found out: while a server uses the directory, verify a
    /// backup of it.
    #[command(
        after_help = "Example:\n  tailwater backup --data-dir data --to /backup/monday && tailwater verify --data-dir \
                      /backup/monday"
    )]
    Verify(DirectoryOptions),

    /// Show what a data directory holds, also while a server uses it
    #[command(after_help = "Example:\n  tailwater stats --data-dir data --json | jq .dead_bytes")]
    Stats(DirectoryOptions),

    /// Copy a data directory as it is at this moment, also while a server uses it
    ///
    /// Most of the copy are hard links, if it is on the same file system. A server starts on it as on any other
    /// data directory of the same storage mode. Offsets that are given out behind this moment are refused by it.
    #[command(after_help = "Example:\n  tailwater backup --data-dir data --to /backup/monday")]
    Backup(BackupOptions),

    /// Give unused space of a data directory of the mode `acid` back to the disk, while no server uses it
    ///
    /// What is deleted makes room for new data, but hardly makes the files shorter. Nothing is lost if this is
    /// interrupted. Stores of the modes `file-durable` and `file-fast` are compacted by their server.
    #[command(after_help = "Example:\n  tailwater compact --data-dir data")]
    Compact(DirectoryOptions),

    /// Give a data directory of the mode `acid` that no server uses another number of shards
    ///
    /// The streams are copied into new shards first, so there must be room for both, and the directory holds the old
    /// ones or the new ones, whole, whenever this is interrupted: repeat it then. Start the server with the new number
    /// (storage.acid_shard_count) afterwards.
    #[command(after_help = "Example:\n  tailwater reshard --data-dir data --to 64")]
    Reshard(ReshardOptions),

    /// Write streams with all that is known of them as lines of JSON, for `tailwater import`
    ///
    /// Asks the server at --url, whatever its storage mode, or reads a data directory that no server uses. Streams
    /// keep their offsets, producers, lifetimes, times and forks. docs/export-format.md describes the lines.
    #[command(
        after_help = "Examples:\n  tailwater export --output all.ndjson\n  tailwater export runs/ | tailwater import \
                      --url http://other:4437/v1/stream"
    )]
    Export(ExportOptions),

    /// Make streams of what `tailwater export` wrote
    ///
    /// A stream is there as a whole or not at all. One that is there already, just as it was exported, is passed
    /// over, so that an import which was interrupted can be repeated. Exits with 1 if a stream was not imported.
    #[command(
        after_help = "Examples:\n  tailwater import all.ndjson\n  tailwater import all.ndjson --data-dir new \
                      --storage-mode file-durable"
    )]
    Import(ImportOptions),

    /// Print a script that completes commands in a shell
    #[command(after_help = "Example:\n  tailwater completions bash > /etc/bash_completion.d/tailwater")]
    Completions {
        /// The shell
        shell: Shell,
    },

    /// Write the manual into a directory, a page for each command
    #[command(after_help = "Example:\n  tailwater man /usr/local/share/man/man1 && man tailwater-append")]
    Man {
        /// Where, such as /usr/local/share/man/man1; it is made if there is none
        directory: PathBuf,
    },
}

#[derive(Debug, Default, Args)]
pub(super) struct ServeOptions {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Listen here (server.bind_address)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) bind: Option<String>,
    /// Keep streams this way (storage.mode)
    #[arg(long, value_name = "MODE")]
    pub(super) storage_mode: Option<String>,
    /// Keep streams in this directory (storage.data_dir)
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<String>,
    /// Set any setting; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = parse_set)]
    pub(super) set: Vec<(String, String)>,
}

fn parse_set(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("there is no `=`; an example is limits.max_connections=500")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

#[derive(Debug, Args)]
pub(super) struct CheckOptions {
    #[command(flatten)]
    pub(super) serve: ServeOptions,
    /// Print all settings as a table in Markdown
    #[arg(long, hide = true)]
    pub(super) markdown: bool,
}

/// Which server.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// URL that the streams are below
    #[arg(
        long,
        env = "TAILWATER_URL",
        default_value = "http://127.0.0.1:4437/v1/stream"
    )]
    url: String,
    /// Bearer token for a server that asks for one; others on this machine see what is typed here, so rather set the
    /// variable or name a file
    #[arg(long, env = "TAILWATER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File with that token, in place of the token itself
    #[arg(long, value_name = "FILE", env = "TAILWATER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
}

/// Whose certificates are believed.
#[derive(Debug, Args)]
pub(super) struct Trust {
    /// File with authorities in PEM that may have signed the server's certificate, beside those that the system trusts
    #[arg(long, value_name = "FILE", env = "TAILWATER_CA_FILE")]
    ca_file: Option<PathBuf>,
}

impl Trust {
    /// A client for the server at a URL.
    pub(super) fn client(&self, url: &str) -> Result<Client, CommandError> {
        // An empty variable is how a shell script says that there is none.
        let file = self.ca_file.as_deref();
        let file = file.filter(|path| !path.as_os_str().is_empty());
        Ok(Client::trusting(url, file)?)
    }
}

impl Connection {
    pub(super) fn client(&self) -> Result<Client, CommandError> {
        let client = self.trust.client(&self.url)?;
        // An empty variable is how a shell script says that there is none.
        let typed = self.token.as_deref().filter(|token| !token.is_empty());
        let file = self.token_file.as_deref();
        match token::choose(typed, file.filter(|path| !path.as_os_str().is_empty()))? {
            Some(token) => Ok(client.with_token(&token)?),
            None => Ok(client),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct HealthOptions {
    /// URL of the server, with or without the path that streams are below
    #[arg(
        long,
        env = "TAILWATER_URL",
        default_value = "http://127.0.0.1:4437/v1/stream"
    )]
    pub(super) url: String,
    /// Ask only whether the process is up, and not whether it takes requests
    #[arg(long)]
    pub(super) alive: bool,
    /// How long to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) timeout: u64,
    #[command(flatten)]
    pub(super) trust: Trust,
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("a stream's name is not empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// A command on one stream.
#[derive(Debug, Args)]
pub(super) struct StreamOptions {
    /// The stream
    #[arg(value_parser = parse_name)]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct CreateOptions {
    #[command(flatten)]
    pub(super) stream: StreamOptions,
    /// MIME type of the content; application/json makes a stream of JSON messages
    #[arg(long, value_name = "TYPE")]
    pub(super) content_type: Option<String>,
    /// Delete the stream after it has been idle for so long
    #[arg(long, value_name = "SECONDS")]
    pub(super) ttl: Option<u64>,
    /// Create it closed and empty
    #[arg(long)]
    pub(super) closed: bool,
    /// Begin with the data of another stream (a fork)
    #[arg(long, value_name = "SOURCE", value_parser = parse_name)]
    pub(super) from: Option<String>,
    /// Fork at this offset of the source instead of its tail
    #[arg(long, value_name = "OFFSET", requires = "from", allow_hyphen_values = true)]
    pub(super) at: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct AppendOptions {
    #[command(flatten)]
    pub(super) stream: StreamOptions,
    /// What to append; stdin if absent
    pub(super) data: Option<OsString>,
    /// Append stdin line by line as lines come; for a JSON stream each line is one message
    #[arg(long, short, conflicts_with = "data")]
    pub(super) follow: bool,
    /// Make --follow exactly-once under this id: an append is repeated after a lost connection, never doubled
    #[arg(long, value_name = "ID", requires = "follow")]
    pub(super) producer: Option<String>,
    /// Add a line break after DATA
    #[arg(long, short, requires = "data")]
    pub(super) newline: bool,
    /// Create the stream if there is none
    #[arg(long)]
    pub(super) create: bool,
    /// MIME type of the data; the stream's own if absent
    #[arg(long, value_name = "TYPE")]
    pub(super) content_type: Option<String>,
    /// Short for --content-type application/json
    #[arg(long, conflicts_with = "content_type")]
    pub(super) json: bool,
    /// Close the stream behind the data
    #[arg(long)]
    pub(super) close: bool,
}

impl AppendOptions {
    pub(super) fn content_type(&self) -> Option<&str> {
        if self.json {
            Some("application/json")
        } else {
            self.content_type.as_deref()
        }
    }
}

fn view(records: bool) -> View {
    if records { View::Records } else { View::Plain }
}

#[derive(Debug, Args)]
pub(super) struct ReadOptions {
    #[command(flatten)]
    pub(super) stream: StreamOptions,
    /// Begin here: an offset that the server gave, -1 (the beginning) or now (the tail)
    #[arg(long, default_value = "-1", allow_hyphen_values = true)]
    pub(super) offset: String,
    /// Print one JSON object a message, with its offset, time and number
    #[arg(long)]
    records: bool,
}

impl ReadOptions {
    pub(super) fn view(&self) -> View {
        view(self.records)
    }
}

#[derive(Debug, Args)]
pub(super) struct TailOptions {
    #[command(flatten)]
    pub(super) stream: StreamOptions,
    /// Begin here: an offset that the server gave, -1 (the beginning) or now (the tail)
    #[arg(long, default_value = "now", allow_hyphen_values = true)]
    pub(super) offset: String,
    /// Print one JSON object a message, with its offset, time and number
    #[arg(long)]
    records: bool,
}

impl TailOptions {
    pub(super) fn view(&self) -> View {
        view(self.records)
    }
}

#[derive(Debug, Args)]
pub(super) struct ListOptions {
    /// Only names that begin with this
    #[arg(default_value = "", hide_default_value = true)]
    pub(super) prefix: String,
    /// Print name, content type, bytes, messages, tail and open or closed, with tabs between
    #[arg(long, short, conflicts_with = "json")]
    pub(super) long: bool,
    /// Print one JSON object a stream
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct HeadOptions {
    #[command(flatten)]
    pub(super) stream: StreamOptions,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RemoveOptions {
    /// The streams
    #[arg(required = true, value_name = "NAME", value_parser = parse_name)]
    pub(super) names: Vec<String>,
    #[command(flatten)]
    pub(super) connection: Connection,
}

/// A command on a data directory.
#[derive(Debug, Args)]
pub(super) struct DirectoryOptions {
    #[command(flatten)]
    pub(super) directory: DataDirectory,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Which data directory.
#[derive(Debug, Args)]
pub(super) struct DataDirectory {
    /// The directory of a store (storage.data_dir)
    #[arg(long = "data-dir", value_name = "DIR", env = "DS_STORAGE__DATA_DIR")]
    pub(super) path: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct BackupOptions {
    #[command(flatten)]
    pub(super) store: DirectoryOptions,
    /// Copy it into this directory, which is new or empty
    #[arg(long, value_name = "DIR")]
    pub(super) to: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ReshardOptions {
    #[command(flatten)]
    pub(super) store: DirectoryOptions,
    /// So many shards: a power of two from 1 to 256
    #[arg(long, value_name = "N", value_parser = config::parse_shard_count)]
    pub(super) to: u32,
}

#[derive(Debug, Args)]
pub(super) struct ExportOptions {
    /// Only streams whose names begin with this
    #[arg(default_value = "", hide_default_value = true)]
    pub(super) prefix: String,
    /// Write to this file, which appears once all of it is there, and not to stdout
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Read this data directory, which no server uses, and ask no server
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct ImportOptions {
    /// What was exported; stdin if absent
    pub(super) file: Option<PathBuf>,
    /// Replace streams that have the same names: each is deleted in the moment in which the new one is there
    #[arg(long)]
    pub(super) replace: bool,
    /// Write to this data directory, which no server uses, and ask no server
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// What a new data directory is for: file-durable, file-fast or acid
    #[arg(long, value_name = "MODE", requires = "data_dir")]
    pub(super) storage_mode: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) connection: Connection,
}
