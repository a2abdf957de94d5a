//! `read` and `tail`: streams to stdout.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::arguments::{ReadOptions, TailOptions};
use super::error::CommandError;
use super::output::Output;
use super::patience::patiently;
use crate::client::{Client, TailEvent, View, is_json};

/// What the shell reports for a command that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

pub(super) async fn read(options: &ReadOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.stream.connection.client()?;
    let mut pages = client.catch_up(&options.stream.name, &options.offset, options.view());
    while let Some(page) = patiently(async || pages.next_page().await).await? {
        if is_json(&page.content_type) {
            output.messages(&page.body)?;
        } else {
            output.write(&page.body)?;
        }
        output.flush()?;
    }
    Ok(())
}

pub(super) async fn tail(options: &TailOptions, output: &mut Output) -> Result<ExitCode, CommandError> {
    let client = options.stream.connection.client()?;
    let followed = Followed {
        name: &options.stream.name,
        offset: &options.offset,
        view: options.view(),
        again: "tail",
    };
    follow(&client, &followed, output).await
}

/// What is followed.
pub(super) struct Followed<'a> {
    pub(super) name: &'a str,
    pub(super) offset: &'a str,
    pub(super) view: View,
    /// The command that goes on.
    pub(super) again: &'static str,
}

/// Prints what is appended to a stream until it is closed or somebody interrupts.
pub(super) async fn follow(
    client: &Client,
    followed: &Followed<'_>,
    output: &mut Output,
) -> Result<ExitCode, CommandError> {
    let Followed {
        name, view, again, ..
    } = *followed;
    // An event stream does not tell the stream's own type.
    let is_json =
        view == View::Plain && is_json(&patiently(async || client.head(name).await).await?.content_type);
    let mut tail = client.tail(name, followed.offset, view);
    // One for all events: it keeps the news while an event is printed, and is looked at first, however many events come.
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|source| CommandError::Runtime { source })?;
    loop {
        let event = tokio::select! {
            biased;
            _ = interrupts.recv() => {
                eprintln!("stopped; to go on: tailwater {again} {name} --offset {}", tail.offset());
                return Ok(ExitCode::from(INTERRUPTED));
            }
            event = tail.next() => event?,
        };
        match event {
            None => {
                eprintln!("`{name}` is closed");
                return Ok(ExitCode::SUCCESS);
            }
            Some(TailEvent::Data { bytes }) => {
                match view {
                    View::Records => {
                        output.write(&bytes)?;
                        output.write(b"\n")?;
                    }
                    View::Plain if is_json => output.messages(&bytes)?,
                    View::Plain => output.write(&bytes)?,
                }
                output.flush()?;
            }
            Some(TailEvent::Position { .. }) => {}
            Some(TailEvent::Reconnecting { delay, cause }) => {
                eprintln!("{cause}; trying again in {:.1} s", delay.as_secs_f64());
            }
        }
    }
}
