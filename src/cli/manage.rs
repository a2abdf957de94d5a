//! Commands on streams as a whole: create, ls, head, close, rm; and health, on the server.

use std::time::Duration;

use serde_json::json;

use super::arguments::{
    CreateOptions, HeadOptions, HealthOptions, ListOptions, RemoveOptions, StreamOptions,
};
use super::error::CommandError;
use super::output::Output;
use super::patience::patiently;
use crate::client::{Create, Fork, Health};

pub(super) async fn create(options: &CreateOptions, output: &mut Output) -> Result<(), CommandError> {
    let name = &options.stream.name;
    let fork = options.from.clone().map(|source| Fork {
        source,
        offset: options.at.clone(),
    });
    let create = Create {
        content_type: options.content_type.clone(),
        ttl_secs: options.ttl,
        closed: options.closed,
        fork,
        ..Create::default()
    };
    let client = options.stream.connection.client()?;
    let created = patiently(async || client.create(name, &create).await).await?;
    eprintln!(
        "{}",
        if created.is_new {
            format!("created `{name}`")
        } else {
            format!("`{name}` exists already")
        }
    );
    output.line(&created.next_offset)?;
    output.flush()
}

pub(super) async fn list(options: &ListOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let mut after = None;
    loop {
        let page = patiently(async || client.list(&options.prefix, after.as_deref()).await).await?;
        for stream in &page.streams {
            if options.json {
                output.line(&stream.json)?;
            } else if options.long {
                let state = if stream.closed { "closed" } else { "open" };
                output.line(&format!(
                    "{}\t{}\t{}\t{}\t{}\t{state}",
                    stream.name, stream.content_type, stream.bytes, stream.messages, stream.next_offset
                ))?;
            } else {
                output.line(&stream.name)?;
            }
        }
        output.flush()?;
        // A page that does not get further would be asked for without end.
        if page.after.is_none() || page.after == after {
            return Ok(());
        }
        after = page.after;
    }
}

pub(super) async fn head(options: &HeadOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.stream.connection.client()?;
    let head = patiently(async || client.head(&options.stream.name).await).await?;
    let properties = json!({
        "name": options.stream.name,
        "content_type": head.content_type,
        "next_offset": head.next_offset,
        "oldest_offset": head.oldest_offset,
        "closed": head.closed,
        "ttl_seconds": head.ttl_secs,
        "expires_at": head.expires_at,
    });
    if options.json {
        output.line(&properties.to_string())?;
    } else {
        for (key, value) in properties
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
        {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            output.line(&format!("{key}: {text}"))?;
        }
    }
    output.flush()
}

/// Asks once: whoever runs it asks again.
pub(super) async fn health(options: &HealthOptions) -> Result<(), CommandError> {
    let question = if options.alive {
        Health::Alive
    } else {
        Health::Ready
    };
    let client = options.trust.client(&options.url)?;
    Ok(client
        .health(question, Duration::from_secs(options.timeout))
        .await?)
}

pub(super) async fn close(options: &StreamOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let closed = patiently(async || client.close(&options.name).await).await?;
    output.line(&closed.next_offset)?;
    output.flush()
}

pub(super) async fn remove(options: &RemoveOptions) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    for name in &options.names {
        patiently(async || client.delete(name).await).await?;
        eprintln!("deleted `{name}`");
    }
    Ok(())
}
