//! An event as values, one for each column of its route, or why it cannot be a row. Knows no SQL.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Route;
use super::column::{Absent, Column, Field, Filling};
use super::column_type::ColumnType;
use super::value::{Misfit, Value};
use crate::event::{Chunk, Event, Payload};
use crate::json_text;

/// Why an event cannot be a row of its route's table.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("column `{column}` ({filling}) {misfit}")]
pub struct Unmappable {
    /// The first column that cannot be filled.
    pub column: String,
    /// With what it should be filled.
    pub filling: String,
    /// What is wrong with that.
    pub misfit: Misfit,
}

/// Makes values of the events of one chunk.
#[derive(Debug)]
pub struct Mapper<'a> {
    route: &'a Route,
    chunk: &'a Chunk,
    /// The parts of the stream's name, by their names in the route.
    parts: Vec<(&'a str, &'a str)>,
}

/// What the columns of one event are looked for in.
struct Content<'a> {
    event: &'a Event,
    /// What is at each of the route's pointers.
    found: Result<Vec<Option<&'a RawValue>>, Misfit>,
}

impl Route {
    /// Makes values of the events of a chunk whose stream the route takes.
    #[must_use]
    pub fn mapper<'a>(&'a self, chunk: &'a Chunk) -> Mapper<'a> {
        Mapper {
            route: self,
            chunk,
            parts: self.streams.captures(&chunk.stream).unwrap_or_default(),
        }
    }
}

impl<'a> Mapper<'a> {
    /// The values of an event, in the order of the route's columns; none is null.
    ///
    /// # Errors
    /// The first column that it has nothing for.
    pub fn map(&self, event: &'a Event) -> Result<Vec<Option<Value<'a>>>, Unmappable> {
        let content = Content {
            event,
            found: self.search(event),
        };
        let mut pointers = 0..;
        let filled = self.route.columns.iter().map(|column| {
            let value = match &column.filling {
                Filling::Pointer { absent, .. } => {
                    at_pointer(column.of, absent, &content, pointers.next().unwrap_or_default())
                }
                Filling::Part(name) => self.part(column, name).map(Some),
                Filling::Field(field) => self.field(*field, column.of, content.event).map(Some),
            };
            value.map_err(|misfit| Unmappable {
                column: column.name.clone(),
                filling: column.filling.to_string(),
                misfit,
            })
        });
        filled.collect()
    }

    fn search(&self, event: &'a Event) -> Result<Vec<Option<&'a RawValue>>, Misfit> {
        let Payload::Json(text) = &event.payload else {
            return Err(Misfit::NotJson {
                content_type: self.chunk.content_type.to_string(),
            });
        };
        let text = std::str::from_utf8(text).map_err(|_not_utf8| Misfit::NotUtf8)?;
        let found = self.route.search.find(text);
        found.map_err(|error| Misfit::BadJson {
            reason: error.to_string(),
        })
    }

    fn part(&self, column: &Column, name: &str) -> Result<Value<'a>, Misfit> {
        let part = self.parts.iter().find(|(part, _)| *part == name);
        let (_, text) = part.ok_or(Misfit::Absent)?;
        column.of.read_text(Cow::Borrowed(text))
    }

    fn field(&self, field: Field, of: ColumnType, event: &'a Event) -> Result<Value<'a>, Misfit> {
        match field {
            Field::Stream => of.read_text(Cow::Borrowed(&self.chunk.stream)),
            Field::ContentType => of.read_text(Cow::Borrowed(&self.chunk.content_type)),
            // Ids and positions stay below 10¹⁶.
            Field::Incarnation => Ok(Value::BigInt(self.chunk.incarnation.number().cast_signed())),
            Field::Position => Ok(Value::BigInt(event.offset.position().cast_signed())),
            Field::Index => {
                let index = i64::try_from(event.index).map(Value::BigInt);
                index.map_err(|_too_large| Misfit::OutOfRange {
                    text: event.index.to_string(),
                    of,
                })
            }
            Field::AppendedAt => {
                let moment = event.at_ms.checked_mul(1_000).and_then(Value::moment);
                moment.ok_or_else(|| Misfit::OutOfRange {
                    text: event.at_ms.to_string(),
                    of,
                })
            }
            Field::Payload => self.payload(of, &event.payload),
        }
    }

    fn payload(&self, of: ColumnType, payload: &'a Payload) -> Result<Value<'a>, Misfit> {
        match (of, payload) {
            (ColumnType::Bytes, payload) => Ok(Value::Bytes(payload.as_bytes()[..].into())),
            (ColumnType::Json, Payload::Json(text)) => {
                json_text::check(text)?;
                Ok(Value::Json(text[..].into()))
            }
            (ColumnType::Json, Payload::Bytes(_)) => Err(Misfit::NotJson {
                content_type: self.chunk.content_type.to_string(),
            }),
            (_, payload) => {
                let text = std::str::from_utf8(payload.as_bytes()).map_err(|_not_utf8| Misfit::NotUtf8)?;
                of.read_text(text.into())
            }
        }
    }
}

fn at_pointer<'a>(
    of: ColumnType,
    absent: &'a Absent,
    content: &Content<'a>,
    pointer: usize,
) -> Result<Option<Value<'a>>, Misfit> {
    let found = content.found.as_ref().map_err(Clone::clone)?;
    let value = match found[pointer] {
        Some(json) => of.read(json)?,
        None => None,
    };
    match (value, absent) {
        (Some(value), _) => Ok(Some(value)),
        (None, Absent::Null) => Ok(None),
        (None, Absent::Default(value)) => Ok(Some(value.clone())),
        (None, Absent::Refused) => Err(Misfit::Absent),
    }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
