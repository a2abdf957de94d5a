//! The command line: arguments in, exit code out.
//!
//! - `arguments`: everything that can be typed, with its help.
//! - `mirror`: `run`, the mirror itself.
//! - `check`: `check`, whether it could run.
//! - `status`: `status`, how far it has come.
//! - `verify`: `verify`, whether the tables have what the streams have.
//! - `error`: why a command failed, and its exit code.

mod arguments;
mod check;
mod error;
mod mirror;
mod status;
mod verify;

use std::future::Future;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use tailwater_process::{File, Sources};

use crate::settings::Effective;
use arguments::{Arguments, Command, Options};
use error::CommandError;

/// Runs the command that the process was started with. Blocks until it is over.
#[must_use]
pub fn run() -> ExitCode {
    // clap prints help, versions and usage errors itself, and exits with 0 or 2.
    match dispatch(Arguments::parse()) {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tailwater-sync: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<ExitCode, CommandError> {
    match arguments.command.unwrap_or(Command::Run(arguments.run)) {
        Command::Run(options) => {
            let effective = load(&options)?;
            let sync = &effective.config.sync;
            let rust_log = std::env::var_os("RUST_LOG").map(|text| text.to_string_lossy().into_owned());
            tailwater_process::logging::init(sync.log_format, rust_log.as_deref())?;
            wait(mirror::run(&effective))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(options) if options.markdown => {
            print(&crate::settings::markdown_table())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(options) if options.sql => wait(check::print_sql(&load(&options.run)?)),
        Command::Check(options) => {
            let effective = load(&options.run)?;
            print(&effective.to_toml())?;
            wait(check::check(&effective))
        }
        Command::Status(options) => wait(status::status(&load(&options)?)),
        Command::Verify(options) => wait(verify::verify(&load(&options)?)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tailwater-sync", &mut script);
            write(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { directory } => {
            let written = std::fs::create_dir_all(&directory)
                .and_then(|()| clap_mangen::generate_to(Arguments::command(), &directory));
            written.map_err(|source| CommandError::Manual { directory, source })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn load(options: &Options) -> Result<Effective, CommandError> {
    let file = options
        .config
        .as_ref()
        .map(|path| match std::fs::read_to_string(path) {
            Ok(text) => Ok(File {
                path: path.display().to_string(),
                text,
            }),
            Err(source) => Err(CommandError::ConfigFile {
                path: path.clone(),
                source,
            }),
        });
    // What is not UTF-8 gets replacement characters, which no setting allows, so it is refused by name.
    let environment = std::env::vars_os().map(|(name, value)| {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        (text(name), text(value))
    });
    let sources = Sources {
        file: file.transpose()?,
        environment: environment.collect(),
        flags: options.flags(),
    };
    Ok(Effective::load(&sources)?)
}

fn wait<T>(command: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("tailwater-sync")
        .enable_all()
        .build();
    runtime
        .map_err(|source| CommandError::Runtime { source })?
        .block_on(command)
}

fn print(text: &str) -> Result<(), CommandError> {
    write(text.as_bytes())
}

/// Writes to stdout, whole and at once.
fn write(bytes: &[u8]) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|source| CommandError::Output { source })
}
