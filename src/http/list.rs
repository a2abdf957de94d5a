//! GET `__ds/streams`: lists streams by prefix, in pages.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use tailwater_storage::engine::Listed;
use tailwater_storage::stream::queue::RunStatus;
use tailwater_storage::stream::{Lifetime, StreamKind};

use super::control::{self, to_side};
use super::error::Problem;
use super::{App, query, time};

struct ListQuery {
    prefix: String,
    after: Option<String>,
    limit: usize,
}

impl ListQuery {
    fn parse(query: &str, limit_max: usize) -> Result<Self, Problem> {
        let mut parsed = Self {
            prefix: String::new(),
            after: None,
            limit: limit_max,
        };
        for (name, value) in query::pairs(query) {
            match name {
                "prefix" => parsed.prefix = value.into_owned(),
                "after" => parsed.after = Some(value.into_owned()),
                "limit" => parsed.limit = query::limit(&value, limit_max)?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<axum::response::Response, Problem> {
    let query = ListQuery::parse(
        query.as_deref().unwrap_or_default(),
        app.config.limits.max_list_entries,
    )?;
    let listing = app
        .engine
        .list(&query.prefix, query.after.as_deref(), query.limit)
        .await?;
    let statuses = run_statuses(&app, &listing.streams).await?;
    let streams: Vec<_> = listing
        .streams
        .iter()
        .zip(statuses)
        .map(|(stream, status)| {
            let mut document = describe(stream);
            if let Some(status) = status {
                document["run"] = json!({
                    "state": status.state.name(),
                    "attempt": status.attempt,
                    "queue": status.queue.as_str(),
                });
            }
            document
        })
        .collect();
    Ok(to_side(control::json(&json!({
        "streams": streams,
        "after": listing.after.map(|name| name.to_string()),
        "changes": listing.changes.to_string(),
    }))))
}

/// Where those of the streams stand that are runs.
async fn run_statuses(app: &App, streams: &[Listed]) -> Result<Vec<Option<RunStatus>>, Problem> {
    let is_run = |stream: &&Listed| stream.kind == StreamKind::Run;
    let runs: Vec<_> = streams.iter().filter(is_run).map(|stream| stream.id).collect();
    let Some(queues) = app.queues.as_ref().filter(|_| !runs.is_empty()) else {
        return Ok(streams.iter().map(|_| None).collect());
    };
    let mut statuses = queues.statuses(runs).await?.into_iter();
    let of_each = streams.iter().map(|stream| {
        if is_run(&stream) {
            statuses.next().flatten()
        } else {
            None
        }
    });
    Ok(of_each.collect())
}

/// A stream as a JSON object.
pub(super) fn describe(stream: &Listed) -> Value {
    let (ttl_seconds, expires_at) = match stream.lifetime {
        Lifetime::Forever => (None, None),
        Lifetime::Ttl { seconds } => (Some(seconds), None),
        Lifetime::Until { at } => (None, Some(time::format(at))),
    };
    json!({
        "name": stream.name.as_str(),
        "id": stream.id.to_string(),
        "content_type": stream.content_type.as_str(),
        "next_offset": stream.tail.to_string(),
        "oldest_offset": stream.oldest.to_string(),
        "bytes": stream.bytes,
        "messages": stream.messages,
        "created_at": time::format(stream.created_at),
        "last_append_at": stream.last_append_at.map(time::format),
        "closed": stream.closed,
        "ttl_seconds": ttl_seconds,
        "expires_at": expires_at,
        "forked_from": stream.forked_from.as_ref().map(ToString::to_string),
    })
}
