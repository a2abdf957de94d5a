//! Bodies of requests to subscriptions become what is asked for. Fields that are not known are passed over, as clients
//! may send what later versions of the protocol add (PROTOCOL.md §11).

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tailwater_storage::stream::subscription::{Delivery, Pattern, WakeId};
use tailwater_storage::stream::{NameLimits, OffsetToken, StreamName, SubscriptionConfig};
use tailwater_storage::subscriptions::StreamAck;

use crate::http::error::Problem;
use crate::webhooks::{UrlRules, WebhookUrl};

/// More than the names of workers need.
const WORKER_BYTES_MAX: usize = 256;
/// More than people read in a list.
const DESCRIPTION_BYTES_MAX: usize = 1024;

/// An object of a body, by whose fields mistakes are named.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body that is an object; an empty body is an empty one.
    pub(super) fn of(body: &[u8]) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Problem::invalid_request("the body is no JSON object; send one")),
            Err(error) => {
                let what = format!("the body is no JSON ({error}); send a JSON object");
                Err(Problem::invalid_request(&what))
            }
        }
    }

    /// A field that is there and not `null`.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str, fix: &str) -> Result<Option<&str>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, other, fix)),
        }
    }

    fn required_text(&self, name: &str, fix: &str) -> Result<&str, Problem> {
        let missing = || Problem::invalid_request(&format!("`{name}` is missing; {fix}"));
        self.text(name, fix)?
            .filter(|text| !text.is_empty())
            .ok_or_else(missing)
    }

    fn number(&self, name: &str, fix: &str) -> Result<Option<u64>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| wrong(name, value, fix)),
        }
    }

    fn list(&self, name: &str, fix: &str) -> Result<&[Value], Problem> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(wrong(name, other, fix)),
        }
    }
}

fn wrong(name: &str, value: &Value, fix: &str) -> Problem {
    let mut shown = value.to_string();
    if shown.len() > 100 {
        shown.truncate(shown.floor_char_boundary(100));
        shown.push('…');
    }
    Problem::invalid_request(&format!("`{name}` is {shown}; {fix}"))
}

/// The name of a stream. Slashes at its ends mean nothing.
pub(super) fn stream(name: &str, text: &str, limits: NameLimits) -> Result<StreamName, Problem> {
    StreamName::parse(text.trim_matches('/'), limits)
        .map_err(|refusal| Problem::invalid_request(&format!("`{name}` is {text:?}: {refusal}")))
}

/// The body of a request that makes a subscription.
pub(super) fn config(
    fields: &Fields,
    limits: NameLimits,
    url_rules: &UrlRules,
) -> Result<SubscriptionConfig, Problem> {
    let type_fix = "send \"webhook\" or \"pull-wake\"";
    let delivery = match fields.required_text("type", type_fix)? {
        "webhook" => Delivery::Webhook {
            url: webhook_url(fields, url_rules)?.into(),
        },
        "pull-wake" => {
            let fix = "name the stream that wakes are written to; the application creates it";
            let text = fields.required_text("wake_stream", fix)?;
            Delivery::PullWake {
                wake_stream: stream("wake_stream", text, limits)?,
            }
        }
        other => return Err(wrong("type", &other.into(), type_fix)),
    };
    let pattern = fields.text("pattern", "send a pattern such as \"events/*\"")?;
    let pattern = pattern.filter(|text| !text.is_empty()).map(|text| {
        Pattern::parse(text)
            .map_err(|refusal| Problem::invalid_request(&format!("`pattern` is {text:?}: {refusal}")))
    });
    let pattern = pattern.transpose()?;
    let streams = streams(fields, limits)?;
    if pattern.is_none() && streams.is_empty() {
        return Err(Problem::invalid_request(
            "`pattern` and `streams` are both missing; send at least one of them",
        ));
    }
    Ok(SubscriptionConfig {
        delivery,
        pattern,
        streams,
        lease_ttl_ms: lease_ttl_ms(fields)?,
        description: description(fields)?.map(Into::into),
    })
}

fn webhook_url<'f>(fields: &'f Fields, rules: &UrlRules) -> Result<&'f str, Problem> {
    let fix = "send {\"url\": \"https://…\"}";
    let url = match fields.get("webhook") {
        None => return Err(Problem::invalid_request(&format!("`webhook` is missing; {fix}"))),
        Some(Value::Object(webhook)) => webhook.get("url"),
        Some(other) => return Err(wrong("webhook", other, fix)),
    };
    match url {
        Some(Value::String(url)) => {
            WebhookUrl::parse(url, rules).map_err(|error| Problem::webhook_url(&error))?;
            Ok(url)
        }
        Some(other) => Err(wrong("webhook.url", other, "send the URL as a text")),
        None => Err(Problem::invalid_request(&format!(
            "`webhook.url` is missing; {fix}"
        ))),
    }
}

