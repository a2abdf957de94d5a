//! `append`: an argument, all of stdin, or stdin line by line, which is read in `stdin`.

mod stdin;

use std::io::{self, Read as _};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::de::IgnoredAny;
use tailwater_process::Backoff;
use tokio::sync::mpsc;

use super::arguments::AppendOptions;
use super::error::CommandError;
use super::output::Output;
use super::patience::patiently;
use crate::client::{Append, Client, ClientError, Create, Producer, StreamHead, is_json, is_same_type};
use stdin::Line;

/// Lines that have come while an append was under way go together in the next one, up to here. A longer line goes alone: it may
/// be as long as the server allows.
const BATCH_BYTES_MAX: usize = 256 << 10;
pub(super) async fn append(options: &AppendOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.stream.connection.client()?;
    let content_type = content_type(&client, options).await?;
    if options.follow {
        return Follower::new(client, options, content_type)
            .run(stdin::read_lines())
            .await;
    }
    let body = match &options.data {
        Some(data) => {
            let line_end: &[u8] = if options.newline { b"\n" } else { b"" };
            [data.as_encoded_bytes(), line_end].concat()
        }
        None => {
            let mut body = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut body)
                .map_err(|source| CommandError::Input { source })?;
            body
        }
    };
    let append = Append {
        content_type,
        body: body.into(),
        close: options.close,
        producer: None,
    };
    let appended = patiently(async || client.append(&options.stream.name, &append).await).await;
    let appended = appended.map_err(|error| {
        if error.is_passing() && !is_certainly_not_done(&error) {
            CommandError::InDoubt { source: error }
        } else {
            error.into()
        }
    })?;
    output.line(&appended.next_offset)?;
    output.flush()
}

/// The stream's own type. Creates the stream if that was asked for.
async fn content_type(client: &Client, options: &AppendOptions) -> Result<String, CommandError> {
    let name = &options.stream.name;
    let head = match patiently(async || client.head(name).await).await {
        Err(source) if source.is_not_found() && options.create => {
            let create = Create {
                content_type: options.content_type().map(str::to_owned),
                ..Create::default()
            };
            patiently(async || client.create(name, &create).await).await?;
            eprintln!("created `{name}`");
            patiently(async || client.head(name).await).await?
        }
        Err(source) if source.is_not_found() => {
            return Err(CommandError::NoStream {
                name: name.clone(),
                source,
            });
        }
        head => head?,
    };
    let StreamHead {
        content_type: actual, ..
    } = head;
    match options.content_type() {
        Some(wanted) if !is_same_type(wanted, &actual) => Err(CommandError::OtherContentType {
            name: name.clone(),
            actual,
            wanted: wanted.to_owned(),
        }),
        _ => Ok(actual),
    }
}

/// Appends lines as they come.
struct Follower<'o> {
    client: Client,
    options: &'o AppendOptions,
    content_type: String,
    producer: Option<Producer>,
    /// The server was asked once.
    has_asked: bool,
    backoff: Backoff,
}

impl<'o> Follower<'o> {
    fn new(client: Client, options: &'o AppendOptions, content_type: String) -> Self {
        // The clock makes every run a later epoch than the ones before it, with nothing to remember between
        // them.
        let epoch = epoch_of_now();
        let producer = options.producer.clone().map(|id| Producer { id, epoch, seq: 0 });
        Self {
            client,
            options,
            content_type,
            producer,
            has_asked: false,
            backoff: Backoff::default(),
        }
    }

    async fn run(
        mut self,
        mut lines: mpsc::Receiver<Result<Line, CommandError>>,
    ) -> Result<(), CommandError> {
        let mut batch = Batch::new(is_json(&self.content_type));
        let mut end = Ok(());
        while let Some(first) = lines.recv().await {
            let mut next = Some(first);
            while let Some(line) = next.take() {
                // Lines before a bad one are appended still.
                let added = match line {
                    Ok(line) => {
                        if !batch.has_room_for(&line.text) {
                            self.send(batch.take()).await?;
                        }
                        batch.add(line.number, &line.text)
                    }
                    Err(error) => Err(error),
                };
                match added {
                    Ok(()) => next = lines.try_recv().ok(),
                    Err(error) => end = Err(error),
                }
            }
            self.send(batch.take()).await?;
            end?;
            end = Ok(());
        }
        if self.options.close {
            self.close().await?;
        }
        Ok(())
    }

    /// Waits out whatever passes: to close twice is to close once.
    async fn close(&mut self) -> Result<(), CommandError> {
        while let Err(error) = self.client.close(&self.options.stream.name).await {
            self.wait_out(error).await?;
        }
        Ok(())
    }

    /// Waits out whatever certainly has not appended `body`; with a producer also what may have.
    async fn send(&mut self, body: Option<Bytes>) -> Result<(), CommandError> {
        let Some(body) = body else {
            return Ok(());
        };
        let name = &self.options.stream.name;
        loop {
            let append = Append {
                content_type: self.content_type.clone(),
                body: body.clone(),
                close: false,
                producer: self.producer.clone(),
            };
            let is_first = !self.has_asked;
            let error = match self.client.append(name, &append).await {
                Ok(_) => {
                    self.has_asked = true;
                    self.backoff.reset();
                    self.producer.iter_mut().for_each(|producer| producer.seq += 1);
                    return Ok(());
                }
                Err(error) => error,
            };
            let epoch = error.problem().and_then(|problem| problem.producer_epoch);
            self.has_asked |= epoch.is_some() || !is_certainly_not_done(&error);
            if let Some(producer) = &mut self.producer
                && let Some(epoch) = epoch.filter(|epoch| *epoch > producer.epoch)
            {
                // No later process has begun in the future: the clock was set back since the run before this one.
                if is_first && epoch > epoch_of_now() {
                    producer.epoch = epoch + 1;
                    continue;
                }
                return Err(CommandError::TakenOver {
                    id: producer.id.clone(),
                    source: error,
                });
            }
            if error.is_passing() && self.producer.is_none() && !is_certainly_not_done(&error) {
                return Err(CommandError::InDoubt { source: error });
            }
            self.wait_out(error).await?;
        }
    }

