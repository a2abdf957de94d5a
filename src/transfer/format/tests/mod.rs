//! Writes exports and reads them again: the example of the document, every refusal, and whatever proptest thinks of.

mod generator;
mod golden;
mod properties;
mod refusals;
mod refused_values;

use tailwater_storage::engine::{ExportedAppend, ExportedStream};
use tailwater_storage::stream::{NameLimits, Timestamp};

use super::{Event, ExportReader, ExportWriter, FormatError};

const NOW: Timestamp = Timestamp::from_millis(1_795_213_300_000);

/// A stream with all that an export has of it.
#[derive(Debug, Clone)]
struct Section {
    stream: ExportedStream,
    controls: Vec<(Vec<u8>, Vec<u8>)>,
    appends: Vec<ExportedAppend>,
    /// Why it went away while it was exported, if it did.
    abandoned: Option<String>,
}

impl Section {
    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Stream(Box::new(self.stream.clone()))];
        events.extend(self.controls.iter().map(|(key, value)| Event::Control {
            key: key.clone().into(),
            value: value.clone().into(),
        }));
        events.extend(self.appends.iter().cloned().map(Event::Append));
        events.push(match self.abandoned.clone() {
            Some(reason) => Event::Abandoned { reason },
            None => Event::End,
        });
        events
    }
}

/// All that an export of these streams says.
fn events(sections: &[Section]) -> Vec<Event> {
    let streams = sections
        .iter()
        .filter(|section| section.abandoned.is_none())
        .count();
    let mut events = vec![Event::Begun];
    events.extend(sections.iter().flat_map(Section::events));
    events.push(Event::Complete {
        streams: streams as u64,
    });
    events
}

/// The file that says this.
fn written(events: &[Event]) -> Vec<u8> {
    let (mut writer, mut file) = ExportWriter::begin(NOW);
    for event in events {
        let line = match event {
            Event::Begun => continue,
            Event::Stream(stream) => writer.stream(stream),
            Event::Control { key, value } => writer.control(key, value),
            Event::Append(append) => writer.append(append),
            Event::End => writer.end(),
            Event::Abandoned { reason } => writer.abandon(reason),
            Event::Complete { .. } => {
                file.extend(writer.complete());
                return file;
            }
        };
        file.extend(line);
    }
    panic!("the export is not complete")
}

/// What became of reading a file.
#[derive(Debug, PartialEq)]
enum Read {
    Whole(Vec<Event>),
    CutOff,
    Refused(FormatError),
}

fn read(file: &[u8]) -> Read {
    let mut reader = ExportReader::new(NameLimits::default());
    let mut events = Vec::new();
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        match reader.line(line) {
            Ok(event) => events.push(event),
            Err(error) => return Read::Refused(error),
        }
    }
    if reader.is_complete() {
        Read::Whole(events)
    } else {
        Read::CutOff
    }
}

/// What counts of the events: not the streams that were abandoned.
fn counting(events: Vec<Event>) -> Vec<Event> {
    let mut counting = Vec::new();
    let mut section = Vec::new();
    for event in events {
        match event {
            Event::Abandoned { .. } => section.clear(),
            Event::Begun | Event::Complete { .. } => counting.push(event),
            Event::End => {
                counting.append(&mut section);
                counting.push(event);
            }
            Event::Stream(_) | Event::Control { .. } | Event::Append(_) => section.push(event),
        }
    }
    counting
}
