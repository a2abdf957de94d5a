//! Everything that is one request and one answer: create, append, close, delete, head, list, health.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::connection::{Client, header_text, is_true};
use super::error::ClientError;

/// What a server is asked about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Whether it takes requests and its storage works.
    Ready,
    /// Whether the process is up.
    Alive,
}

/// How a stream is to be created. The default is an open stream of the server's default content type.
#[derive(Debug, Clone, Default)]
pub struct Create {
    /// The server's default, or the fork's source's, if absent.
    pub content_type: Option<String>,
    /// The stream goes after being idle for so many seconds.
    pub ttl_secs: Option<u64>,
    /// Nothing can be appended after `body`.
    pub closed: bool,
    /// Begin with another stream's data.
    pub fork: Option<Fork>,
    /// The first content.
    pub body: Bytes,
}

/// What a new stream begins with.
#[derive(Debug, Clone)]
pub struct Fork {
    /// The other stream's name.
    pub source: String,
    /// Up to here; the source's tail if absent.
    pub offset: Option<String>,
}

/// The answer to a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// False if the stream existed already, with the same configuration.
    pub is_new: bool,
    /// The tail.
    pub next_offset: String,
}

/// Who appends, for exactly-once (PROTOCOL.md §5.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    /// Stable across restarts.
    pub id: String,
    /// Grows with every restart.
    pub epoch: u64,
    /// Grows by one with every append in an epoch, from 0.
    pub seq: u64,
}

/// What to append.
#[derive(Debug, Clone, Default)]
pub struct Append {
    /// Must be the stream's.
    pub content_type: String,
    /// Not empty. A JSON array is as many messages as it has elements.
    pub body: Bytes,
    /// Close the stream in the same step.
    pub close: bool,
    /// Makes it safe to repeat the append.
    pub producer: Option<Producer>,
}

/// The answer to an append or a close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The tail after it.
    pub next_offset: String,
    /// The stream is closed now.
    pub closed: bool,
    /// The producer had appended this before; nothing was added.
    pub is_duplicate: bool,
}

/// What HEAD tells of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHead {
    /// As it was given at creation.
    pub content_type: String,
    /// The tail.
    pub next_offset: String,
    /// Where reading can begin, if the server says it.
    pub oldest_offset: Option<String>,
    /// Nothing can be appended any more.
    pub closed: bool,
    /// The stream goes after being idle for so many seconds.
    pub ttl_secs: Option<u64>,
    /// The stream goes then (RFC 3339).
    pub expires_at: Option<String>,
}

/// A part of a listing.
#[derive(Debug, Clone)]
pub struct ListPage {
    /// In the order of their names.
    pub streams: Vec<ListedStream>,
    /// Ask for what comes after this; absent on the last page.
    pub after: Option<String>,
}

/// A stream in a listing.
#[derive(Debug, Clone, Deserialize)]
pub struct ListedStream {
    /// Below the base URL.
    pub name: String,
    /// As it was given at creation.
    pub content_type: String,
    /// The tail.
    pub next_offset: String,
    /// What the stream holds.
    pub bytes: u64,
    /// How many messages it holds.
    pub messages: u64,
    /// Nothing can be appended any more.
    pub closed: bool,
    /// The whole entry, as the server sent it.
    #[serde(skip)]
    pub json: String,
}

impl Client {
    /// Creates a stream, or finds it with the same configuration.
    pub async fn create(&self, name: &str, create: &Create) -> Result<Created, ClientError> {
        let mut request = self.stream_request(Method::PUT, name, format!("create `{name}`"));
        if let Some(content_type) = &create.content_type {
            request = request.header("content-type", content_type)?;
        }
        if let Some(ttl_secs) = create.ttl_secs {
            request = request.header("stream-ttl", &ttl_secs.to_string())?;
        }
        if create.closed {
            request = request.header("stream-closed", "true")?;
        }
        if let Some(fork) = &create.fork {
            request = request.header("stream-forked-from", &self.stream_path(&fork.source))?;
            if let Some(offset) = &fork.offset {
                request = request.header("stream-fork-offset", offset)?;
            }
        }
        let response = request.body(create.body.clone()).send().await?;
        let next_offset = self.next_offset(response.headers())?;
        Ok(Created {
            is_new: response.status() == StatusCode::CREATED,
            next_offset,
        })
    }

