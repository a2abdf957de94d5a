//! Decodes Server-Sent Events as they arrive: [`EventParser`] from bytes, [`Events`] from a connection.

use std::io::Read;

use serde_json::Value;

use crate::chunked::ChunkDecoder;
use crate::connection::Connection;
use crate::message::Head;

/// One event as an EventSource would dispatch it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's type: `data` or `control` in this protocol.
    pub kind: String,
    /// Its data lines, joined with line feeds.
    pub data: String,
    /// The `id:` that came with this event, if one did.
    pub id: Option<String>,
}

impl Event {
    /// The messages that a data event of a JSON stream carries: the elements of the array, or the one value.
    #[track_caller]
    pub fn messages(&self) -> Vec<Value> {
        assert_eq!(self.kind, "data", "only data events carry messages: {self:?}");
        match serde_json::from_str(&self.data) {
            Ok(Value::Array(messages)) => messages,
            Ok(message) => vec![message],
            Err(error) => panic!("a data event that is not JSON ({error}): {:?}", self.data),
        }
    }

    /// The object that a control event carries.
    #[track_caller]
    pub fn control(&self) -> Value {
        assert_eq!(self.kind, "control", "not a control event: {self:?}");
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {:?}", self.data))
    }

    /// Whether this event says that the stream has ended for good.
    pub fn says_closed(&self) -> bool {
        self.kind == "control" && self.control()["streamClosed"] == Value::Bool(true)
    }
}

/// Takes pieces of an event stream in any sizes and gives back whole events.
#[derive(Debug, Default)]
pub struct EventParser {
    pending: Vec<u8>,
    /// Where in `pending` the next line begins.
    at: usize,
    open: Event,
    has_data: bool,
    comments: usize,
}

impl EventParser {
    /// Takes bytes of the event stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.drain(..self.at);
        self.at = 0;
        self.pending.extend_from_slice(bytes);
    }

    /// The next event that is complete.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let rest = &self.pending[self.at..];
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line = String::from_utf8_lossy(&rest[..end])
                .trim_end_matches('\r')
                .to_owned();
            self.at += end + 1;
            if line.is_empty() {
                let event = std::mem::take(&mut self.open);
                if std::mem::take(&mut self.has_data) {
                    return Some(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments += 1,
                "event" => value.clone_into(&mut self.open.kind),
                "id" => self.open.id = Some(value.to_owned()),
                "data" => {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.open.data.push('\n');
                    }
                    self.open.data.push_str(value);
                }
                _ => {}
            }
        }
    }

    /// How many comment lines have come, which is how a server keeps an idle connection alive.
    pub fn comments(&self) -> usize {
        self.comments
    }
}

/// The events of one live response, read from its connection.
#[derive(Debug)]
pub struct Events {
    /// The response's status line and headers.
    pub head: Head,
    connection: Connection,
    chunks: ChunkDecoder,
    parser: EventParser,
}

impl Events {
    /// Reads events from a connection whose response head has just been read.
    pub(crate) fn new(head: Head, connection: Connection) -> Self {
        Self {
            head,
            connection,
            chunks: ChunkDecoder::default(),
            parser: EventParser::default(),
        }
    }

    /// The next event, or nothing once the response has ended; panics when patience ends before.
    #[track_caller]
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.parser.next_event() {
                return Some(event);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Waits until the server has sent a comment line.
    #[track_caller]
    pub fn await_comment(&mut self) {
        while self.parser.comments() == 0 {
            assert!(self.fill(), "the response ended before a comment came");
            while self.parser.next_event().is_some() {}
        }
    }

    /// All messages of a JSON stream up to the control event that says closed; panics when the response ends
    /// before.
    #[track_caller]
    pub fn messages_to_close(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            let event = self
                .next_event()
                .unwrap_or_else(|| panic!("ended before closed: {messages:?}"));
            match event.kind.as_str() {
                "data" => messages.extend(event.messages()),
                _ if event.says_closed() => return messages,
                _ => {}
            }
        }
    }

    /// Whether the response ended with its last chunk rather than with a cut connection.
    pub fn ended_cleanly(&self) -> bool {
        self.chunks.finished()
    }

    /// Whether the server has ended the connection behind the response: waits, with patience, for its end.
    pub fn read_end(&mut self) -> std::io::Result<()> {
        self.connection.read_end()
    }

    /// Reads once from the connection; false once the response has ended.
    #[track_caller]
    fn fill(&mut self) -> bool {
        if self.chunks.finished() {
            return false;
        }
        let mut wire = [0; 16 * 1024];
        let count = match self.connection.read(&mut wire) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("no event came: {error}"),
        };
        let mut body = Vec::new();
        self.chunks
            .push(&wire[..count], &mut body)
            .unwrap_or_else(|error| panic!("{error}"));
        self.parser.push(&body);
        count > 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, EventParser};

    #[test]
    fn any_split_of_the_same_bytes_gives_the_same_events() {
        let wire = b": hello\n\nevent: data\nid: 7\ndata: [\ndata: 1]\n\nevent:control\r\ndata:{}\r\n\r\n";
        for cut in 0..wire.len() {
            let mut parser = EventParser::default();
            let mut events = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                parser.push(part);
                while let Some(event) = parser.next_event() {
                    events.push(event);
                }
            }
            let data = Event {
                kind: "data".into(),
                data: "[\n1]".into(),
                id: Some("7".into()),
            };
            let control = Event {
                kind: "control".into(),
                data: "{}".into(),
                id: None,
            };
            assert_eq!(events, [data, control], "cut at {cut}");
            assert_eq!(parser.comments(), 1, "cut at {cut}");
        }
    }
}
