//! The lines of an export, as they are written: only names, order and kinds of fields. What they mean is checked
//! elsewhere. Texts are borrowed from the line where it has them without escapes.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadLine<'a> {
    pub(super) tailwater_export: u64,
    #[serde(borrow)]
    pub(super) version: Cow<'a, str>,
    pub(super) exported_at: u64,
}

/// All that is read of a first line before it is known which version wrote it.
#[derive(Deserialize)]
pub(super) struct HeadMark {
    pub(super) tailwater_export: u64,
}

/// Every line but the first.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line<'a> {
    #[serde(borrow)]
    Stream(Box<StreamLine<'a>>),
    Control(ControlLine<'a>),
    #[serde(borrow)]
    Append(AppendLine<'a>),
    #[serde(borrow)]
    End(EndLine<'a>),
    #[serde(borrow)]
    Abandoned(AbandonedLine<'a>),
    Complete(CompleteLine),
}

impl Line<'_> {
    /// The kind of the line, as it is written.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Stream(_) => "stream",
            Self::Control(_) => "control",
            Self::Append(_) => "append",
            Self::End(_) => "end",
            Self::Abandoned(_) => "abandoned",
            Self::Complete(_) => "complete",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamLine<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) content_type: Cow<'a, str>,
    pub(super) lifetime: Option<LifetimeField>,
    #[serde(borrow)]
    pub(super) requested: RequestedField<'a>,
    #[serde(borrow)]
    pub(super) lineage: Vec<SpanField<'a>>,
    #[serde(borrow)]
    pub(super) source: Option<SourceField<'a>>,
    pub(super) oldest: u64,
    pub(super) tail: u64,
    pub(super) messages: u64,
    pub(super) closed: bool,
    pub(super) stream_seq: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) producers: Vec<ProducerField<'a>>,
    pub(super) created_at_ms: u64,
    pub(super) last_append_at_ms: Option<u64>,
    pub(super) touched_at_ms: u64,
    pub(super) deleted: bool,
    pub(super) kind: KindField,
    pub(super) beside: Option<Cow<'a, str>>,
    pub(super) has_forks: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KindField {
    Plain,
    Run,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LifetimeField {
    TtlSecs(u64),
    UntilMs(u64),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestedField<'a> {
    pub(super) content_type: Option<Cow<'a, str>>,
    pub(super) lifetime: Option<LifetimeField>,
    #[serde(borrow)]
    pub(super) fork: Option<ForkField<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForkField<'a> {
    #[serde(borrow)]
    pub(super) source: Cow<'a, str>,
    pub(super) offset: Option<Cow<'a, str>>,
    pub(super) sub_offset: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpanField<'a> {
    pub(super) from: u64,
    #[serde(borrow)]
    pub(super) owner: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceField<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    pub(super) point: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProducerField<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) end: u64,
    pub(super) at_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ControlLine<'a> {
    pub(super) key: Binary<'a>,
    pub(super) value: Binary<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppendLine<'a> {
    pub(super) start: u64,
    pub(super) at_ms: u64,
    pub(super) first_message: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lengths: Option<Vec<u32>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base64: Option<Binary<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndLine<'a> {
    pub(super) appends: u64,
    pub(super) bytes: u64,
    #[serde(borrow)]
    pub(super) crc32: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AbandonedLine<'a> {
    #[serde(borrow)]
    pub(super) reason: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CompleteLine {
    pub(super) streams: u64,
}

/// A text that is borrowed from the line also where it may be left out, which `Option<Cow<str>>` never is.
#[derive(Serialize, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Bytes that stand in the line as base64: the standard alphabet, padded.
pub(super) struct Binary<'a>(pub(super) Cow<'a, [u8]>);

impl Serialize for Binary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(&self.0, &STANDARD))
    }
}

impl<'de> Deserialize<'de> for Binary<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Decode;

        impl Visitor<'_> for Decode {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64 in the standard alphabet, padded with `=`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                STANDARD
                    .decode(text)
                    .ok()
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        let bytes = deserializer.deserialize_str(Decode)?;
        Ok(Self(bytes.into()))
    }
}
