//! `tailwater run`: what became of a job, and what is still to become of it.

use std::process::ExitCode;

use super::arguments::queues::{RunCancelOptions, RunCommand, RunOptions, RunRetryOptions, RunTailOptions};
use super::error::CommandError;
use super::output::{Output, cell};
use super::patience::patiently;
use super::read;
use crate::client::View;

pub(super) async fn run(command: &RunCommand, output: &mut Output) -> Result<ExitCode, CommandError> {
    match command {
        RunCommand::Show(options) => show(options, output).await?,
        RunCommand::Tail(options) => return tail(options, output).await,
        RunCommand::Cancel(options) => cancel(options, output).await?,
        RunCommand::Retry(options) => retry(options, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(options: &RunOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let run = patiently(async || client.run(&options.run).await).await?;
    output.line(&run.to_string())?;
    output.flush()
}

async fn tail(options: &RunTailOptions, output: &mut Output) -> Result<ExitCode, CommandError> {
    let client = options.run.connection.client()?;
    let followed = read::Followed {
        name: &options.run.run,
        offset: &options.offset,
        view: View::Plain,
        again: "run tail",
    };
    read::follow(&client, &followed, output).await
}

async fn cancel(options: &RunCancelOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.run.connection.client()?;
    let (run, reason) = (&options.run.run, options.reason.as_deref());
    let answer = patiently(async || client.cancel_run(run, reason).await).await?;
    output.line(&answer.to_string())?;
    output.flush()
}

async fn retry(options: &RunRetryOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.run.connection.client()?;
    let (run, from) = (&options.run.run, options.from.as_deref());
    let made = patiently(async || client.retry_run(run, from).await).await?;
    output.line(&cell(&made.document["run"]))?;
    output.flush()
}
