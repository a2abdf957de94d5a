//! Runs: what a worker says of one that it has claimed, and what others ask of them. Not every server has them.

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::connection::{Client, escape_name};
use super::error::ClientError;
use super::operations::{Append, Appended, Producer};
use super::queues::Made;

/// The producer that events of whoever has a run's lease are appended by.
const LEASE_PRODUCER: &str = "lease";

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Heartbeat {
    /// The worker may be silent for so long again.
    pub lease_ms: u64,
    /// Somebody has called the run off.
    pub cancel: bool,
}

/// What a worker says last of an attempt.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It is done.
    Complete {
        /// What came of it, as it is handed on.
        result: Option<Box<RawValue>>,
    },
    /// It has failed.
    Fail {
        /// JSON.
        error: Value,
        /// Whether another attempt is worth it.
        retry: bool,
        /// Not sooner than that; as the queue has it if absent.
        retry_after_ms: Option<u64>,
    },
    /// Somebody else is to do it: the attempt does not count.
    Release,
}

/// The body of a verdict.
#[derive(Default, Serialize)]
struct Said<'a> {
    epoch: u64,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Verdict {
    /// The operation that says it, and what goes along.
    fn said(&self, epoch: u64, seq: u64) -> (&'static str, Said<'_>) {
        let said = Said {
            epoch,
            seq,
            ..Said::default()
        };
        match self {
            Self::Complete { result } => (
                "complete",
                Said {
                    result: result.as_deref(),
                    ..said
                },
            ),
            Self::Fail {
                error,
                retry,
                retry_after_ms,
            } => (
                "fail",
                Said {
                    error: Some(error),
                    retry: Some(*retry),
                    retry_after_ms: *retry_after_ms,
                    ..said
                },
            ),
            Self::Release => ("release", said),
        }
    }
}

impl Client {
    /// A run as it is now.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn run(&self, run: &str) -> Result<Value, ClientError> {
        let action = format!("look at the run `{run}`");
        let request = self.request(Method::GET, &run_path(run, ""), action);
        self.document(request.send().await?).await
    }

    /// Says that the worker is alive.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses: the lease is over, for example.
    pub async fn heartbeat(&self, run: &str, epoch: u64) -> Result<Heartbeat, ClientError> {
        let action = format!("keep the run `{run}`");
        let request = self.request(Method::POST, &run_path(run, "/heartbeat"), action);
        let response = request.json(&json!({ "epoch": epoch }))?.send().await?;
        self.document(response).await
    }

    /// Appends events of the worker, a JSON array, under the next number. Appending them again is no harm.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses: the lease is over, for example.
    pub async fn append_events(
        &self,
        run: &str,
        epoch: u64,
        seq: u64,
        events: Bytes,
    ) -> Result<Appended, ClientError> {
        let append = Append {
            content_type: "application/json".to_owned(),
            body: events,
            close: false,
            producer: Some(Producer {
                id: LEASE_PRODUCER.to_owned(),
                epoch,
                seq,
            }),
        };
        self.append(run, &append).await
    }

    /// Ends an attempt, and answers with the state that the run is in then. Saying it again is no harm.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses: the lease is over, for example.
    pub async fn end_attempt(
        &self,
        run: &str,
        epoch: u64,
        seq: u64,
        verdict: &Verdict,
    ) -> Result<String, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            state: String,
        }
        let (operation, said) = verdict.said(epoch, seq);
        let action = format!("{operation} the run `{run}`");
        let request = self.request(Method::POST, &run_path(run, &format!("/{operation}")), action);
        let Answer { state } = self.document(request.json(&said)?.send().await?).await?;
        Ok(state)
    }

    /// Calls a run off.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses: it has ended, for example.
    pub async fn cancel_run(&self, run: &str, reason: Option<&str>) -> Result<Value, ClientError> {
        let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
        let action = format!("cancel the run `{run}`");
        let request = self.request(Method::POST, &run_path(run, "/cancel"), action);
        self.document(request.json(&body)?.send().await?).await
    }

    /// Runs an ended run again, as a new one that begins with what the old one has: from its `start`, its last
    /// `checkpoint`, or an offset of it.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses: it has not ended, for example.
    pub async fn retry_run(&self, run: &str, from: Option<&str>) -> Result<Made, ClientError> {
        let body = from.map_or_else(|| json!({}), |from| json!({ "from": from }));
        let action = format!("retry the run `{run}`");
        self.made(Method::POST, &run_path(run, "/retry"), &body, action)
            .await
    }
}

fn run_path(run: &str, below: &str) -> String {
    format!("__ds/runs/{}{below}", escape_name(run))
}
