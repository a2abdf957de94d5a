//! `tailwater sub`: subscriptions and the work for them, through a server; and the keys of the server of a data directory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::{Value, json};

use super::arguments::subscriptions::{
    ClaimFile, RotateKeyOptions, SubAckOptions, SubClaimOptions, SubCreateOptions, SubDeleteOptions,
    SubListOptions, SubOptions, SubReleaseOptions, SubStreamsOptions,
};
use super::error::CommandError;
use super::listing;
use super::output::{Output, cell};
use super::patience::patiently;
use super::store::{ask, unasked};
use crate::client::{Ack, Claim, Subscribe};
use crate::control::{Answer, Request, Rotation};

/// No claim is longer.
const CLAIM_BYTES_MAX: u64 = 64 << 20;

pub(super) async fn create(options: &SubCreateOptions, output: &mut Output) -> Result<(), CommandError> {
    let id = &options.sub.id;
    let subscribe = Subscribe {
        webhook: options.webhook.clone(),
        wake_stream: options.wake_stream.clone(),
        pattern: options.pattern.clone(),
        streams: options.streams.clone(),
        lease_ttl_ms: options.lease_ttl_ms,
        description: options.description.clone(),
    };
    let client = options.sub.connection.client()?;
    let subscribed = patiently(async || client.subscribe(id, &subscribe).await).await?;
    eprintln!(
        "{}",
        if subscribed.is_new {
            format!("created the subscription `{id}`")
        } else {
            format!("the subscription `{id}` exists already")
        }
    );
    if options.json {
        output.line(&subscribed.subscription.to_string())?;
    }
    output.flush()
}

pub(super) async fn list(options: &SubListOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let page = async |after: Option<&str>| {
        let page = client.subscriptions(after).await?;
        Ok((page.subscriptions, page.after))
    };
    let line = |subscription: &Value| match (options.json, options.long) {
        (true, _) => subscription.to_string(),
        (false, true) => long_line(subscription),
        (false, false) => cell(&subscription["id"]),
    };
    listing::print(output, page, line).await
}

/// What a subscription does and how it goes, with tabs between.
fn long_line(subscription: &Value) -> String {
    let (lag, error) = (&subscription["lag"], &subscription["last_error"]);
    let cells = [
        &subscription["id"],
        &subscription["type"],
        &subscription["status"],
        &subscription["state"],
        &lag["streams"],
        &lag["bytes"],
        &error["message"],
    ];
    cells.map(cell).join("\t")
}

/// Shows a subscription with all of its streams, page by page.
pub(super) async fn show(options: &SubOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let page =
        async |after: Option<&str>| patiently(async || client.subscription(&options.id, after).await).await;
    let mut subscription = page(None).await?;
    while let Some(after) = subscription["streams_after"].as_str().map(str::to_owned) {
        let mut next = page(Some(&after)).await?;
        // A page that does not get further would be asked for without end.
        let goes_on = next["streams_after"] != *after;
        let streams = next["streams"].as_array_mut().map(std::mem::take);
        if let (Some(all), Some(streams)) = (subscription["streams"].as_array_mut(), streams) {
            all.extend(streams);
        }
        subscription["streams_after"] = if goes_on {
            next["streams_after"].take()
        } else {
            Value::Null
        };
    }
    output.line(&subscription.to_string())?;
    output.flush()
}

pub(super) async fn delete(options: &SubDeleteOptions) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    for id in &options.ids {
        patiently(async || client.unsubscribe(id).await).await?;
        eprintln!("deleted the subscription `{id}`");
    }
    Ok(())
}

pub(super) async fn add(options: &SubStreamsOptions) -> Result<(), CommandError> {
    let client = options.sub.connection.client()?;
    let (id, streams) = (&options.sub.id, &options.streams);
    patiently(async || client.add_to_subscription(id, streams).await).await?;
    Ok(())
}

pub(super) async fn remove(options: &SubStreamsOptions) -> Result<(), CommandError> {
    let client = options.sub.connection.client()?;
    for stream in &options.streams {
        patiently(async || client.remove_from_subscription(&options.sub.id, stream).await).await?;
    }
    Ok(())
}

pub(super) async fn claim(options: &SubClaimOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.sub.connection.client()?;
    let claim = patiently(async || client.claim(&options.sub.id, &options.worker).await).await?;
    output.line(&json!(claim).to_string())?;
    output.flush()
}

pub(super) async fn ack(options: &SubAckOptions, output: &mut Output) -> Result<(), CommandError> {
    let claim = read_claim(&options.claim)?;
    let acks: Vec<_> = if options.all {
        let all = claim.streams.iter().map(|stream| Ack {
            stream: stream.path.clone(),
            offset: stream.tail_offset.clone(),
        });
        all.collect()
    } else {
        let given = options.acks.iter().map(|(stream, offset)| Ack {
            stream: stream.clone(),
            offset: offset.clone(),
        });
        given.collect()
    };
    let client = options.sub.connection.client()?;
    let next_wake =
        patiently(async || client.ack(&options.sub.id, &claim, &acks, options.done).await).await?;
    output.line(match (options.done, next_wake) {
        // Servers tell what is left only to those who are done.
        (false, _) => "the claim goes on",
        (true, true) => "there is more to do",
        (true, false) => "there is nothing more to do",
    })?;
    output.flush()
}

pub(super) async fn release(options: &SubReleaseOptions) -> Result<(), CommandError> {
    let claim = read_claim(&options.claim)?;
    let client = options.sub.connection.client()?;
    patiently(async || client.release(&options.sub.id, &claim).await).await?;
    Ok(())
}

fn read_claim(file: &ClaimFile) -> Result<Claim, CommandError> {
    let mut text = Vec::new();
    match &file.path {
        None => io::stdin()
            .take(CLAIM_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(|source| CommandError::Input { source })?,
        Some(path) => File::open(path)
            .and_then(|file| file.take(CLAIM_BYTES_MAX).read_to_end(&mut text))
            .map_err(|source| CommandError::File {
                path: path.clone(),
                source,
            })?,
    };
    serde_json::from_slice(&text).map_err(|source| CommandError::BadClaim { source })
}

pub(super) fn rotate_key(options: &RotateKeyOptions, output: &mut Output) -> Result<(), CommandError> {
    let dir: &Path = &options.store.directory.path;
    let request = Request::RotateKey {
        at_once: options.at_once,
    };
    let rotation = match ask(dir, &request)? {
        Some(Answer::RotateKey(rotation)) => rotation,
        Some(other) => return Err(unasked(dir, other)),
        None => return Err(CommandError::NoServer { dir: dir.to_owned() }),
    };
    if options.store.json {
        output.line(&json!(rotation).to_string())?;
    } else {
        output.line(&told(&rotation))?;
    }
    output.flush()
}

fn told(rotation: &Rotation) -> String {
    let Rotation {
        kid,
        signs_in_secs,
        published,
    } = rotation;
    match signs_in_secs {
        0 => format!("{kid} signs from now on; keys that are published: {published}"),
        secs => format!("{kid} is published and signs in {secs} s; keys that are published: {published}"),
    }
}
