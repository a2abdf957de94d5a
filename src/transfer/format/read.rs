//! Reads an export line by line, and trusts none of them.

use bytes::Bytes;
use tailwater_storage::engine::{ExportedAppend, ExportedStream};
use tailwater_storage::stream::{ContentKind, NameLimits, Position, StreamState};

use super::error::{self, FormatError, Mistake, quoted};
use super::lines::{AppendLine, EndLine, HeadLine, HeadMark, Line};
use super::section::Tally;
use super::{FORMAT, append, stream};

/// What a line of an export says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// It is an export, and of a version that can be read.
    Begun,
    /// A stream begins. It counts only once its [`Event::End`] came.
    Stream(Box<ExportedStream>),
    /// A control key of the stream.
    Control {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// The next append of the stream; begins where the one before ended.
    Append(ExportedAppend),
    /// The stream has ended, and nothing of it is missing or changed.
    End,
    /// The stream has ended, and nothing that came of it counts.
    Abandoned {
        /// Why, for people.
        reason: String,
    },
    /// Nothing of the export is missing. Said again for each empty line behind it.
    Complete {
        /// How many streams it has, without those that were abandoned.
        streams: u64,
    },
}

/// Reads an export from its lines. Holds a few numbers and one name, whatever comes.
///
/// After an error every further line is refused too.
#[derive(Debug)]
pub(crate) struct ExportReader {
    names: NameLimits,
    lines: u64,
    streams: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Start,
    Between,
    Within(Box<Section>),
    Complete,
    Refused,
}

impl ExportReader {
    /// A reader at the beginning of an export whose streams' names keep within `names`.
    pub(crate) fn new(names: NameLimits) -> Self {
        Self {
            names,
            lines: 0,
            streams: 0,
            place: Place::Start,
        }
    }

    /// Reads the next line, without or with its line end. Memory is bounded by the line's length.
    ///
    /// # Errors
    /// [`FormatError`] if it is no line of an export, or cannot stand there.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<Event, FormatError> {
        self.lines += 1;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let place = std::mem::replace(&mut self.place, Place::Refused);
        let (place, event) = self.follow(place, line).map_err(|mistake| FormatError {
            line: self.lines,
            mistake,
        })?;
        self.place = place;
        Ok(event)
    }

    /// Whether the last line of the export has come, and nothing wrong behind it.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.place, Place::Complete)
    }

    /// How many lines have come.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    fn follow(&mut self, place: Place, line: &[u8]) -> Result<(Place, Event), Mistake> {
        let is_empty = line.trim_ascii().is_empty();
        let streams = self.streams;
        match place {
            Place::Refused => Err(Mistake::AfterRefusal),
            Place::Complete if is_empty => Ok((Place::Complete, Event::Complete { streams })),
            Place::Complete => Err(Mistake::AfterComplete),
            _ if is_empty => Err(Mistake::Empty),
            Place::Start => head(line).map(|()| (Place::Between, Event::Begun)),
            Place::Between => self.between(line),
            Place::Within(section) => self.within(section, line),
        }
    }

    fn between(&self, line: &[u8]) -> Result<(Place, Event), Mistake> {
        match error::parse(line)? {
            Line::Stream(fields) => {
                let stream = stream::exported(*fields, self.names)?;
                let section = Box::new(Section::new(&stream.state, line));
                Ok((Place::Within(section), Event::Stream(Box::new(stream))))
            }
            Line::Complete(complete) if complete.streams == self.streams => {
                let streams = self.streams;
                Ok((Place::Complete, Event::Complete { streams }))
            }
            Line::Complete(complete) => {
                let fix = format_args!("the file has {}: it was changed; export again", self.streams);
                Err(Mistake::value("complete.streams", complete.streams, fix))
            }
            other => Err(Mistake::OutOfPlace {
                kind: other.kind(),
                expected: "`stream` or `complete`",
            }),
        }
    }

    fn within(&mut self, mut section: Box<Section>, line: &[u8]) -> Result<(Place, Event), Mistake> {
        let event = match error::parse(line)? {
            Line::Control(control) if section.tally.appends() == 0 => Event::Control {
                key: control.key.0.into_owned().into(),
                value: control.value.0.into_owned().into(),
            },
            Line::Append(append) => Event::Append(section.append(append)?),
            Line::End(end) => {
                section.end(&end)?;
                self.streams += 1;
                return Ok((Place::Between, Event::End));
            }
            Line::Abandoned(abandoned) => {
                let reason = abandoned.reason.into_owned();
                return Ok((Place::Between, Event::Abandoned { reason }));
            }
            other => {
                return Err(Mistake::OutOfPlace {
                    kind: other.kind(),
                    expected: section.expected(),
                });
            }
        };
        section.tally.line(line);
        Ok((Place::Within(section), event))
    }
}

