//! What stands in the streams of dead letters: whose letters, and what was to be done.

use std::collections::BTreeSet;

use tailwater_stream::queue::JsonText;
use tailwater_stream::{NameLimits, Position, QueueConfig, StreamName};

use super::error::{QueueError, UnfitStream, damaged};
use super::opened::Turn;
use super::{Queues, codec};

/// Letters that are read at once, in bytes.
const READ_BYTES: u64 = 1 << 20;

impl Queues {
    /// The payload in a letter, or the whole message if that was no job; none if the letter is not where it was.
    pub(super) async fn read_letter(
        &self,
        turn: &Turn,
        job: Position,
        at: Position,
    ) -> Result<Option<JsonText>, QueueError> {
        let name = &turn.queue.config().dead_letter;
        let reader = match self.shared.engine.look(name).await.map_err(QueueError::from) {
            Ok(reader) => reader,
            Err(QueueError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let view = reader.incarnation().view();
        if at < view.oldest || at >= view.tail {
            return Ok(None);
        }
        let records = match reader.records(at, &view, 1).await.map_err(QueueError::from) {
            Ok(records) => records,
            Err(QueueError::RunNotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = records.first().and_then(|first| Letter::read(&first.data));
        Ok(found
            .filter(|letter| letter.is_of(&turn.queue.stream, job))
            .map(|letter| letter.payload))
    }

    /// Whether a stream has letters of another queue than `own`, which nobody need have opened yet: an import has brought it.
    pub(super) async fn has_letters_of_others(
        &self,
        stream: &StreamName,
        own: &StreamName,
    ) -> Result<bool, QueueError> {
        let reader = match self.shared.engine.look(stream).await.map_err(QueueError::from) {
            Ok(reader) => reader,
            Err(QueueError::NotFound) => return Ok(false),
            // Whatever stands there stays.
            Err(error) if error.is_damage() => return Ok(true),
            Err(error) => return Err(error),
        };
        let view = reader.incarnation().view();
        let mut not_others = BTreeSet::from([own.to_string()]);
        let mut from = view.oldest;
        while from < view.tail {
            let records = match reader
                .records(from, &view, READ_BYTES)
                .await
                .map_err(QueueError::from)
            {
                // Somebody else has trimmed or deleted it meanwhile, or what stands there stays.
                Err(error) if error.is_damage() || matches!(error, QueueError::RunNotFound) => {
                    return Ok(true);
                }
                records => records?,
            };
            for record in records {
                from = record.end;
                let Some(letter) = Letter::read(&record.data) else {
                    continue;
                };
                if not_others.contains(&letter.queue) {
                    continue;
                }
                if let Ok(queue) = StreamName::parse(&letter.queue, NameLimits::NONE)
                    && self.is_queue(&queue).await?
                {
                    return Ok(true);
                }
                not_others.insert(letter.queue);
            }
            // There may be many, and whoever answers from memory never waits.
            tokio::task::yield_now().await;
        }
        Ok(false)
    }

    /// Whether another queue has its dead letters in the same stream.
    pub(super) fn shares_dead_letters(&self, turn: &Turn) -> bool {
        let dead_letter = &turn.queue.config().dead_letter;
        let names = self.shared.names.lock();
        names
            .iter()
            .any(|(queue, names)| *queue != turn.queue.stream && names.dead_letter == *dead_letter)
    }

    /// Refuses a stream that has the letters of a queue, which nobody need have opened yet. Looks at no more than the first
    /// page of them.
    pub(super) async fn refuse_letters(&self, stream: &StreamName) -> Result<(), QueueError> {
        let reader = self.shared.engine.look(stream).await?;
        let view = reader.incarnation().view();
        if view.oldest >= view.tail {
            return Ok(());
        }
        let mut not_theirs = BTreeSet::new();
        for record in reader.records(view.oldest, &view, READ_BYTES).await? {
            let letter = Letter::read(&record.data).filter(|letter| !not_theirs.contains(&letter.queue));
            let Some(letter) = letter else { continue };
            let config = match StreamName::parse(&letter.queue, NameLimits::NONE) {
                Ok(queue) => self.stored_config(&queue).await?.map(|config| (queue, config)),
                Err(_) => None,
            };
            if let Some((queue, config)) = config
                && config.dead_letter == *stream
            {
                let stream = stream.clone();
                return Err(UnfitStream::DeadLetters { stream, queue }.into());
            }
            not_theirs.insert(letter.queue);
        }
        Ok(())
    }

    /// What a queue was made with, whether somebody has opened it or not; none if there is none.
    async fn stored_config(&self, queue: &StreamName) -> Result<Option<QueueConfig>, QueueError> {
        let engine = &self.shared.engine;
        let reader = match engine.look(queue).await.map_err(QueueError::from) {
            Ok(reader) => reader,
            Err(QueueError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stored = engine.control(reader.incarnation().id, codec::CONFIG_KEY).await?;
        let config = stored
            .map(|config| codec::decode_config(&config, queue))
            .transpose();
        let config = config.map_err(|malformed| damaged(&format!("the queue `{queue}`"), malformed))?;
        Ok(config.map(|stored| stored.config))
    }
}

/// A dead letter as it stands in the stream of them.
struct Letter {
    job: Option<Position>,
    queue: String,
    payload: JsonText,
}

impl Letter {
    fn read(message: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Members<'a> {
            job: String,
            queue: String,
            #[serde(borrow)]
            payload: &'a serde_json::value::RawValue,
        }
        let letter = message.strip_suffix(b",").unwrap_or(message);
        let members: Members<'_> = serde_json::from_slice(letter).ok()?;
        Some(Self {
            job: tailwater_stream::queue::event::parse_job(&members.job),
            queue: members.queue,
            payload: JsonText::of(members.payload),
        })
    }

    fn is_of(&self, queue: &StreamName, job: Position) -> bool {
        self.job == Some(job) && self.queue == queue.as_str()
    }
}
