//! What a queue was made with. It is read from a JSON document and written as one, on the wire and in the store alike.

use serde_json::{Map, Value, json};

use super::backoff::Backoff;
use crate::name::{NameLimits, StreamName};

/// A year, the greatest time that a setting may name, in milliseconds.
const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// What a queue was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// How long a worker may be silent.
    pub lease_ms: u64,
    /// How many times a job is begun at the most, unless it says otherwise itself.
    pub max_attempts: u32,
    /// When a job that failed is tried again.
    pub backoff: Backoff,
    /// How many jobs may be leased at once.
    pub concurrency: Option<u32>,
    /// Where in a job stands the value by which leases are counted: a JSON pointer (RFC 6901).
    pub concurrency_key: Option<Box<str>>,
    /// How many jobs with an equal value there may be leased at once. None if there is no `concurrency_key`.
    pub concurrency_per_key: Option<u32>,
    /// What the names of runs begin with. Ends with a slash.
    pub run_prefix: Box<str>,
    /// The stream of those jobs that are given up.
    pub dead_letter: StreamName,
    /// A run ends so long after it was first begun, whatever its worker says.
    pub run_timeout_ms: Option<u64>,
    /// A job that nobody has begun ends so long after it could have been.
    pub start_ttl_ms: Option<u64>,
    /// Ended runs are deleted so long after their ends.
    pub run_retention_ms: Option<u64>,
}

/// Why a queue is not made or changed like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}; {fix}")]
pub struct ConfigRefusal {
    /// The member of the document.
    pub field: Box<str>,
    /// What was given, shortened.
    pub value: Box<str>,
    /// What to do.
    pub fix: Box<str>,
}

impl ConfigRefusal {
    fn new(field: &str, value: &Value, fix: impl Into<Box<str>>) -> Self {
        let mut shown = value.to_string();
        if shown.len() > 100 {
            shown.truncate(shown.floor_char_boundary(100));
            shown.push('…');
        }
        Self {
            field: field.into(),
            value: shown.into(),
            fix: fix.into(),
        }
    }
}

impl QueueConfig {
    /// The least `lease_ms`.
    pub const LEASE_MS_MIN: u64 = 1_000;
    /// What holds if none is given.
    pub const LEASE_MS_DEFAULT: u64 = 30_000;
    /// The greatest `lease_ms` that a store may hold, whatever a server's own limit is.
    pub const LEASE_MS_MAX: u64 = 24 * 3_600_000;
    /// The most `max_attempts`.
    pub const ATTEMPTS_MAX: u32 = 1_000_000;
    /// What holds if none is given.
    pub const ATTEMPTS_DEFAULT: u32 = 10;

    /// Reads a document. What it does not name has its default, which depends on the queue's stream.
    ///
    /// # Errors
    /// [`ConfigRefusal`] for the first member that is not known, cannot be meant, or contradicts another one.
    pub fn parse(
        document: &Map<String, Value>,
        stream: &StreamName,
        names: NameLimits,
    ) -> Result<Self, ConfigRefusal> {
        let fields = Fields { prefix: "", document };
        fields.refuse_others(&MEMBERS)?;
        let backoff = match fields.get("backoff") {
            None => Backoff::default(),
            Some(Value::Object(document)) => backoff(&Fields {
                prefix: "backoff.",
                document,
            })?,
            Some(other) => {
                let fix = "send an object such as {\"base_ms\": 1000, \"cap_ms\": 600000, \"jitter\": 0.5}";
                return Err(ConfigRefusal::new("backoff", other, fix));
            }
        };
        let run_prefix = run_prefix(&fields, stream, names)?;
        let config = Self {
            lease_ms: fields
                .number("lease_ms", Self::LEASE_MS_MIN, Self::LEASE_MS_MAX)?
                .unwrap_or(Self::LEASE_MS_DEFAULT),
            max_attempts: fields
                .count("max_attempts", Self::ATTEMPTS_MAX)?
                .unwrap_or(Self::ATTEMPTS_DEFAULT),
            backoff,
            concurrency: fields.count("concurrency", u32::MAX)?,
            concurrency_key: concurrency_key(&fields)?,
            concurrency_per_key: fields.count("concurrency_per_key", u32::MAX)?,
            dead_letter: dead_letter(&fields, stream, &run_prefix, names)?,
            run_prefix,
            run_timeout_ms: fields.number("run_timeout_ms", 1, YEAR_MS)?,
            start_ttl_ms: fields.number("start_ttl_ms", 1, YEAR_MS)?,
            run_retention_ms: fields.number("run_retention_ms", 1, 100 * YEAR_MS)?,
        };
        if let (Some(count), None) = (config.concurrency_per_key, &config.concurrency_key) {
            let fix = "name a concurrency_key, too, or leave it out";
            return Err(ConfigRefusal::new("concurrency_per_key", &count.into(), fix));
        }
        if let (Some(per_key), Some(all)) = (config.concurrency_per_key, config.concurrency)
            && per_key > all
        {
            let fix = format!("send at most `concurrency`, which is {all}");
            return Err(ConfigRefusal::new("concurrency_per_key", &per_key.into(), fix));
        }
        Ok(config)
    }

