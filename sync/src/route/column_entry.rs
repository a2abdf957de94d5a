//! Columns as they are in the configuration file. Knows no other part of a route than its glob.

use serde_json::value::{RawValue, to_raw_value};
use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::column::{Absent, Column, Field, Filling};
use super::column_type::{ColumnType, TimeFormat};
use super::entry::Entry;
use super::file::Found;
use super::mistake::RouteMistake;
use super::table_name::is_identifier;
use super::value::{Misfit, Value};
use crate::source::Pattern;

const COLUMN: &str = "a table such as { pointer = \"/status\", type = \"text\" }";
/// The types that a text without quotes around it can be read as.
const NOT_OF_PARTS: [ColumnType; 2] = [ColumnType::Json, ColumnType::Bytes];

/// A column, if nothing is wrong with it.
pub(super) fn read_column(
    name: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    streams: Option<&Pattern>,
    mistakes: &mut Vec<Found>,
) -> Option<Column> {
    let (at, name) = (name.span().start, name.get_ref().to_string());
    let DeValue::Table(table) = value.get_ref() else {
        let table = toml::de::DeTable::new();
        let mut entry = Entry::new(&table, at);
        entry.refuse_kind(&format!("columns.{name}"), at, value.get_ref(), COLUMN);
        mistakes.append(&mut entry.mistakes);
        return None;
    };
    let mut entry = Entry::new(table, at);
    let column = Reader {
        entry: &mut entry,
        name,
        streams,
    }
    .read();
    entry.refuse_others(&[
        "pointer", "part", "field", "type", "format", "required", "default",
    ]);
    let is_right = entry.mistakes.is_empty();
    mistakes.append(&mut entry.mistakes);
    column.filter(|_| is_right)
}

struct Reader<'e, 'a> {
    entry: &'e mut Entry<'a>,
    name: String,
    streams: Option<&'e Pattern>,
}

impl Reader<'_, '_> {
    fn read(mut self) -> Option<Column> {
        let name = self.name.clone();
        if !is_identifier(&name) {
            self.refuse::<()>(RouteMistake::BadColumn { name: name.clone() });
        }
        let pointer = self.entry.text("pointer", "pointer = \"/status\"");
        let part = self.entry.text("part", "part = \"run_id\"");
        let field = self.entry.text("field", "field = \"appended_at\"");
        let of = self.column_type();
        let (filling, of) = match (pointer, part, field) {
            (Some((at, text)), None, None) => self.pointer(at, text, of)?,
            (None, Some((at, part)), None) => self.part(at, part, of)?,
            (None, None, Some((at, field))) => self.field(at, field, of)?,
            _ => {
                let given =
                    ["pointer", "part", "field"].map(|key| usize::from(self.entry.take(key).is_some()));
                let (column, count) = (name, given.iter().sum());
                return self.refuse(RouteMistake::NotOneFilling { column, count });
            }
        };
        Some(Column { name, filling, of })
    }

    /// The type that is given, with the format of times in it.
    fn column_type(&mut self) -> Option<(usize, ColumnType)> {
        let format = self.format();
        let (at, text) = self.entry.text("type", "type = \"text\"")?;
        let column = self.name.clone();
        let unknown = |_unknown| RouteMistake::UnknownType {
            column,
            text: text.to_owned(),
        };
        let of = self.entry.keep(at, text.parse().map_err(unknown))?;
        Some((at, of)).map(|(at, of)| match (of, format) {
            (ColumnType::Timestamp(_), Some(format)) => (at, ColumnType::Timestamp(format)),
            (of, Some(_)) => {
                self.refuse_idle("format", "with the type timestamptz");
                (at, of)
            }
            (of, None) => (at, of),
        })
    }

    fn format(&mut self) -> Option<TimeFormat> {
        let (at, text) = self.entry.text("format", "format = \"epoch_ms\"")?;
        let named = TimeFormat::NAMES.iter().find(|(name, _)| *name == text);
        let unknown = || RouteMistake::UnknownFormat {
            column: self.name.clone(),
            text: text.to_owned(),
        };
        let format = named.map(|(_, format)| *format).ok_or_else(unknown);
        self.entry.keep(at, format)
    }

    fn pointer(
        &mut self,
        at: usize,
        text: &str,
        of: Option<(usize, ColumnType)>,
    ) -> Option<(Filling, ColumnType)> {
        let column = self.name.clone();
        let fault = |fault| RouteMistake::Pointer {
            column,
            text: text.to_owned(),
            fault,
        };
        let pointer = self.entry.keep(at, text.parse().map_err(fault));
        if of.is_none() && self.entry.take("type").is_none() {
            let column = self.name.clone();
            self.refuse::<()>(RouteMistake::NoType { column });
        }
        let (_, of) = of?;
        let absent = self.absent(of)?;
        Some((
            Filling::Pointer {
                pointer: pointer?,
                absent,
            },
            of,
        ))
    }