fn head(line: &[u8]) -> Result<(), Mistake> {
    let mark: HeadMark = serde_json::from_slice(line).map_err(|error| Mistake::NotAnExport {
        reason: error::reason(&error),
    })?;
    if mark.tailwater_export != FORMAT {
        return Err(Mistake::LaterFormat {
            format: mark.tailwater_export,
        });
    }
    error::parse::<HeadLine<'_>>(line).map(drop)
}

/// The stream whose lines are being read.
#[derive(Debug)]
struct Section {
    name: String,
    kind: ContentKind,
    tail: Position,
    messages: u64,
    /// Where the next append begins. Always <= `tail`.
    reached: Position,
    /// Messages before `reached`; none before the first append, which says how many there are.
    messages_reached: Option<u64>,
    tally: Tally,
}

impl Section {
    fn new(state: &StreamState, line: &[u8]) -> Self {
        let own = state
            .source
            .as_ref()
            .map_or(Position::ZERO, |source| source.point);
        let mut tally = Tally::default();
        tally.line(line);
        Self {
            name: state.name.to_string(),
            kind: state.content_type.kind(),
            tail: state.tail,
            messages: state.messages,
            reached: state.oldest.max(own),
            messages_reached: None,
            tally,
        }
    }

    fn expected(&self) -> &'static str {
        if self.tally.appends() == 0 {
            "`control`, `append`, `end` or `abandoned`"
        } else {
            "`append`, `end` or `abandoned`"
        }
    }

    fn append(&mut self, line: AppendLine<'_>) -> Result<ExportedAppend, Mistake> {
        let append = append::exported(line, self.kind)?;
        let (start, reached) = (append.start, self.reached);
        if start != reached {
            let fix = match self.messages_reached {
                None => {
                    format!("the first append begins at {reached}, where the stream's own oldest byte is")
                }
                Some(_) => format!("the append before it ends at {reached}: lines are missing or changed"),
            };
            return Err(Mistake::value("append.start", start, fix));
        }
        if let Some(messages) = self
            .messages_reached
            .filter(|messages| append.first_message != *messages)
        {
            let fix = format_args!("there are {messages} messages before it: lines are missing or changed");
            return Err(Mistake::value("append.first_message", append.first_message, fix));
        }
        let end = start.advance(append.payload.len() as u64);
        self.reached = end.filter(|end| *end <= self.tail).ok_or_else(|| {
            let value = format_args!("{start} and has {} bytes behind it", append.payload.len());
            let fix = format_args!("they cannot be beyond the tail, which is {}", self.tail);
            Mistake::value("append.start", value, fix)
        })?;
        self.messages_reached = Some(append.first_message + append.ends.count(append.payload.len()));
        self.tally.append(append.payload.len());
        Ok(append)
    }

    fn end(&self, line: &EndLine<'_>) -> Result<(), Mistake> {
        let again = format!(
            "the file lost lines of stream `{}` or was changed; export it again",
            self.name
        );
        let counts = [
            ("end.appends", line.appends, self.tally.appends()),
            ("end.bytes", line.bytes, self.tally.bytes()),
        ];
        for (field, value, found) in counts {
            if value != found {
                return Err(Mistake::value(
                    field,
                    value,
                    format_args!("there are {found}: {again}"),
                ));
            }
        }
        if self.reached != self.tail {
            let value = format_args!("{}, but its appends end at {}", self.tail, self.reached);
            return Err(Mistake::value("stream.tail", value, again));
        }
        if let Some(messages) = self
            .messages_reached
            .filter(|messages| *messages != self.messages)
        {
            let value = format_args!("{}, but its appends end with message {messages}", self.messages);
            return Err(Mistake::value("stream.messages", value, again));
        }
        self.check_crc32(&line.crc32)
    }

    fn check_crc32(&self, found: &str) -> Result<(), Mistake> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if found.len() != 8 || !found.bytes().all(is_digit) {
            let fix = "a checksum is eight digits from 0 to 9 and a to f";
            return Err(Mistake::value("end.crc32", quoted(found), fix));
        }
        let expected = self.tally.crc32();
        if found == expected {
            return Ok(());
        }
        Err(Mistake::Checksum {
            stream: self.name.clone(),
            found: found.to_owned(),
            expected,
        })
    }
}
