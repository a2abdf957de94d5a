//! Schedules: makes, changes, lists and deletes them. Not every server has them.

use http::Method;
use percent_encoding::utf8_percent_encode;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::connection::{Client, ESCAPED};
use super::error::ClientError;
use super::queues::Made;

/// What a schedule is to be.
#[derive(Debug, Clone, Serialize)]
pub struct PutSchedule {
    /// The JSON stream, or queue, that is appended to.
    pub stream: String,
    /// The cron expression.
    pub cron: String,
    /// An IANA name; UTC if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What is enqueued, as it is handed on.
    pub payload: Box<RawValue>,
    /// `job` or `message`; the server's default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enqueue_as: Option<&'static str>,
    /// `skip`, `once` or `all`; the server's default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misfire: Option<&'static str>,
    /// Whether fire times pass without anything being enqueued.
    pub paused: bool,
    /// No fire time is before this (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_at: Option<String>,
    /// Every fire time is before this (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_at: Option<String>,
}

/// A schedule as it is now.
#[derive(Debug, Clone)]
pub struct ShownSchedule {
    /// What there is to know of it beside its payload.
    pub facts: ScheduleFacts,
    /// All of it, as the server sent it: its payload may be any JSON, also what no number or text of Rust can hold.
    pub json: Box<RawValue>,
}

/// What is told of a schedule beside its payload. Times are RFC 3339 texts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ScheduleFacts {
    /// Names it.
    pub id: String,
    /// What is appended to.
    pub stream: String,
    /// The cron expression.
    pub cron: String,
    /// By whose clocks it fires.
    pub time_zone: String,
    /// None if it fires no more, or is paused.
    pub next_fire_at: Option<String>,
    /// None if it has not fired.
    pub last_fire: Option<LastFire>,
    /// None if it works.
    pub last_error: Option<LastError>,
}

/// When a schedule fired last.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LastFire {
    /// The fire time.
    pub at: String,
}

/// Why a schedule cannot fire.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LastError {
    /// For people.
    pub message: String,
}

impl<'de> Deserialize<'de> for ShownSchedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let facts = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        Ok(Self { facts, json })
    }
}

/// A part of a listing of schedules.
#[derive(Debug, Clone, Deserialize)]
pub struct SchedulePage {
    /// In the order of their ids.
    pub schedules: Vec<ShownSchedule>,
    /// Ask for what comes after this; absent on the last page.
    pub after: Option<String>,
}

impl Client {
    /// Makes a schedule, or changes the one that is there.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn put_schedule(
        &self,
        id: &str,
        schedule: &PutSchedule,
    ) -> Result<Made<ShownSchedule>, ClientError> {
        let action = format!("make the schedule `{id}`");
        self.made(Method::PUT, &schedule_path(id), schedule, action).await
    }

    /// A schedule as it is now.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn schedule(&self, id: &str) -> Result<ShownSchedule, ClientError> {
        let action = format!("look at the schedule `{id}`");
        let request = self.request(Method::GET, &schedule_path(id), action);
        self.document(request.send().await?).await
    }

    /// One page of all schedules, after the id `after`.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn schedules(&self, after: Option<&str>) -> Result<SchedulePage, ClientError> {
        self.page("__ds/schedules", after, "list schedules".to_owned())
            .await
    }

    /// Deletes a schedule.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn delete_schedule(&self, id: &str) -> Result<(), ClientError> {
        let action = format!("delete the schedule `{id}`");
        let request = self.request(Method::DELETE, &schedule_path(id), action);
        request.send().await.map(drop)
    }
}

fn schedule_path(id: &str) -> String {
    format!("__ds/schedules/{}", utf8_percent_encode(id, ESCAPED))
}