fn lease_ttl_ms(fields: &Fields) -> Result<u64, Problem> {
    let fix = "send a whole number from 1000 to 600000";
    let Some(lease_ttl_ms) = fields.number("lease_ttl_ms", fix)? else {
        return Ok(SubscriptionConfig::LEASE_TTL_MS_DEFAULT);
    };
    let allowed = SubscriptionConfig::LEASE_TTL_MS_MIN..=SubscriptionConfig::LEASE_TTL_MS_MAX;
    if allowed.contains(&lease_ttl_ms) {
        Ok(lease_ttl_ms)
    } else {
        Err(wrong("lease_ttl_ms", &lease_ttl_ms.into(), fix))
    }
}

fn description(fields: &Fields) -> Result<Option<&str>, Problem> {
    let description = fields.text("description", "send a text")?;
    match description {
        Some(text) if text.len() > DESCRIPTION_BYTES_MAX => Err(Problem::invalid_request(&format!(
            "`description` has {} bytes; at most {DESCRIPTION_BYTES_MAX} are allowed",
            text.len()
        ))),
        description => Ok(description),
    }
}

/// The streams that a body names.
pub(super) fn streams(fields: &Fields, limits: NameLimits) -> Result<BTreeSet<StreamName>, Problem> {
    let fix = "send a list of names of streams";
    let listed = fields.list("streams", fix)?.iter();
    let streams = listed.enumerate().map(|(place, value)| {
        let name = format!("streams[{place}]");
        match value {
            Value::String(text) => stream(&name, text, limits),
            other => Err(wrong(&name, other, "send the name of a stream")),
        }
    });
    streams.collect()
}

/// The streams that a body names, of which there must be one.
pub(super) fn some_streams(fields: &Fields, limits: NameLimits) -> Result<BTreeSet<StreamName>, Problem> {
    let streams = streams(fields, limits)?;
    if streams.is_empty() {
        return Err(Problem::invalid_request(
            "`streams` is missing or empty; send a list of names of streams",
        ));
    }
    Ok(streams)
}

/// The worker that claims.
pub(super) fn worker(fields: &Fields) -> Result<&str, Problem> {
    let fix = "send the name of the worker";
    let worker = fields.required_text("worker", fix)?;
    if worker.len() > WORKER_BYTES_MAX {
        return Err(Problem::invalid_request(&format!(
            "`worker` has {} bytes; at most {WORKER_BYTES_MAX} are allowed",
            worker.len()
        )));
    }
    Ok(worker)
}

/// What a worker says of its wake.
pub(super) struct Said {
    pub(super) wake: Option<WakeId>,
    pub(super) generation: u64,
    pub(super) acks: Vec<StreamAck>,
    pub(super) done: bool,
}

/// The body of a callback, an ack or a release.
pub(super) fn said(fields: &Fields, limits: NameLimits) -> Result<Said, Problem> {
    let wake = fields.required_text("wake_id", "send the one that came with the wake")?;
    let fix = "send the one that came with the wake, a whole number";
    let generation = fields
        .number("generation", fix)?
        .ok_or_else(|| Problem::invalid_request(&format!("`generation` is missing; {fix}")))?;
    let fix = "send a list of {\"stream\": name, \"offset\": offset}";
    let acks = fields.list("acks", fix)?.iter().enumerate();
    let acks: Result<_, _> = acks
        .map(|(place, value)| ack(place, value, fix, limits))
        .collect();
    let done = match fields.get("done") {
        None => false,
        Some(Value::Bool(done)) => *done,
        Some(other) => return Err(wrong("done", other, "send true or false")),
    };
    Ok(Said {
        wake: WakeId::parse(wake),
        generation,
        acks: acks?,
        done,
    })
}

