//! What answers say of schedules.

use serde::Serialize;
use serde_json::value::RawValue;
use tailwater_storage::schedules::Described;
use tailwater_storage::stream::schedule::{EnqueueAs, Misfire};

use crate::http::time;

/// A schedule as it is now. Times are RFC 3339 texts.
#[derive(Serialize)]
pub(super) struct Document {
    id: String,
    stream: String,
    cron: String,
    time_zone: String,
    /// As it was sent.
    payload: Box<RawValue>,
    enqueue_as: &'static str,
    misfire: &'static str,
    paused: bool,
    start_at: Option<String>,
    end_at: Option<String>,
    created_at: String,
    fires: u64,
    next_fire_at: Option<String>,
    last_fire: Option<LastFire>,
    last_error: Option<LastError>,
}

/// A part of a listing.
#[derive(Serialize)]
pub(super) struct Page<'a> {
    pub(super) schedules: Vec<Document>,
    /// Ask for what comes after this; null on the last page.
    pub(super) after: Option<&'a str>,
}

#[derive(Serialize)]
struct LastFire {
    at: String,
    enqueued_at: String,
}

#[derive(Serialize)]
struct LastError {
    at: String,
    failures: u32,
    message: Box<str>,
    next_attempt_at: String,
}

impl Document {
    pub(super) fn of(described: &Described) -> Self {
        let Described {
            id,
            config,
            created_at,
            state,
            next,
        } = described;
        Self {
            id: id.to_string(),
            stream: config.stream.to_string(),
            cron: config.cron.to_string(),
            time_zone: config.time_zone.to_string(),
            payload: RawValue::from_string(config.payload.to_string()).expect("a payload is JSON"),
            enqueue_as: match config.enqueue_as {
                EnqueueAs::Job => "job",
                EnqueueAs::Message => "message",
            },
            misfire: match config.misfire {
                Misfire::Skip => "skip",
                Misfire::Once => "once",
                Misfire::All => "all",
            },
            paused: config.paused,
            start_at: config.start_at.map(time::format),
            end_at: config.end_at.map(time::format),
            created_at: time::format(*created_at),
            fires: state.fires,
            next_fire_at: next.map(time::format),
            last_fire: state.last.map(|last| LastFire {
                at: time::format(last.at),
                enqueued_at: time::format(last.enqueued_at),
            }),
            last_error: state.trouble.as_ref().map(|trouble| LastError {
                at: time::format(trouble.failed_at),
                failures: trouble.failures,
                message: trouble.error.clone(),
                next_attempt_at: time::format(trouble.next_attempt_at),
            }),
        }
    }
}
