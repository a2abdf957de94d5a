//! `status`: who mirrors, and how far the mirror has come in each stream, by the tables and by what the source has now.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use super::error::CommandError;
use super::print;
use crate::partition::{PARTITIONS, Partition};
use crate::postgres::survey::Known;
use crate::postgres::{Sharing, Store};
use crate::settings::{Effective, SyncConfig};
use crate::source::{Discovery, Source, Stream};

pub(super) async fn status(effective: &Effective) -> Result<ExitCode, CommandError> {
    let sync = &effective.config.sync;
    let postgres = effective.postgres()?;
    let mut present = streams_at(Source::new(sync.source())?, sync).await?;
    let mut store = Store::connect(&postgres).await?;
    print(&instances(&store.sharing(&sync.streams.to_string()).await?))?;
    let mut after: Option<String> = None;
    loop {
        let known = store.known(after.as_deref()).await?;
        let Some(last) = known.last() else { break };
        after = Some(last.name.clone());
        let known = known.iter().filter(|known| sync.streams.matches(&known.name));
        let text = known.fold(String::new(), |mut text, known| {
            let at_source = present.remove(&known.name);
            let _ = writeln!(text, "{}", line(known, at_source.as_ref()));
            text
        });
        print(&text)?;
    }
    let unknown = present.values().fold(String::new(), |mut text, stream| {
        let bytes = stream.next.position() - stream.oldest.position();
        let _ = writeln!(text, "{}\tnew\t0\t{bytes}\t", stream.name);
        text
    });
    print(&unknown)?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each instance, and one for what nobody holds while there are some; none while there are no instances.
fn instances(sharing: &Sharing) -> String {
    let mut text = String::new();
    for instance in &sharing.instances {
        let held: Vec<_> = sharing.leases_of(instance.id).into_keys().collect();
        let state = if instance.is_alive() {
            format!("renews within {} ms", instance.time_left.as_millis())
        } else {
            "was not heard of any more".to_owned()
        };
        let (name, count, ranges) = (&instance.name, held.len(), ranges(&held));
        let _ = writeln!(
            text,
            "# instance {name}: {count} of {PARTITIONS} partitions ({ranges}), {state}"
        );
    }
    let free: Vec<_> = sharing.free().into_iter().collect();
    if !free.is_empty() && !sharing.instances.is_empty() {
        let (count, ranges) = (free.len(), ranges(&free));
        let _ = writeln!(text, "# nobody: {count} of {PARTITIONS} partitions ({ranges})");
    }
    text
}

/// Partitions in their order, as `0-31 40`.
fn ranges(partitions: &[Partition]) -> String {
    let runs = partitions.chunk_by(|one, next| one.number() + 1 == next.number());
    let run = |run: &[Partition]| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    };
    runs.map(run).collect::<Vec<_>>().join(" ")
}

/// The streams of the source that are meant, by name.
pub(super) async fn streams_at(
    source: Source,
    sync: &SyncConfig,
) -> Result<BTreeMap<String, Stream>, CommandError> {
    let mut discovery = Discovery::new(source, sync.streams.clone());
    while !discovery.is_complete() {
        discovery.step().await?;
    }
    let streams = discovery.streams();
    Ok(streams
        .map(|stream| (stream.name.to_string(), stream.clone()))
        .collect())
}

fn line(known: &Known, at_source: Option<&Stream>) -> String {
    let state = match at_source {
        None => "deleted",
        Some(stream) if stream.incarnation != known.incarnation => "recreated",
        Some(_) if known.closed => "closed",
        Some(_) => "open",
    };
    let missing = at_source.map_or(0, |stream| {
        let mirrored = if state == "recreated" {
            0
        } else {
            known.next.position()
        };
        stream.next.position().saturating_sub(mirrored)
    });
    // An error may quote what has line breaks.
    let error = known
        .error
        .as_deref()
        .unwrap_or_default()
        .replace(['\n', '\r', '\t'], " ");
    format!("{}\t{state}\t{}\t{missing}\t{error}", known.name, known.events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_follow_one_another_are_told_as_ranges() {
        let numbered = |numbers: &[i32]| {
            let partitions = numbers.iter().filter_map(|number| Partition::numbered(*number));
            ranges(&partitions.collect::<Vec<_>>())
        };
        assert_eq!(numbered(&[0, 1, 2, 5, 7, 8, 63]), "0-2 5 7-8 63");
        assert_eq!(numbered(&[]), "");
    }
}