    /// Appends to a stream.
    pub async fn append(&self, name: &str, append: &Append) -> Result<Appended, ClientError> {
        let mut request = self
            .stream_request(Method::POST, name, format!("append to `{name}`"))
            .header("content-type", &append.content_type)?
            .body(append.body.clone());
        if append.close {
            request = request.header("stream-closed", "true")?;
        }
        if let Some(producer) = &append.producer {
            request = request
                .header("producer-id", &producer.id)?
                .header("producer-epoch", &producer.epoch.to_string())?
                .header("producer-seq", &producer.seq.to_string())?;
        }
        let response = request.send().await?;
        Ok(Appended {
            next_offset: self.next_offset(response.headers())?,
            closed: is_true(response.headers(), "stream-closed"),
            is_duplicate: append.producer.is_some() && response.status() == StatusCode::NO_CONTENT,
        })
    }

    /// Closes a stream, which may be closed already.
    pub async fn close(&self, name: &str) -> Result<Appended, ClientError> {
        let request = self.stream_request(Method::POST, name, format!("close `{name}`"));
        let response = request.header("stream-closed", "true")?.send().await?;
        let next_offset = self.next_offset(response.headers())?;
        Ok(Appended {
            next_offset,
            closed: true,
            is_duplicate: false,
        })
    }

    /// Deletes a stream with all its data.
    pub async fn delete(&self, name: &str) -> Result<(), ClientError> {
        self.stream_request(Method::DELETE, name, format!("delete `{name}`"))
            .send()
            .await
            .map(drop)
    }

    /// Asks the server itself, wherever streams are, whether it is ready for requests, or only whether it is up. It has
    /// to say so within `timeout`.
    pub async fn health(&self, question: Health, timeout: Duration) -> Result<(), ClientError> {
        let (path, action) = match question {
            Health::Ready => ("/readyz", "be ready"),
            Health::Alive => ("/healthz", "say that it is up"),
        };
        self.root_request(Method::GET, path, action.to_owned())
            .answer_within(timeout)
            .send()
            .await
            .map(drop)
    }

    /// Looks at a stream without reading it. Does not extend its life.
    pub async fn head(&self, name: &str) -> Result<StreamHead, ClientError> {
        let response = self
            .stream_request(Method::HEAD, name, format!("look at `{name}`"))
            .send()
            .await?;
        let headers = response.headers();
        let text = |name| header_text(headers, name).map(str::to_owned);
        Ok(StreamHead {
            content_type: text(CONTENT_TYPE.as_str()).ok_or_else(|| self.unexpected("no Content-Type"))?,
            next_offset: self.next_offset(headers)?,
            oldest_offset: text("stream-oldest-offset"),
            closed: is_true(headers, "stream-closed"),
            ttl_secs: text("stream-ttl").and_then(|secs| secs.parse().ok()),
            expires_at: text("stream-expires-at"),
        })
    }

    /// One page of the streams whose names begin with `prefix`, after the name `after`. Not every server has
    /// listings.
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            streams: Vec<Box<RawValue>>,
            after: Option<String>,
        }
        let mut parameters = Vec::new();
        parameters.extend(after.map(|after| ("after", after)));
        parameters.push(("prefix", prefix));
        let request = self.request(Method::GET, "__ds/streams", "list streams".to_owned());
        let body = self
            .collect(request.query(&parameters).send().await?.into_body())
            .await?;
        let bad =
            |error: serde_json::Error| self.unexpected(format!("a listing that cannot be read: {error}"));
        let answer: Answer = serde_json::from_slice(&body).map_err(bad)?;
        let entry = |entry: Box<RawValue>| {
            let listed: ListedStream = serde_json::from_str(entry.get())?;
            Ok(ListedStream {
                json: entry.get().to_owned(),
                ..listed
            })
        };
        let streams = answer
            .streams
            .into_iter()
            .map(entry)
            .collect::<Result<_, _>>()
            .map_err(bad)?;
        Ok(ListPage {
            streams,
            after: answer.after,
        })
    }

    pub(super) fn next_offset(&self, headers: &HeaderMap) -> Result<String, ClientError> {
        let offset = header_text(headers, "stream-next-offset").filter(|offset| !offset.is_empty());
        offset
            .map(str::to_owned)
            .ok_or_else(|| self.unexpected("no Stream-Next-Offset"))
    }
}