    /// The document that says all of it.
    pub fn document(&self) -> Value {
        json!({
            "lease_ms": self.lease_ms,
            "max_attempts": self.max_attempts,
            "backoff": {
                "base_ms": self.backoff.base_ms,
                "cap_ms": self.backoff.cap_ms,
                "jitter": f64::from(self.backoff.jitter_permille) / f64::from(Backoff::PERMILLE_MAX),
            },
            "concurrency": self.concurrency,
            "concurrency_key": self.concurrency_key,
            "concurrency_per_key": self.concurrency_per_key,
            "run_prefix": self.run_prefix,
            "dead_letter": self.dead_letter.as_str(),
            "run_timeout_ms": self.run_timeout_ms,
            "start_ttl_ms": self.start_ttl_ms,
            "run_retention_ms": self.run_retention_ms,
        })
    }

    /// How many jobs with an equal value may be leased at once; none if no value is looked at.
    pub fn leases_per_value(&self) -> Option<u32> {
        let _key = self.concurrency_key.as_ref()?;
        Some(self.concurrency_per_key.unwrap_or(1))
    }

    /// The first member that cannot be changed once the queue exists and that differs.
    pub fn unchangeable_difference(&self, other: &Self) -> Option<&'static str> {
        if self.run_prefix != other.run_prefix {
            Some("run_prefix")
        } else if self.dead_letter != other.dead_letter {
            Some("dead_letter")
        } else {
            None
        }
    }

    /// The run of a job that has this id.
    ///
    /// # Errors
    /// Why the id cannot end the name of a stream.
    pub fn run_of_id(&self, id: &str, names: NameLimits) -> Result<StreamName, crate::name::NameRefusal> {
        StreamName::parse(&format!("{}{id}", self.run_prefix), names)
    }
}

const MEMBERS: [&str; 11] = [
    "lease_ms",
    "max_attempts",
    "backoff",
    "concurrency",
    "concurrency_key",
    "concurrency_per_key",
    "run_prefix",
    "dead_letter",
    "run_timeout_ms",
    "start_ttl_ms",
    "run_retention_ms",
];

/// Members of a document. `null` means that there is none.
struct Fields<'a> {
    prefix: &'static str,
    document: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn refuse_others(&self, known: &[&str]) -> Result<(), ConfigRefusal> {
        let other = self
            .document
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()));
        let Some((name, value)) = other else { return Ok(()) };
        let fix = format!("there is no such setting; known are {}", known.join(", "));
        Err(ConfigRefusal::new(&format!("{}{name}", self.prefix), value, fix))
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.document.get(name).filter(|value| !value.is_null())
    }

    fn refuse(&self, name: &str, value: &Value, fix: impl Into<Box<str>>) -> ConfigRefusal {
        ConfigRefusal::new(&format!("{}{name}", self.prefix), value, fix)
    }

    fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, ConfigRefusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.as_u64().filter(|number| (least..=most).contains(number));
        let fix = || self.refuse(name, value, format!("send a whole number from {least} to {most}"));
        number.map(Some).ok_or_else(fix)
    }

    fn count(&self, name: &str, most: u32) -> Result<Option<u32>, ConfigRefusal> {
        let number = self.number(name, 1, u64::from(most))?;
        Ok(number.map(|number| u32::try_from(number).unwrap_or(most)))
    }

    fn text(&self, name: &str, fix: &str) -> Result<Option<&str>, ConfigRefusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.refuse(name, other, fix)),
        }
    }
}

