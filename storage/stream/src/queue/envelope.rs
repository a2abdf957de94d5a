//! What a message of a queue's stream asks for. An object that has a member `payload` is an envelope; any other message is
//! the payload itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::config::QueueConfig;
use super::json_text::JsonText;
use crate::expiry::Timestamp;
use crate::name::{NameLimits, NameRefusal};
use crate::rfc3339;

/// What a message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the worker is given.
    pub payload: JsonText,
    /// What names the run; the job's position does if there is none.
    pub id: Option<Box<str>>,
    /// Not before then.
    pub run_at: Option<Timestamp>,
    /// In place of the queue's own.
    pub max_attempts: Option<u32>,
}

/// Why a message is no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeRefusal {
    /// It has a member that means nothing.
    #[error("`{field}` means nothing in an envelope; known are payload, id, run_at and max_attempts")]
    Unknown {
        /// The member.
        field: Box<str>,
    },
    /// A member cannot be meant.
    #[error("`{field}` is {value}; {fix}")]
    Wrong {
        /// The member.
        field: &'static str,
        /// What was given.
        value: Box<str>,
        /// What to do.
        fix: &'static str,
    },
    /// The id cannot end the name of a run.
    #[error("`id` is {id:?}: {refusal}")]
    Id {
        /// The id.
        id: Box<str>,
        /// Which rule of names it breaks.
        refusal: NameRefusal,
    },
    /// What stands at the queue's concurrency key is too long to be kept.
    #[error("the value at the concurrency key has {bytes} bytes; it may have {bytes_max}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The most.
        bytes_max: usize,
    },
}

/// The most bytes of the value at a concurrency key, as JSON.
pub const KEY_BYTES_MAX: usize = 256;

const RUN_AT_FIX: &str = "send an RFC 3339 time, or milliseconds since 1970";
const ATTEMPTS_FIX: &str = "send a whole number from 1 to 1000000";
const ID_FIX: &str = "send a text that is not empty";

impl Envelope {
    /// A job that asks for nothing else.
    pub fn of_payload(payload: JsonText) -> Self {
        Self {
            payload,
            id: None,
            run_at: None,
            max_attempts: None,
        }
    }

    /// Reads a message, which is one JSON value.
    ///
    /// # Errors
    /// [`EnvelopeRefusal`] if it is an envelope that cannot be meant.
    pub fn parse(message: &JsonText) -> Result<Self, EnvelopeRefusal> {
        let members = match message.as_str().trim_start().strip_prefix('{') {
            Some(_) => serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(message.as_str()).ok(),
            None => None,
        };
        let Some((members, payload)) = members.and_then(|members| {
            let payload = *members.get("payload")?;
            Some((members, payload))
        }) else {
            return Ok(Self::of_payload(message.clone()));
        };
        let mut envelope = Self::of_payload(JsonText::of(payload));
        for (name, value) in members {
            match name.as_ref() {
                "payload" => {}
                "id" => envelope.id = Self::id(value)?,
                "run_at" => envelope.run_at = Self::run_at(value)?,
                "max_attempts" => envelope.max_attempts = Self::max_attempts(value)?,
                other => return Err(EnvelopeRefusal::Unknown { field: other.into() }),
            }
        }
        Ok(envelope)
    }

    fn id(value: &RawValue) -> Result<Option<Box<str>>, EnvelopeRefusal> {
        match serde_json::from_str(value.get()) {
            Ok(Value::Null) => Ok(None),
            Ok(Value::String(text)) if !text.is_empty() => Ok(Some(text.into())),
            _ => Err(wrong("id", value, ID_FIX)),
        }
    }

    /// The time of a member `run_at`: an RFC 3339 text, or milliseconds since 1970.
    ///
    /// # Errors
    /// [`EnvelopeRefusal::Wrong`] for anything else.
    pub fn run_at(value: &RawValue) -> Result<Option<Timestamp>, EnvelopeRefusal> {
        let time = match serde_json::from_str(value.get()) {
            Ok(Value::Null) => return Ok(None),
            Ok(Value::String(text)) => rfc3339::parse(&text),
            Ok(Value::Number(number)) => number.as_u64().map(Timestamp::from_millis),
            _ => None,
        };
        time.map(Some).ok_or_else(|| wrong("run_at", value, RUN_AT_FIX))
    }

    fn max_attempts(value: &RawValue) -> Result<Option<u32>, EnvelopeRefusal> {
        let refused = || wrong("max_attempts", value, ATTEMPTS_FIX);
        match serde_json::from_str::<Option<u32>>(value.get()) {
            Ok(None) => Ok(None),
            Ok(Some(count)) if (1..=QueueConfig::ATTEMPTS_MAX).contains(&count) => Ok(Some(count)),
            _ => Err(refused()),
        }
    }