fn ack(place: usize, value: &Value, fix: &str, limits: NameLimits) -> Result<StreamAck, Problem> {
    let name = format!("acks[{place}]");
    let Value::Object(fields) = value else {
        return Err(wrong(&name, value, fix));
    };
    let text = |field: &str| match fields.get(field) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(wrong(&format!("{name}.{field}"), other, fix)),
        None => Err(Problem::invalid_request(&format!(
            "`{name}.{field}` is missing; {fix}"
        ))),
    };
    let offset = text("offset")?;
    Ok(StreamAck {
        stream: stream(&format!("{name}.stream"), text("stream")?, limits)?,
        offset: OffsetToken::parse(offset).ok_or_else(|| Problem::ack_offset(&name, offset))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn asked(body: &str) -> Result<SubscriptionConfig, Problem> {
        let rules = UrlRules::new(&Config::default().subscriptions);
        Fields::of(body.as_bytes()).and_then(|fields| config(&fields, NameLimits::default(), &rules))
    }

    #[test]
    fn a_whole_request_is_understood_and_what_is_unknown_is_passed_over() {
        let made = asked(
            r#"{"type": "pull-wake", "pattern": "/events/*/", "streams": ["b", "/a/", "b"], "wake_stream": "wake",
                "webhook": null, "description": "d", "later": 1}"#,
        )
        .expect("understood");
        assert_eq!(made.pattern.expect("one").as_str(), "events/*");
        let streams: Vec<_> = made.streams.iter().map(StreamName::as_str).collect();
        assert_eq!(streams, ["a", "b"]);
        assert_eq!(made.lease_ttl_ms, 30_000);
    }

    #[test]
    fn each_mistake_is_told_with_its_field_its_value_and_what_to_do() {
        for (body, code, detail) in [
            ("[]", "INVALID_REQUEST", "The body is no JSON object; send one."),
            (
                "{}",
                "INVALID_REQUEST",
                "`type` is missing; send \"webhook\" or \"pull-wake\".",
            ),
            (
                r#"{"type": 7}"#,
                "INVALID_REQUEST",
                "`type` is 7; send \"webhook\" or \"pull-wake\".",
            ),
            (
                r#"{"type": "push"}"#,
                "INVALID_REQUEST",
                "`type` is \"push\"; send \"webhook\" or \"pull-wake\".",
            ),
            (
                r#"{"type": "pull-wake", "pattern": "a"}"#,
                "INVALID_REQUEST",
                "`wake_stream` is missing; name the stream that wakes are written to; the application creates it.",
            ),
            (
                r#"{"type": "webhook", "pattern": "a"}"#,
                "INVALID_REQUEST",
                "`webhook` is missing; send {\"url\": \"https://…\"}.",
            ),
            (
                r#"{"type": "pull-wake", "wake_stream": "w"}"#,
                "INVALID_REQUEST",
                "`pattern` and `streams` are both missing; send at least one of them.",
            ),
            (
                r#"{"type": "pull-wake", "wake_stream": "w", "streams": ["a", "__ds/x"]}"#,
                "INVALID_REQUEST",
                "`streams[1]` is \"__ds/x\": names whose first segment is `__ds` belong to the server; choose another \
                 first segment.",
            ),
            (
                r#"{"type": "pull-wake", "wake_stream": "w", "pattern": "a", "lease_ttl_ms": 999}"#,
                "INVALID_REQUEST",
                "`lease_ttl_ms` is 999; send a whole number from 1000 to 600000.",
            ),
            (
                r#"{"type": "pull-wake", "wake_stream": "w", "pattern": "a", "lease_ttl_ms": 600001}"#,
                "INVALID_REQUEST",
                "`lease_ttl_ms` is 600001; send a whole number from 1000 to 600000.",
            ),
        ] {
            let problem = asked(body).expect_err("refused");
            assert_eq!((problem.code(), problem.detail()), (code, detail), "{body}");
        }
        let private =
            asked(r#"{"type": "webhook", "pattern": "a", "webhook": {"url": "http://10.0.0.1/hook"}}"#);
        assert_eq!(private.expect_err("refused").code(), "WEBHOOK_URL_REJECTED");
    }

    #[test]
    fn what_a_worker_says_is_understood() {
        let read =
            |body: &str| Fields::of(body.as_bytes()).and_then(|fields| said(&fields, NameLimits::default()));
        let whole = read(
            r#"{"wake_id": "w_00000000000000000000000000000001", "generation": 7, "done": true,
                "acks": [{"stream": "a", "offset": "0000000000000001_0000000000000042"}]}"#,
        )
        .expect("understood");
        assert_eq!(
            (whole.wake, whole.generation, whole.done),
            (Some(WakeId::new(1)), 7, true)
        );
        assert_eq!(whole.acks.len(), 1);
        let beginning =
            read(r#"{"wake_id": "w", "generation": 7, "acks": [{"stream": "a", "offset": "-1"}]}"#);
        let beginning = beginning.err().expect("refused");
        assert_eq!(beginning.code(), "INVALID_OFFSET");
        let foreign = read(r#"{"wake_id": "w_abc", "generation": 7}"#).expect("understood");
        assert_eq!(foreign.wake, None);
    }
}
