//! Follows a stream over SSE. A connection may end at any point: the next one goes on exactly behind what was
//! handed out, so that nothing comes twice and nothing is left out.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tailwater_process::Backoff;
use tokio::time::Instant;

use super::View;
use super::connection::{Client, header_text};
use super::error::ClientError;
use super::sse::{SseEvent, SseParser};

/// Servers break the silence with comments and end connections after about a minute, so a longer silence
/// means that the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// A connection that ends sooner, and brought nothing, counts as a failure; else a server that always ends at
/// once would be asked in a tight loop.
const CONNECTION_MIN: Duration = Duration::from_secs(1);

/// What happens on a stream that is followed.
#[derive(Debug)]
pub enum TailEvent {
    /// Data, in order. For a JSON stream an array of messages, in the record view one record.
    Data {
        /// Decoded: never base64 of the transport.
        bytes: Bytes,
    },
    /// Everything before `offset` has been handed out.
    Position {
        /// Where another reader could go on.
        offset: String,
        /// There is nothing beyond it now.
        up_to_date: bool,
    },
    /// The connection was lost. The next call waits, then connects again.
    Reconnecting {
        /// How long it will wait.
        delay: Duration,
        /// What went wrong.
        cause: ClientError,
    },
}

/// A stream that is being followed.
#[derive(Debug)]
pub struct Tail {
    client: Client,
    name: String,
    view: View,
    /// Of the last control event that was handed out, or where the reader wanted to begin.
    offset: String,
    /// Of the last data event behind that control event, if it had one.
    last_id: Option<String>,
    cursor: Option<String>,
    live: Option<Live>,
    /// What has come and was not handed out, each with where the next one begins.
    ready: VecDeque<(TailEvent, Place)>,
    backoff: Backoff,
    delay: Option<Duration>,
    /// The server has answered once: from now on its absence is waited out.
    was_connected: bool,
    is_over: bool,
}

/// How to go on behind an event.
#[derive(Debug)]
enum Place {
    /// From this offset.
    Offset(String),
    /// Behind the event of this id.
    Id(String),
    /// From where the event before it was gone on from: only what follows tells more.
    Unknown,
}

/// One connection.
#[derive(Debug)]
struct Live {
    body: Incoming,
    parser: SseParser,
    is_base64: bool,
    since: Instant,
    /// Data whose event had no id. It is handed out with the control event behind it: only then can a later
    /// connection go on behind it.
    held: Vec<Bytes>,
    has_brought_data: bool,
}

/// The control event (PROTOCOL.md §5.8).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Control {
    stream_next_offset: String,
    stream_cursor: Option<String>,
    #[serde(default)]
    up_to_date: bool,
    #[serde(default)]
    stream_closed: bool,
}

impl Client {
    /// Follows a stream from `offset`, which may be `-1` (the beginning) or `now` (the tail).
    pub fn tail(&self, name: &str, offset: &str, view: View) -> Tail {
        Tail {
            client: self.clone(),
            name: name.to_owned(),
            view,
            offset: offset.to_owned(),
            last_id: None,
            cursor: None,
            live: None,
            ready: VecDeque::new(),
            backoff: Backoff::default(),
            delay: None,
            was_connected: false,
            is_over: false,
        }
    }
}

impl Tail {
    /// Where another reader would have to begin to get what this one has not handed out yet.
    pub fn offset(&self) -> &str {
        self.last_id.as_deref().unwrap_or(&self.offset)
    }

    /// Waits for what comes next; none after the stream has been closed and all of it handed out. An error is
    /// final: the server has refused, or never answered. A refusal for load and any other passing failure is [`TailEvent::Reconnecting`].
    pub async fn next(&mut self) -> Result<Option<TailEvent>, ClientError> {
        loop {
            if let Some((event, place)) = self.ready.pop_front() {
                self.go_on_behind(place);
                return Ok(Some(event));
            }
            if self.is_over {
                return Ok(None);
            }
            if let Some(delay) = self.delay {
                tokio::time::sleep(delay).await;
                self.delay = None;
            }
            let outcome = match self.live.take() {
                Some(live) => self.advance(live).await,
                None => self.connect().await,
            };
            if let Err(cause) = outcome {
                return self.fail(cause).map(Some);
            }
        }
    }

    /// Connections are made once all that has come was handed out, so that they go on from here, too.
    fn go_on_behind(&mut self, place: Place) {
        match place {
            Place::Offset(offset) => {
                self.offset = offset;
                self.last_id = None;
            }
            Place::Id(id) => self.last_id = Some(id),
            Place::Unknown => {}
        }
    }