    /// Checks what depends on the queue: the id, and the value at its concurrency key, which is answered.
    ///
    /// # Errors
    /// [`EnvelopeRefusal`] if the queue cannot have such a job.
    pub fn value_for(
        &self,
        config: &QueueConfig,
        names: NameLimits,
    ) -> Result<Option<Box<str>>, EnvelopeRefusal> {
        if let Some(id) = &self.id {
            config
                .run_of_id(id, names)
                .map_err(|refusal| EnvelopeRefusal::Id {
                    id: id.clone(),
                    refusal,
                })?;
        }
        let Some(pointer) = &config.concurrency_key else {
            return Ok(None);
        };
        let Some(value) = self.payload.value_at(pointer) else {
            return Ok(None);
        };
        if value.len() > KEY_BYTES_MAX {
            return Err(EnvelopeRefusal::KeyTooLong {
                bytes: value.len(),
                bytes_max: KEY_BYTES_MAX,
            });
        }
        Ok(Some(value.into()))
    }

    /// The message that asks for this.
    pub fn message(&self) -> String {
        let mut message = format!("{{\"payload\":{}", self.payload);
        if let Some(id) = &self.id {
            message += &format!(",\"id\":{}", JsonText::string(id));
        }
        if let Some(run_at) = self.run_at {
            message += &format!(",\"run_at\":{}", run_at.as_millis());
        }
        if let Some(max_attempts) = self.max_attempts {
            message += &format!(",\"max_attempts\":{max_attempts}");
        }
        message.push('}');
        message
    }
}

fn wrong(field: &'static str, value: &RawValue, fix: &'static str) -> EnvelopeRefusal {
    let mut shown = value.get().to_owned();
    if shown.len() > 100 {
        shown.truncate(shown.floor_char_boundary(100));
        shown.push('…');
    }
    EnvelopeRefusal::Wrong {
        field,
        value: shown.into(),
        fix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::StreamName;

    fn parse(message: &str) -> Result<Envelope, EnvelopeRefusal> {
        Envelope::parse(&JsonText::parse(message).expect("JSON"))
    }

    #[test]
    fn what_has_no_payload_is_the_payload() {
        for message in ["1", "\"x\"", "{\"id\":\"a\"}", "[{\"payload\":1}]", "null", "{}"] {
            let envelope = parse(message).expect("a job");
            assert_eq!((envelope.payload.as_str(), envelope.id), (message, None));
        }
    }

    #[test]
    fn an_envelope_is_read_back_as_it_was_written() {
        let message = "{\"payload\":{\"a\": 1},\"id\":\"2026/42\",\"run_at\":1500,\"max_attempts\":3}";
        let envelope = parse(message).expect("a job");
        assert_eq!(envelope.run_at, Some(Timestamp::from_millis(1_500)));
        assert_eq!(envelope.message(), message);
        let text =
            parse("{\"run_at\":\"1970-01-01T00:00:01.5Z\",\"payload\":null,\"id\":null}").expect("a job");
        assert_eq!(text.run_at, envelope.run_at);
        assert_eq!((text.payload, text.id), (JsonText::null(), None));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (member, value) in [
            ("priority", "1"),
            ("id", "\"\""),
            ("id", "7"),
            ("run_at", "\"tomorrow\""),
            ("run_at", "-1"),
            ("run_at", "1.5"),
            ("max_attempts", "0"),
            ("max_attempts", "1000001"),
            ("max_attempts", "\"3\""),
        ] {
            let refusal = parse(&format!("{{\"payload\":1,\"{member}\":{value}}}")).expect_err(member);
            assert!(refusal.to_string().contains(member), "{refusal}");
        }
    }

    #[test]
    fn a_job_fits_its_queue() {
        let names = NameLimits::default();
        let stream = StreamName::parse("jobs", names).expect("a name");
        let document = serde_json::json!({ "concurrency_key": "/to" });
        let config = QueueConfig::parse(document.as_object().expect("an object"), &stream, names);
        let config = config.expect("a configuration");
        let value = |message: &str| parse(message).expect("a job").value_for(&config, names);
        assert_eq!(
            value("{\"to\":{\"b\":1,\"a\":2}}"),
            Ok(Some("{\"a\":2,\"b\":1}".into()))
        );
        assert_eq!(value("{\"from\":1}"), Ok(None));
        let long = format!("{{\"to\":\"{}\"}}", "x".repeat(300));
        assert!(matches!(
            value(&long),
            Err(EnvelopeRefusal::KeyTooLong { bytes: 302, .. })
        ));
        assert!(matches!(
            value("{\"payload\":1,\"id\":\"a//b\"}"),
            Err(EnvelopeRefusal::Id { .. })
        ));
    }
}
