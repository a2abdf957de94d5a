//! `verify`: reads streams again and compares each event with its rows. Changes nothing, but that reading renews
//! lifetimes.
//!
//! - `findings`: what was found, and how it is told.

mod findings;

use std::collections::HashMap;
use std::process::ExitCode;

use findings::{Findings, OfStream};

use super::error::CommandError;
use super::print;
use super::status::streams_at;
use crate::event::Chunk;
use crate::postgres::survey::Known;
use crate::postgres::{KeyState, RoutedDifferences, Store};
use crate::route::Routes;
use crate::settings::Effective;
use crate::source::{Error, Source, Stream};

pub(super) async fn verify(effective: &Effective) -> Result<ExitCode, CommandError> {
    let sync = &effective.config.sync;
    let postgres = effective.postgres()?;
    let source = Source::new(sync.source())?;
    let present = streams_at(source.clone(), sync).await?;
    let mut store = Store::connect(&postgres).await?;
    let mut findings = Findings::of(&effective.routes);
    let mut after: Option<String> = None;
    loop {
        let known = store.known(after.as_deref()).await?;
        let Some(last) = known.last() else { break };
        after = Some(last.name.clone());
        for known in known.iter().filter(|known| sync.streams.matches(&known.name)) {
            let stream = present.get(&known.name);
            let Some(stream) = stream.filter(|stream| stream.incarnation == known.incarnation) else {
                findings.gone += 1;
                continue;
            };
            let compared = Comparison {
                source: &source,
                routes: &effective.routes,
                store: &mut store,
                findings: &mut findings,
            };
            let of_stream = compared.of(stream, known).await?;
            print(&findings.add(&known.name, &of_stream))?;
        }
    }
    print(&findings.to_string())?;
    Ok(findings.exit_code())
}

/// One stream, read again and compared.
struct Comparison<'a> {
    source: &'a Source,
    routes: &'a Routes,
    store: &'a mut Store,
    findings: &'a mut Findings,
}

impl Comparison<'_> {
    /// Compares what the source still has with what the mirror has of it.
    async fn of(mut self, stream: &Stream, known: &Known) -> Result<OfStream, CommandError> {
        let mut found = OfStream {
            keeps_events: self.routes.keep_events_of(&known.name),
            route: self.routes.of(&known.name),
            is_trimmed: stream.oldest.position() > 0,
            ..OfStream::default()
        };
        // Keys whose row is not as the last event has it that was read.
        let mut keys = HashMap::new();
        let mut after = stream.oldest;
        while after.position() < known.next.position() {
            let read = self
                .source
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
            if found.keeps_events {
                found.differences += self.store.differences(&chunk).await?;
            }
            let routed = self.routed(&chunk, found.route).await?;
            found.of_route += routed.rows;
            for (key, state) in routed.keys {
                match state {
                    KeyState::Same => drop(keys.remove(&key)),
                    state => drop(keys.insert(key, state)),
                }
            }
            found.events += chunk.events.len() as u64;
            after = next;
        }
        if !keys.is_empty() {
            let places = self.store.places(&[&known.name]).await?;
            // Rows that are written over meanwhile are as later events have them.
            found.has_moved = places.get(&known.name).map(|place| place.next) != Some(known.next);
        }
        if !found.has_moved {
            let missing = keys.values().filter(|state| **state == KeyState::Missing).count() as u64;
            found.of_route.missing += missing;
            found.of_route.different += keys.len() as u64 - missing;
        }
        Ok(found)
    }

    /// The rows of the stream's route; nothing, if it has none, or one whose table cannot be compared.
    async fn routed(
        &mut self,
        chunk: &Chunk,
        route: Option<usize>,
    ) -> Result<RoutedDifferences, CommandError> {
        let Some(number) = route.filter(|number| self.findings.can_compare(*number)) else {
            return Ok(RoutedDifferences::default());
        };
        match self.store.routed_differences(chunk).await {
            Ok(differences) => Ok(differences),
            Err(error) if error.heals() => Err(error.into()),
            Err(error) => {
                self.findings.cannot_compare(number, &error);
                Ok(RoutedDifferences::default())
            }
        }
    }
}