    /// Waits before another try, if one is worth it.
    async fn wait_out(&mut self, error: ClientError) -> Result<(), CommandError> {
        if !error.is_passing() {
            return Err(error.into());
        }
        let asked = error.problem().and_then(|problem| problem.retry_after);
        let delay = self.backoff.next(fastrand::f64(), asked);
        eprintln!("{error}; trying again in {:.1} s", delay.as_secs_f64());
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// The milliseconds of the clock, which stay below the 2^53 that the protocol allows.
fn epoch_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}

/// A refusal without a code may come from a proxy that lost the server's answer. Of storage that has failed nobody knows what
/// it has kept, and of a request that a bug has cut off nobody knows how far it came.
fn is_certainly_not_done(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => true,
        ClientError::Refused { problem } => problem
            .code
            .as_deref()
            .is_some_and(|code| !["interrupted", "storage_failed"].contains(&code)),
        _ => false,
    }
}

/// Lines that go together.
struct Batch {
    is_json: bool,
    body: Vec<u8>,
}

impl Batch {
    fn new(is_json: bool) -> Self {
        Self {
            is_json,
            body: Vec::new(),
        }
    }

    /// Whether a line can go along with those that are here.
    fn has_room_for(&self, line: &[u8]) -> bool {
        self.body.is_empty() || self.body.len() + line.len() <= BATCH_BYTES_MAX
    }

    /// A JSON line becomes one message even if it is an array: the server takes one level of arrays apart,
    /// and that level is the batch itself.
    fn add(&mut self, number: u64, line: &[u8]) -> Result<(), CommandError> {
        if !self.is_json {
            self.body.extend_from_slice(line);
            return Ok(());
        }
        let message = line.trim_ascii();
        if message.is_empty() {
            return Ok(());
        }
        serde_json::from_slice::<IgnoredAny>(message)
            .map_err(|source| CommandError::BadLine { line: number, source })?;
        self.body.push(if self.body.is_empty() { b'[' } else { b',' });
        self.body.extend_from_slice(message);
        Ok(())
    }

    fn take(&mut self) -> Option<Bytes> {
        if self.body.is_empty() {
            return None;
        }
        if self.is_json {
            self.body.push(b']');
        }
        Some(std::mem::take(&mut self.body).into())
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{BATCH_BYTES_MAX, Batch, ClientError, is_certainly_not_done};
    use crate::client::Problem;

    fn taken(is_json: bool, lines: &[&str]) -> Option<String> {
        let mut batch = Batch::new(is_json);
        for (line, number) in lines.iter().zip(1..) {
            batch.add(number, line.as_bytes()).expect("good lines");
        }
        let body = batch.take();
        assert!(batch.take().is_none(), "a batch is taken once");
        body.map(|body| String::from_utf8_lossy(&body).into_owned())
    }

    #[test]
    fn a_line_of_json_is_one_message_even_if_it_is_an_array() {
        assert_eq!(
            taken(true, &["{\"a\":1}\n", "\n", "[1,2]\r\n", "3"]).as_deref(),
            Some("[{\"a\":1},[1,2],3]")
        );
        assert_eq!(taken(true, &["\n", "  \n"]), None);
    }

    #[test]
    fn a_line_of_text_keeps_its_line_break() {
        assert_eq!(
            taken(false, &["a\n", "\n", "b\r\n", "c"]).as_deref(),
            Some("a\n\nb\r\nc")
        );
    }

    #[test]
    fn a_long_line_goes_alone() {
        let mut batch = Batch::new(false);
        assert!(batch.has_room_for(&[b'x'; BATCH_BYTES_MAX + 1]));
        batch.add(1, b"x\n").expect("text");
        assert!(batch.has_room_for(&[b'x'; BATCH_BYTES_MAX - 2]));
        assert!(!batch.has_room_for(&[b'x'; BATCH_BYTES_MAX - 1]));
    }

    #[test]
    fn what_may_have_been_appended_is_told_from_what_was_not() {
        let refused = |status, code: Option<&str>| {
            let problem = Box::new(Problem {
                code: code.map(str::to_owned),
                ..Problem::bare("append to `x`", status)
            });
            is_certainly_not_done(&ClientError::Refused { problem })
        };
        let (busy, full) = (StatusCode::SERVICE_UNAVAILABLE, StatusCode::INSUFFICIENT_STORAGE);
        assert!(refused(busy, Some("too_many_requests")) && refused(full, Some("storage_full")));
        assert!(
            !refused(busy, Some("storage_failed")),
            "the disk may have kept what could not be confirmed"
        );
        assert!(!refused(busy, None), "a proxy may have lost the answer");
        assert!(
            !refused(StatusCode::INTERNAL_SERVER_ERROR, Some("interrupted")),
            "it may have been cut off behind the append"
        );
    }

    #[test]
    fn a_line_that_is_not_json_is_named_and_not_appended() {
        let mut batch = Batch::new(true);
        batch.add(1, b"1\n").expect("JSON");
        let error = batch.add(2, b"{\"a\":\n").expect_err("half an object");
        assert!(
            error.to_string().starts_with("line 2 of stdin is not JSON"),
            "{error}"
        );
        assert!(batch.add(3, b"1 2\n").is_err(), "two messages in a line");
        assert_eq!(batch.take().as_deref(), Some(&b"[1]"[..]));
    }
}
