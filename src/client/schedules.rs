//! Schedules: makes, changes, lists and deletes them. Not every server has them.

use http::Method;
use percent_encoding::utf8_percent_encode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
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

/// A part of a listing of schedules.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SchedulePage {
    /// In the order of their ids, as the server describes them.
    pub schedules: Vec<Value>,
    /// Ask for what comes after this; absent on the last page.
    pub after: Option<String>,
}

impl Client {
    /// Makes a schedule, or changes the one that is there.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn put_schedule(&self, id: &str, schedule: &PutSchedule) -> Result<Made, ClientError> {
        let action = format!("make the schedule `{id}`");
        self.made(Method::PUT, &schedule_path(id), schedule, action).await
    }

    /// A schedule as it is now.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn schedule(&self, id: &str) -> Result<Value, ClientError> {
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