fn backoff(fields: &Fields<'_>) -> Result<Backoff, ConfigRefusal> {
    fields.refuse_others(&["base_ms", "cap_ms", "jitter"])?;
    let default = Backoff::default();
    let base_ms = fields.number("base_ms", 0, YEAR_MS)?.unwrap_or(default.base_ms);
    let cap_ms = fields.number("cap_ms", 0, YEAR_MS)?;
    if let Some(cap_ms) = cap_ms.filter(|cap_ms| *cap_ms < base_ms) {
        let fix = format!("send at least `backoff.base_ms`, which is {base_ms}");
        return Err(fields.refuse("cap_ms", &cap_ms.into(), fix));
    }
    let jitter_permille = match fields.get("jitter") {
        None => default.jitter_permille,
        Some(value) => {
            let fraction = value.as_f64().filter(|fraction| (0.0..=1.0).contains(fraction));
            let fix = || fields.refuse("jitter", value, "send a fraction from 0 to 1");
            permille(fraction.ok_or_else(fix)?)
        }
    };
    Ok(Backoff {
        base_ms,
        cap_ms: cap_ms.unwrap_or(default.cap_ms.max(base_ms)),
        jitter_permille,
    })
}

fn permille(fraction: f64) -> u32 {
    (fraction * f64::from(Backoff::PERMILLE_MAX)).round() as u32
}

fn concurrency_key(fields: &Fields<'_>) -> Result<Option<Box<str>>, ConfigRefusal> {
    let fix = "send a JSON pointer into the job such as \"/customer\" (RFC 6901)";
    let Some(text) = fields.text("concurrency_key", fix)? else {
        return Ok(None);
    };
    let mut escapes = text.split('~').skip(1);
    let is_pointer =
        (text.is_empty() || text.starts_with('/')) && escapes.all(|rest| rest.starts_with(['0', '1']));
    if is_pointer {
        Ok(Some(text.into()))
    } else {
        Err(fields.refuse("concurrency_key", &text.into(), fix))
    }
}

fn run_prefix(
    fields: &Fields<'_>,
    stream: &StreamName,
    names: NameLimits,
) -> Result<Box<str>, ConfigRefusal> {
    let fix = "send the beginning of the names of runs, with a slash at its end, such as \"runs/mail/\"";
    let given = fields.text("run_prefix", fix)?;
    let prefix = given.map_or_else(|| format!("runs/{stream}/"), str::to_owned);
    let refuse = |fix: String| fields.refuse("run_prefix", &prefix.as_str().into(), fix);
    let Some(parent) = prefix.strip_suffix('/') else {
        return Err(refuse(fix.into()));
    };
    StreamName::parse(parent, names).map_err(|refusal| refuse(format!("{refusal}; {fix}")))?;
    // The longest name that a job without an id gives its run.
    let longest = StreamName::parse(&format!("{prefix}{:016}", 0), names);
    longest.map_err(|refusal| {
        refuse(format!(
            "with the number of a job behind it {refusal}; send a shorter one"
        ))
    })?;
    if stream.as_str().starts_with(&prefix) {
        return Err(refuse(
            "the queue's own stream is below it; send another one".into(),
        ));
    }
    Ok(prefix.into())
}

