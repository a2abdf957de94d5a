//! Queues: makes and looks after them, enqueues, and claims jobs. Not every server has them.

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::connection::{Client, escape_name};
use super::error::ClientError;

/// The answer to a request that makes something, or finds that it is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Made<T = Value> {
    /// False if it was there already.
    pub is_new: bool,
    /// It, as the server describes it.
    pub document: T,
}

/// A part of a listing of queues.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct QueuePage {
    /// In the order of their streams' names, as the server describes them.
    pub queues: Vec<Value>,
    /// Ask for what comes after this; absent on the last page.
    pub next: Option<String>,
}

/// A part of a listing of dead letters.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DeadPage {
    /// In the order of their jobs, as the server describes them.
    pub dead: Vec<Value>,
    /// Ask for what comes after this; absent on the last page.
    pub next: Option<String>,
}

/// A job to be done.
#[derive(Debug, Clone, Serialize)]
pub struct Enqueue {
    /// What is to be done, as it is handed on.
    pub payload: Box<RawValue>,
    /// Names the run; a second job of that id is the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Not before this time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<String>,
    /// The queue's own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u64>,
}

/// A job that a worker has claimed.
#[derive(Debug, Deserialize)]
pub struct ClaimedJob {
    /// Its place in the queue.
    pub job: Value,
    /// The run that its events go to.
    pub run: String,
    /// Fences whoever had it before.
    pub epoch: u64,
    /// The number of the worker's first event.
    pub next_seq: u64,
    /// The how-manieth attempt it is, from 1 on.
    pub attempt: u64,
    /// The worker may be silent for so long.
    pub lease_ms: u64,
    /// What is to be done.
    pub payload: Box<RawValue>,
}

impl Client {
    /// Makes a stream a queue, or changes one, with these settings.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn put_queue(&self, stream: &str, settings: &Value) -> Result<Made, ClientError> {
        let action = format!("make the queue `{stream}`");
        self.made(Method::PUT, &queue_path(stream, ""), settings, action)
            .await
    }

    /// One page of all queues, after the stream `after`.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn queues(&self, after: Option<&str>) -> Result<QueuePage, ClientError> {
        self.page("__ds/queues", after, "list queues".to_owned()).await
    }

    /// A queue as it is now.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn queue(&self, stream: &str) -> Result<Value, ClientError> {
        let action = format!("look at the queue `{stream}`");
        let request = self.request(Method::GET, &queue_path(stream, ""), action);
        self.document(request.send().await?).await
    }

    /// Makes a queue a plain stream again. What is open is cancelled.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn delete_queue(&self, stream: &str) -> Result<(), ClientError> {
        let action = format!("delete the queue `{stream}`");
        let request = self.request(Method::DELETE, &queue_path(stream, ""), action);
        request.send().await.map(drop)
    }

    /// Enqueues a job. Answers with its run.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses: another job has that id, for example.
    pub async fn enqueue(&self, stream: &str, job: &Enqueue) -> Result<Made, ClientError> {
        let action = format!("enqueue to `{stream}`");
        self.made(Method::POST, &queue_path(stream, "/enqueue"), job, action)
            .await
    }

    /// Claims at most `count_max` jobs, and waits for some for `wait_ms` at most.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn claim_jobs(
        &self,
        stream: &str,
        worker: &str,
        count_max: usize,
        wait_ms: u64,
    ) -> Result<Vec<ClaimedJob>, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            jobs: Vec<ClaimedJob>,
        }
        let body = json!({ "worker": worker, "max": count_max, "wait_ms": wait_ms });
        let action = format!("claim from `{stream}`");
        let request = self.request(Method::POST, &queue_path(stream, "/claim"), action);
        let Answer { jobs } = self.document(request.json(&body)?.send().await?).await?;
        Ok(jobs)
    }

    /// Asks something of a queue: `pause`, `resume` or `purge`.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn ask_queue(&self, stream: &str, what: &str, body: &Value) -> Result<Value, ClientError> {
        let action = format!("{what} the queue `{stream}`");
        let request = self.request(Method::POST, &queue_path(stream, &format!("/{what}")), action);
        self.document(request.json(body)?.send().await?).await
    }

    /// One page of a queue's dead letters, after the job `after`.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn dead_letters(&self, stream: &str, after: Option<&str>) -> Result<DeadPage, ClientError> {
        let action = format!("list the dead letters of `{stream}`");
        self.page(&queue_path(stream, "/dead"), after, action).await
    }

    /// Enqueues a dead letter again, or all of them if no job is named.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn redrive(&self, stream: &str, job: Option<&str>) -> Result<Value, ClientError> {
        let body = match job {
            Some(job) => json!({ "job": job }),
            None => json!({ "all": true }),
        };
        let action = format!("redrive dead letters of `{stream}`");
        let request = self.request(Method::POST, &queue_path(stream, "/dead/redrive"), action);
        self.document(request.json(&body)?.send().await?).await
    }

    pub(super) async fn made<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        action: String,
    ) -> Result<Made<T>, ClientError> {
        let response = self.request(method, path, action).json(body)?.send().await?;
        Ok(Made {
            is_new: response.status() == StatusCode::CREATED,
            document: self.document(response).await?,
        })
    }

    pub(super) async fn page<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        after: Option<&str>,
        action: String,
    ) -> Result<T, ClientError> {
        let parameters: Vec<_> = after.map(|after| ("after", after)).into_iter().collect();
        let request = self.request(Method::GET, path, action).query(&parameters);
        self.document(request.send().await?).await
    }
}

fn queue_path(stream: &str, below: &str) -> String {
    format!("__ds/queues/{}{below}", escape_name(stream))
}