    fn fail(&mut self, cause: ClientError) -> Result<TailEvent, ClientError> {
        self.live = None;
        let is_worth_waiting = cause.is_overload() || self.was_connected && cause.is_passing();
        if !is_worth_waiting {
            self.is_over = true;
            return Err(cause);
        }
        let asked = cause.problem().and_then(|problem| problem.retry_after);
        let delay = self.backoff.next(fastrand::f64(), asked);
        self.delay = Some(delay);
        Ok(TailEvent::Reconnecting { delay, cause })
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let mut parameters = Vec::new();
        parameters.extend(self.cursor.as_deref().map(|cursor| ("cursor", cursor)));
        parameters.extend([("live", "sse"), ("offset", &self.offset)]);
        if self.view == View::Records {
            parameters.push(("view", "records"));
        }
        let action = format!("tail `{}`", self.name);
        let mut request = self
            .client
            .stream_request(Method::GET, &self.name, action)
            .query(&parameters);
        if let Some(id) = &self.last_id {
            request = request.header("last-event-id", id)?;
        }
        let response = request.header("accept", "text/event-stream")?.send().await?;
        self.was_connected = true;
        if response.status() == StatusCode::NO_CONTENT {
            self.is_over = true;
            return Ok(());
        }
        let headers = response.headers();
        if !header_text(headers, CONTENT_TYPE.as_str())
            .is_some_and(|text| text.starts_with("text/event-stream"))
        {
            return Err(self
                .client
                .unexpected("live=sse got something else than an event stream"));
        }
        // Records say themselves how their data is encoded.
        let is_base64 = self.view == View::Plain
            && header_text(headers, "stream-sse-data-encoding")
                .is_some_and(|text| text.eq_ignore_ascii_case("base64"));
        self.live = Some(Live {
            body: response.into_body(),
            parser: SseParser::default(),
            is_base64,
            since: Instant::now(),
            held: Vec::new(),
            has_brought_data: false,
        });
        Ok(())
    }

    /// Takes one piece of the body. Puts `live` back unless the connection is over.
    async fn advance(&mut self, mut live: Live) -> Result<(), ClientError> {
        let frame = match tokio::time::timeout(SILENCE_MAX, live.body.frame()).await {
            Err(_) => return Err(self.client.timed_out(SILENCE_MAX)),
            Ok(Some(Err(error))) => return Err(self.client.broken(error)),
            Ok(None) if live.has_brought_data || live.since.elapsed() >= CONNECTION_MIN => {
                self.backoff.reset();
                return Ok(());
            }
            Ok(None) => return Err(self.client.broken("the server ended the answer at once")),
            Ok(Some(Ok(frame))) => frame,
        };
        let mut events = Vec::new();
        if let Ok(piece) = frame.into_data() {
            live.parser
                .push(&piece, &mut events)
                .map_err(|error| self.client.unexpected(error.to_string()))?;
        }
        for event in events {
            self.take(&mut live, event)?;
        }
        self.live = (!self.is_over).then_some(live);
        Ok(())
    }

    fn take(&mut self, live: &mut Live, event: SseEvent) -> Result<(), ClientError> {
        match event.kind.as_str() {
            "control" => {
                let bad = |error| {
                    self.client
                        .unexpected(format!("a control event that cannot be read: {error}"))
                };
                let control: Control = serde_json::from_slice(&event.data).map_err(bad)?;
                let offset = control.stream_next_offset;
                let held_count = live.held.len();
                for (number, bytes) in live.held.drain(..).enumerate() {
                    let place = if number + 1 == held_count {
                        Place::Offset(offset.clone())
                    } else {
                        Place::Unknown
                    };
                    self.ready.push_back((TailEvent::Data { bytes }, place));
                }
                self.cursor = control.stream_cursor.or(self.cursor.take());
                self.is_over = control.stream_closed;
                let up_to_date = control.up_to_date || control.stream_closed;
                let place = Place::Offset(offset.clone());
                self.ready
                    .push_back((TailEvent::Position { offset, up_to_date }, place));
            }
            "data" => {
                if self.view == View::Records && !is_record(&event.data) {
                    return Err(self.client.unsupported("record view (view=records)"));
                }
                let bytes = if live.is_base64 {
                    self.decode(event.data)?
                } else {
                    event.data.into()
                };
                live.has_brought_data = true;
                self.backoff.reset();
                match event.id {
                    Some(id) => self.ready.push_back((TailEvent::Data { bytes }, Place::Id(id))),
                    None => live.held.push(bytes),
                }
            }
            // Events of later versions of the protocol.
            _ => {}
        }
        Ok(())
    }

    /// The line breaks that a server put between lines of base64 are no data (PROTOCOL.md §5.8).
    fn decode(&self, mut text: Vec<u8>) -> Result<Bytes, ClientError> {
        text.retain(|byte| !matches!(byte, b'\n' | b'\r'));
        let bytes = STANDARD
            .decode(&text)
            .map_err(|error| self.client.unexpected(format!("bad base64: {error}")))?;
        Ok(bytes.into())
    }
}

/// A server that does not know the view ignores the parameter, and sends plain data.
fn is_record(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Record {
        #[serde(rename = "offset")]
        _offset: String,
        #[serde(rename = "data")]
        _data: IgnoredAny,
    }
    serde_json::from_slice::<Record>(data).is_ok()
}