fn dead_letter(
    fields: &Fields<'_>,
    stream: &StreamName,
    run_prefix: &str,
    names: NameLimits,
) -> Result<StreamName, ConfigRefusal> {
    let fix = "send the name of a stream for those jobs that are given up, such as \"dead/mail\"";
    let given = fields.text("dead_letter", fix)?;
    let text = given.map_or_else(|| format!("dead/{stream}"), str::to_owned);
    let refuse = |fix: String| fields.refuse("dead_letter", &text.as_str().into(), fix);
    let name = StreamName::parse(&text, names).map_err(|refusal| refuse(format!("{refusal}; {fix}")))?;
    if name == *stream {
        return Err(refuse("that is the queue's own stream; send another one".into()));
    }
    if text.starts_with(run_prefix) {
        return Err(refuse(format!(
            "that is among the runs, below {run_prefix:?}; send another one"
        )));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(document: &Value) -> Result<QueueConfig, ConfigRefusal> {
        let names = NameLimits::default();
        let stream = StreamName::parse("jobs/mail", names).expect("a name");
        QueueConfig::parse(document.as_object().expect("an object"), &stream, names)
    }

    #[test]
    fn what_is_not_named_has_its_default() {
        let config = parse(&json!({})).expect("defaults");
        assert_eq!(&*config.run_prefix, "runs/jobs/mail/");
        assert_eq!(config.dead_letter.as_str(), "dead/jobs/mail");
        assert_eq!((config.lease_ms, config.max_attempts), (30_000, 10));
        assert_eq!(config.leases_per_value(), None);
        let keyed = parse(&json!({ "concurrency_key": "/customer" })).expect("a key");
        assert_eq!(keyed.leases_per_value(), Some(1));
    }

    #[test]
    fn a_document_reads_back_as_what_it_was_written_from() {
        let config = parse(&json!({
            "lease_ms": 5000, "max_attempts": 3, "backoff": { "base_ms": 10, "cap_ms": 20, "jitter": 0.25 },
            "concurrency": 8, "concurrency_key": "/a~1b", "concurrency_per_key": 2, "run_prefix": "r/",
            "dead_letter": "d", "run_timeout_ms": 60_000, "start_ttl_ms": 1000, "run_retention_ms": 86_400_000,
        }))
        .expect("a configuration");
        assert_eq!(parse(&config.document()), Ok(config.clone()));
        assert_eq!(config.backoff.jitter_permille, 250);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_name() {
        for (document, field) in [
            (json!({ "lease": 1 }), "lease"),
            (json!({ "lease_ms": 999 }), "lease_ms"),
            (json!({ "lease_ms": "30s" }), "lease_ms"),
            (json!({ "lease_ms": 30_000.5 }), "lease_ms"),
            (json!({ "max_attempts": 0 }), "max_attempts"),
            (json!({ "backoff": 5 }), "backoff"),
            (json!({ "backoff": { "base": 5 } }), "backoff.base"),
            (
                json!({ "backoff": { "base_ms": 5, "cap_ms": 4 } }),
                "backoff.cap_ms",
            ),
            (json!({ "backoff": { "jitter": 1.5 } }), "backoff.jitter"),
            (json!({ "concurrency": 0 }), "concurrency"),
            (json!({ "concurrency_key": "customer" }), "concurrency_key"),
            (json!({ "concurrency_key": "/a~2" }), "concurrency_key"),
            (json!({ "concurrency_per_key": 2 }), "concurrency_per_key"),
            (
                json!({ "concurrency": 1, "concurrency_key": "", "concurrency_per_key": 2 }),
                "concurrency_per_key",
            ),
            (json!({ "run_prefix": "runs" }), "run_prefix"),
            (json!({ "run_prefix": "__ds/" }), "run_prefix"),
            (json!({ "run_prefix": "jobs/" }), "run_prefix"),
            (json!({ "dead_letter": "jobs/mail" }), "dead_letter"),
            (json!({ "dead_letter": "runs/jobs/mail/dead" }), "dead_letter"),
            (json!({ "run_retention_ms": -1 }), "run_retention_ms"),
        ] {
            let refusal = parse(&document).expect_err(&document.to_string());
            assert_eq!(&*refusal.field, field, "{document}");
        }
    }
}
