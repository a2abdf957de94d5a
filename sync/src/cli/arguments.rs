//! Everything that can be typed, with its help. Does nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use tailwater_process::Flag;

/// Mirrors Tailwater's streams into PostgreSQL, each event exactly once.
///
/// Without a command the mirror runs, with the options of `tailwater-sync run`.
#[derive(Debug, Parser)]
#[command(
    name = "tailwater-sync",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  DS_SYNC__POSTGRES_URL=postgres://mirror@127.0.0.1/logs tailwater-sync --streams 'runs/**'"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: Options,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mirror streams until SIGTERM or Ctrl-C (the default command)
    ///
    /// Settings come from built-in defaults, then the TOML file, then DS_SYNC__KEY variables, then flags; later ones
    /// win. RUST_LOG sets the log levels. SIGTERM and Ctrl-C let the transaction under way finish.
    Run(Options),

    /// Print the settings, and whether the mirror could run with them
    ///
    /// Each value is followed by where it comes from; secrets are not shown. Then both servers are asked. Exits with 2
    /// if a setting is wrong, with 1 if a server will not do.
    Check(CheckOptions),

    /// Print how far the mirror has come in each stream
    ///
    /// First who mirrors, in lines that begin with `#`: each instance with the partitions that it holds. Then one
    /// stream a line: its name, `open`, `closed`, `deleted`, `recreated` or `new`, events mirrored, bytes that are missing, and
    /// the last error.
    Status(Options),

    /// Read streams again and compare each event with its row
    ///
    /// Compares what is at the source with what is in the tables, up to where the mirror has come. Exits with 1 if a
    /// row is missing, is there without an event, or is another one than its event; with 3 if none is, but something
    /// could not be compared.
    Verify(Options),

    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: Shell,
    },

    /// Write the manual into a directory, a page for each command
    Man {
        /// Where, such as /usr/local/share/man/man1; it is made if there is none
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The stream root, such as http://127.0.0.1:4437/v1/stream
    #[arg(long, value_name = "URL")]
    source_url: Option<String>,
    /// A file with the database's URL
    #[arg(long, value_name = "FILE")]
    postgres_url_file: Option<String>,
    /// Names and globs, with commas between them
    #[arg(long, value_name = "LIST")]
    streams: Option<String>,
    /// Address and port of /healthz, /readyz and /metrics
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    /// Delete closed streams at the source once their last row is committed
    #[arg(long)]
    delete_after_sync: bool,
    /// Trim open streams at the source to what is committed
    #[arg(long)]
    trim_after_sync: bool,
    /// Any setting, such as sync.batch_bytes=1MiB
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(super) struct CheckOptions {
    #[command(flatten)]
    pub(super) run: Options,
    /// Print a table of all settings instead
    #[arg(long)]
    pub(super) markdown: bool,
    /// Print the SQL that makes what the tables of routes lack instead
    #[arg(long, conflicts_with = "markdown")]
    pub(super) sql: bool,
}

impl Options {
    /// `--set` comes last, so it wins over the flag for the same setting. Its value is not part of its name: it may be
    /// a secret.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let on = |is_on: bool| is_on.then(|| "true".to_owned());
        let named = [
            ("--source-url", "sync.source_url", self.source_url.clone()),
            (
                "--postgres-url-file",
                "sync.postgres_url_file",
                self.postgres_url_file.clone(),
            ),
            ("--streams", "sync.streams", self.streams.clone()),
            ("--bind", "sync.bind_address", self.bind.clone()),
            (
                "--delete-after-sync",
                "sync.delete_after_sync",
                on(self.delete_after_sync),
            ),
            (
                "--trim-after-sync",
                "sync.trim_after_sync",
                on(self.trim_after_sync),
            ),
        ];
        let named = named.into_iter().filter_map(|(flag, key, value)| {
            Some(Flag {
                flag: flag.to_owned(),
                key: key.to_owned(),
                value: value?,
            })
        });
        let set = self.set.iter().map(|(key, value)| Flag {
            flag: format!("--set {key}"),
            key: key.clone(),
            value: value.clone(),
        });
        named.chain(set).collect()
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "a setting is KEY=VALUE, such as sync.batch_bytes=1MiB".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_stand_with_a_command_and_without_one() {
        let typed = [
            "tailwater-sync",
            "--streams",
            "a,b/*",
            "--trim-after-sync",
            "--set",
            "sync.readers=3",
        ];
        let plain = Arguments::try_parse_from(typed).expect("options alone");
        assert!(plain.command.is_none());
        let flags: Vec<_> = plain
            .run
            .flags()
            .into_iter()
            .map(|flag| (flag.flag, flag.value))
            .collect();
        let expected = [
            ("--streams", "a,b/*"),
            ("--trim-after-sync", "true"),
            ("--set sync.readers", "3"),
        ];
        assert_eq!(
            flags,
            expected.map(|(flag, value)| (flag.to_owned(), value.to_owned()))
        );
        let verify = ["tailwater-sync", "verify", "--source-url", "http://h/x"];
        let named = Arguments::try_parse_from(verify).expect("a command with options");
        assert!(matches!(named.command, Some(Command::Verify(options)) if options.flags().len() == 1));
    }
}
