//! The command line: arguments in, exit code out. Commands for clients know [`crate::client`] only, never the
//! server's insides.
//!
//! - `arguments`: everything that can be typed, with its help.
//! - `serve`: `serve` and `check`.
//! - `store`: `verify`, `stats` and `backup`, on a data directory or through the server that uses it.
//! - `shards`: `compact` and `reshard`, on a data directory of the mode `acid`.
//! - `transfer`: `export` and `import`, through a server or on a data directory.
//! - `append`, `read`, `manage`, `subscriptions`, `queues`, `runs`, `schedules`: the client's commands.
//! - `work`: runs a program for each job of a queue.
//! - `input`: JSON that is typed or comes on stdin.
//! - `listing`: listings that come in pages.
//! - `token`: the token that they show.
//! - `patience`: waits out refusals for load.
//! - `output`: stdout as the end of a pipe.
//! - `error`: why a command failed, and its exit code.

mod append;
mod arguments;
mod error;
mod input;
mod listing;
mod manage;
mod output;
mod patience;
mod queues;
mod read;
mod runs;
mod schedules;
mod serve;
mod shards;
mod store;
mod subscriptions;
mod token;
mod transfer;
mod work;

use std::future::Future;
use std::io;
use std::process::ExitCode;

use clap::CommandFactory as _;

use arguments::subscriptions::SubCommand;
use arguments::{Arguments, Command};
use error::CommandError;
use output::Output;

/// Runs the command that the process was started with. Blocks until it is over.
pub fn run() -> ExitCode {
    // clap prints help, versions and usage errors itself, and exits with 0 or 2.
    let arguments = Arguments::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match dispatch(arguments) {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tailwater: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let mut output = Output::to_stdout();
    match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(options) => serve::serve(&options)?,
        Command::Check(options) => serve::check(&options, &mut output)?,
        Command::Create(options) => wait(manage::create(&options, &mut output))?,
        Command::Append(options) => wait(append::append(&options, &mut output))?,
        Command::Read(options) => wait(read::read(&options, &mut output))?,
        Command::Tail(options) => return wait(read::tail(&options, &mut output)),
        Command::Ls(options) => wait(manage::list(&options, &mut output))?,
        Command::Head(options) => wait(manage::head(&options, &mut output))?,
        Command::Health(options) => wait(manage::health(&options))?,
        Command::Close(options) => wait(manage::close(&options, &mut output))?,
        Command::Rm(options) => wait(manage::remove(&options))?,
        Command::Sub(command) => subscription(&command, &mut output)?,
        Command::Queue(command) => wait(queues::queue(&command, &mut output))?,
        Command::Run(command) => return wait(runs::run(&command, &mut output)),
        Command::Schedule(command) => wait(schedules::schedule(&command, &mut output))?,
        Command::Verify(options) => return store::verify(&options, &mut output),
        Command::Stats(options) => store::stats(&options, &mut output)?,
        Command::Backup(options) => store::backup(&options, &mut output)?,
        Command::Compact(options) => shards::compact(&options, &mut output)?,
        Command::Reshard(options) => shards::reshard(&options, &mut output)?,
        Command::Export(options) => wait(transfer::export(&options, output))?,
        Command::Import(options) => return wait(transfer::import(&options, &mut output)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tailwater", &mut script);
            output.write(&script)?;
            output.flush()?;
        }
        Command::Man { directory } => {
            let written = std::fs::create_dir_all(&directory)
                .and_then(|()| clap_mangen::generate_to(Arguments::command(), &directory));
            written.map_err(|source| CommandError::Manual { directory, source })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn subscription(command: &SubCommand, output: &mut Output) -> Result<(), CommandError> {
    match command {
        SubCommand::Create(options) => wait(subscriptions::create(options, output)),
        SubCommand::List(options) => wait(subscriptions::list(options, output)),
        SubCommand::Show(options) => wait(subscriptions::show(options, output)),
        SubCommand::Delete(options) => wait(subscriptions::delete(options)),
        SubCommand::Add(options) => wait(subscriptions::add(options)),
        SubCommand::Remove(options) => wait(subscriptions::remove(options)),
        SubCommand::Claim(options) => wait(subscriptions::claim(options, output)),
        SubCommand::Ack(options) => wait(subscriptions::ack(options, output)),
        SubCommand::Release(options) => wait(subscriptions::release(options)),
        SubCommand::RotateKey(options) => subscriptions::rotate_key(options, output),
    }
}

/// One thread is enough for one request at a time.
fn wait<T>(command: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|source: io::Error| CommandError::Runtime { source })?
        .block_on(command)
}
