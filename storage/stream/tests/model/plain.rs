//! One stream of the reference: a list of bytes, each with all that is known of it, down to the text of the
//! offset behind it.

use super::command::{Body, Create, JSON, Life};
use super::outcome::{Answer, Described};

const START: &str = "0000000000000000_0000000000000000";

#[derive(Debug, Clone)]
pub(crate) struct Byte {
    /// None once it is trimmed.
    pub(crate) value: Option<u8>,
    /// The number in the stream of the message that it belongs to.
    pub(crate) message: u64,
    /// Which append brought it; never the same twice in all streams.
    pub(crate) append: u64,
    /// The offset behind it.
    pub(crate) token: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Producer {
    pub(crate) id: String,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) end: String,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) incarnation: u64,
    pub(crate) name: usize,
    pub(crate) content_type: String,
    pub(crate) asked: Create,
    pub(crate) lifetime: Life,
    pub(crate) bytes: Vec<Byte>,
    pub(crate) inherited: usize,
    pub(crate) closed: bool,
    pub(crate) producers: Vec<Producer>,
    pub(crate) stream_seq: Option<String>,
    pub(crate) uses_ms: Vec<u64>,
    pub(crate) last_append_ms: Option<u64>,
    pub(crate) source: Option<u64>,
    pub(crate) deleted: bool,
}

pub(crate) enum Found {
    At(usize),
    Trimmed,
    Unknown,
}

impl Stream {
    pub(crate) fn describe(&self) -> Described {
        Described {
            content_type: self.content_type.clone(),
            tail: self.tail(),
            closed: self.closed,
        }
    }

    pub(crate) fn is_asked_for_again(&self, create: &Create) -> bool {
        let same_type = match &create.content_type {
            Some(asked) => is_same_type(asked, &self.content_type),
            None if create.fork.is_some() => true,
            None => is_same_type("application/octet-stream", &self.content_type),
        };
        same_type
            && create.fork == self.asked.fork
            && create.lifetime == self.asked.lifetime
            && create.closed == self.closed
    }

    /// When it expires, if no use follows.
    pub(crate) fn end_ms(&self) -> Option<u64> {
        match self.lifetime {
            Life::Unsaid => None,
            Life::UntilMs(end) => Some(end),
            Life::TtlSeconds(seconds) => {
                let window_ms = seconds.saturating_mul(1000);
                self.uses_ms
                    .iter()
                    .map(|used| used.saturating_add(window_ms))
                    .max()
            }
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        is_same_type(&self.content_type, JSON)
    }

    pub(crate) fn tail(&self) -> String {
        self.token(self.bytes.len())
    }

    pub(crate) fn token(&self, position: usize) -> String {
        match position.checked_sub(1) {
            None => START.to_owned(),
            Some(last) => self.bytes[last].token.clone(),
        }
    }

    pub(crate) fn oldest(&self) -> usize {
        self.bytes.iter().take_while(|byte| byte.value.is_none()).count()
    }

    pub(crate) fn messages(&self) -> u64 {
        self.bytes.last().map_or(0, |byte| byte.message + 1)
    }

    pub(crate) fn own_bytes(&self) -> usize {
        self.bytes[self.inherited..]
            .iter()
            .filter(|byte| byte.value.is_some())
            .count()
    }

    pub(crate) fn add(&mut self, messages: &[Vec<u8>], append: u64, now_ms: u64) {
        for message in messages {
            let number = self.messages();
            for value in message {
                self.bytes.push(Byte {
                    value: Some(*value),
                    message: number,
                    append,
                    token: format!("{:016}_{:016}", self.incarnation, self.bytes.len() + 1),
                });
                self.last_append_ms = Some(now_ms);
            }
        }
    }

    pub(crate) fn ends_message(&self, position: usize) -> bool {
        position == 0
            || position == self.bytes.len()
            || self.bytes[position - 1].message != self.bytes[position].message
    }

    /// The place that an offset names. JSON is never divided within a message, but what is trimmed has no
    /// messages any more.
    pub(crate) fn find(&self, offset: &str) -> Found {
        let mut places = (0..=self.bytes.len()).rev();
        let place = places.find(|position| match position.checked_sub(1) {
            None => offset == START,
            Some(last) => offset == self.bytes[last].token,
        });
        match place {
            Some(position) if position < self.oldest() => Found::Trimmed,
            Some(position) if self.is_json() && !self.ends_message(position) => Found::Unknown,
            Some(position) => Found::At(position),
            None => Found::Unknown,
        }
    }

    /// The places to which an offset may be refined: itself, and each end of a message, or byte, of the append
    /// that follows.
    pub(crate) fn refinements(&self, anchor: usize) -> Vec<usize> {
        let following = (anchor..self.bytes.len())
            .take_while(|position| self.bytes[*position].append == self.bytes[anchor].append)
            .map(|position| position + 1)
            .filter(|end| !self.is_json() || self.ends_message(*end));
        [anchor].into_iter().chain(following).collect()
    }

    pub(crate) fn read(&self, offset: &str) -> Answer {
        let from = match self.find(offset) {
            Found::Unknown => return Answer::Unknown,
            Found::Trimmed => {
                return Answer::Trimmed {
                    oldest: self.token(self.oldest()),
                };
            }
            Found::At(position) => position,
        };
        let mut records: Vec<(u64, String, Vec<u8>)> = Vec::new();
        for byte in &self.bytes[from..] {
            if records
                .last()
                .is_none_or(|(number, _, _)| *number != byte.message)
            {
                records.push((byte.message, String::new(), Vec::new()));
            }
            let (_, end, data) = records.last_mut().expect("just added");
            end.clone_from(&byte.token);
            data.push(byte.value.expect("bytes behind the oldest place are kept"));
        }
        let mut body: Vec<u8> = records.iter().flat_map(|(_, _, data)| data.clone()).collect();
        if self.is_json() {
            body.pop();
            body = [b"[", &body[..], b"]"].concat();
        }
        Answer::Data { body, records }
    }
}

pub(crate) fn is_same_type(a: &str, b: &str) -> bool {
    let essence = |text: &str| text.split(';').next().map(|part| part.trim().to_lowercase());
    essence(a) == essence(b)
}

/// PROTOCOL.md §9.1: the messages of a body as they are stored, JSON ones each with the comma behind it.
pub(crate) fn messages_of(content_type: &str, body: &Body) -> Option<Vec<Vec<u8>>> {
    if body.raw.is_empty() {
        return Some(Vec::new());
    }
    if !is_same_type(content_type, JSON) {
        return Some(vec![body.raw.clone()]);
    }
    let messages = body.messages.as_ref()?;
    Some(
        messages
            .iter()
            .map(|message| format!("{message},").into_bytes())
            .collect(),
    )
}