    fn absent(&mut self, of: ColumnType) -> Option<Absent> {
        let is_required = self.entry.switch("required", "required = true").unwrap_or(false);
        let Some((at, default)) = self.entry.take("default") else {
            return Some(if is_required {
                Absent::Refused
            } else {
                Absent::Null
            });
        };
        let column = self.name.clone();
        if is_required {
            return self.refuse(RouteMistake::RequiredWithDefault { column });
        }
        let default = value_of(default, of).map_err(|misfit| RouteMistake::BadDefault { column, misfit });
        self.entry.keep(at, default).map(Absent::Default)
    }

    fn part(
        &mut self,
        at: usize,
        part: &str,
        of: Option<(usize, ColumnType)>,
    ) -> Option<(Filling, ColumnType)> {
        self.refuse_idle_of_others();
        let known: Vec<_> = self.streams?.capture_names().collect();
        let column = || self.name.clone();
        if !known.contains(&part) {
            let known = match &known[..] {
                [] => "none".to_owned(),
                known => known.join(", "),
            };
            let (column, part) = (column(), part.to_owned());
            return self
                .entry
                .keep(at, Err(RouteMistake::UnknownPart { column, part, known }));
        }
        let (at, of) = of.unwrap_or((at, ColumnType::Text));
        let filling = Filling::Part(part.to_owned());
        if NOT_OF_PARTS.contains(&of) {
            let allowed = ColumnType::NAMES
                .iter()
                .filter(|(_, of)| !NOT_OF_PARTS.contains(of));
            let mistake = RouteMistake::TypeOfFilling {
                column: column(),
                of,
                filling: filling.to_string(),
                allowed: names(allowed.map(|(_, of)| *of)),
            };
            return self.entry.keep(at, Err(mistake));
        }
        Some((filling, of))
    }

    fn field(
        &mut self,
        at: usize,
        name: &str,
        of: Option<(usize, ColumnType)>,
    ) -> Option<(Filling, ColumnType)> {
        self.refuse_idle_of_others();
        if self.entry.take("format").is_some() {
            self.refuse_idle("format", "with a pointer or a part");
        }
        let named = Field::NAMES.iter().find(|(known, _)| *known == name);
        let (column, field) = (self.name.clone(), name.to_owned());
        let unknown = || RouteMistake::UnknownField { column, field };
        let field = self
            .entry
            .keep(at, named.map(|(_, field)| *field).ok_or_else(unknown))?;
        let types = field.types();
        let (at, of) = of.unwrap_or((at, types[0]));
        let filling = Filling::Field(field);
        if types.contains(&of) {
            return Some((filling, of));
        }
        let mistake = RouteMistake::TypeOfFilling {
            column: self.name.clone(),
            of,
            filling: filling.to_string(),
            allowed: names(types.iter().copied()),
        };
        self.entry.keep(at, Err(mistake))
    }

    /// A part or a field is always there.
    fn refuse_idle_of_others(&mut self) {
        for key in ["required", "default"] {
            if self.entry.take(key).is_some() {
                self.refuse_idle(key, "with a pointer");
            }
        }
    }

    fn refuse_idle(&mut self, key: &'static str, with: &'static str) {
        let at = self.entry.take(key).map_or(self.entry.at, |(at, _)| at);
        let column = self.name.clone();
        self.entry
            .mistakes
            .push((at, RouteMistake::Idle { column, key, with }));
    }

    fn refuse<T>(&mut self, mistake: RouteMistake) -> Option<T> {
        self.entry.keep(self.entry.at, Err(mistake))
    }
}

/// A value of TOML, read as the same value of an event would be.
fn value_of(value: &DeValue<'_>, of: ColumnType) -> Result<Value<'static>, Misfit> {
    let json = json_of(value);
    let read = of.read(&json)?.ok_or(Misfit::Absent)?;
    Ok(read.into_owned())
}

fn json_of(value: &DeValue<'_>) -> Box<RawValue> {
    let raw = |text: String| RawValue::from_string(text).ok();
    let written = match value {
        DeValue::Boolean(is_on) => to_raw_value(is_on).ok(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .and_then(|number| to_raw_value(&number).ok()),
        // A number keeps its digits. Infinity is none of JSON.
        DeValue::Float(number) => raw(number.as_str().to_owned()),
        DeValue::Array(items) => to_raw_value(
            &items
                .iter()
                .map(|item| json_of(item.get_ref()))
                .collect::<Vec<_>>(),
        )
        .ok(),
        DeValue::Table(table) => {
            let members = table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), json_of(value.get_ref())));
            to_raw_value(&members.collect::<std::collections::BTreeMap<_, _>>()).ok()
        }
        DeValue::String(_) | DeValue::Datetime(_) => None,
    };
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        _ => String::new(),
    };
    written.unwrap_or_else(|| to_raw_value(&text).expect("a text can always be written as JSON"))
}

fn names(types: impl Iterator<Item = ColumnType>) -> String {
    types.map(ColumnType::name).collect::<Vec<_>>().join(", ")
}
