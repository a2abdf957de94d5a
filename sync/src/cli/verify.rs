//! `verify`: reads streams again and compares each event with its row. Changes nothing, but that reading renews
//! lifetimes.

use std::process::ExitCode;

use super::error::CommandError;
use super::print;
use super::status::streams_at;
use crate::postgres::Store;
use crate::postgres::survey::{Differences, Known};
use crate::settings::Effective;
use crate::source::{Error, Source, Stream};

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    streams: u64,
    /// Streams whose events are in the tables of their routes alone.
    elsewhere: u64,
    events: u64,
    differences: Differences,
}

pub(super) async fn verify(effective: &Effective) -> Result<ExitCode, CommandError> {
    let sync = &effective.config.sync;
    let postgres = effective.postgres()?;
    let source = Source::new(sync.source())?;
    let present = streams_at(source.clone(), sync).await?;
    let mut store = Store::connect(&postgres).await?;
    let mut findings = Findings::default();
    let mut after: Option<String> = None;
    loop {
        let known = store.known(after.as_deref()).await?;
        let Some(last) = known.last() else { break };
        after = Some(last.name.clone());
        for known in &known {
            let stream = present.get(&known.name);
            let Some(stream) = stream.filter(|stream| stream.incarnation == known.incarnation) else {
                continue;
            };
            if !effective.routes.keep_events_of(&known.name) {
                findings.elsewhere += 1;
                continue;
            }
            let (events, differences) = compare(&source, &mut store, stream, known).await?;
            findings.streams += 1;
            findings.events += events;
            findings.differences += differences;
            if !differences.is_none() {
                let Differences {
                    missing,
                    extra,
                    different,
                } = differences;
                print(&format!(
                    "{}: {missing} missing, {extra} without an event, {different} different\n",
                    known.name
                ))?;
            }
        }
    }
    let Findings {
        streams,
        elsewhere,
        events,
        differences,
    } = findings;
    if elsewhere > 0 {
        print(&format!(
            "{elsewhere} streams are not compared: their routes have events = false\n"
        ))?;
    }
    let verdict = if differences.is_none() {
        "as they are in the streams"
    } else {
        "NOT as they are in the streams"
    };
    print(&format!(
        "{events} events of {streams} streams compared: they are {verdict}\n"
    ))?;
    Ok(if differences.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Compares what the source still has with what the mirror has of it.
async fn compare(
    source: &Source,
    store: &mut Store,
    stream: &Stream,
    known: &Known,
) -> Result<(u64, Differences), CommandError> {
    let (mut events, mut differences) = (0, Differences::default());
    let mut after = stream.oldest;
    while after.position() < known.next.position() {
        let read = source
            .read(&stream.name, stream.incarnation, &stream.content_type, after)
            .await;
        let mut chunk = match read {
            // It is trimmed or deleted while it is read.
            Err(Error::OffsetGone { oldest, .. }) => {
                after = oldest;
                continue;
            }
            Err(Error::StreamGone { .. } | Error::Replaced { .. }) => break,
            chunk => chunk?,
        };
        // What is behind the mirror's place is still to come.
        chunk
            .events
            .retain(|event| event.offset.position() <= known.next.position());
        let Some(next) = chunk.events.last().map(|event| event.offset) else {
            break;
        };
        chunk.next = next;
        differences += store.differences(&chunk).await?;
        events += chunk.events.len() as u64;
        after = next;
    }
    Ok((events, differences))
}
