//! Members of the bodies of requests to queues and runs. Values are kept as they came; a member that means nothing is
//! refused, so that nothing is asked for in vain.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tailwater_storage::stream::queue::JsonText;

use crate::http::error::Problem;

/// The members of a body, by which mistakes are named. `null` means that there is none.
pub(in crate::http) struct Members<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Members<'a> {
    /// Reads a body that is an object of `known` members; an empty body is an empty one.
    pub(in crate::http) fn of(body: &'a [u8], known: &[&str]) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        let members: BTreeMap<Cow<'a, str>, &'a RawValue> = serde_json::from_slice(body)
            .map_err(|error| Problem::json_body(&format!("is no JSON object ({error}); send one")))?;
        if let Some(other) = members.keys().find(|name| !known.contains(&name.as_ref())) {
            let known = if known.is_empty() {
                "none are known here".to_owned()
            } else {
                format!("known are {}", known.join(", "))
            };
            return Err(Problem::member(other, &format!("means nothing; {known}")));
        }
        Ok(Self(members))
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    /// A value of any kind, `null` included, as it came.
    pub(in crate::http) fn json(&self, name: &str) -> Option<JsonText> {
        self.0.get(name).map(|value| JsonText::of(value))
    }

    pub(in crate::http) fn text(&self, name: &str, bytes_max: usize) -> Result<Option<String>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let fix = || wrong(name, value, &format!("send a text of 1 to {bytes_max} bytes"));
        let text: String = serde_json::from_str(value.get()).map_err(|_other| fix())?;
        if text.is_empty() || text.len() > bytes_max {
            return Err(fix());
        }
        Ok(Some(text))
    }

    pub(in crate::http) fn required_text(&self, name: &str, bytes_max: usize) -> Result<String, Problem> {
        let missing = || {
            Problem::member(
                name,
                &format!("is missing; send a text of 1 to {bytes_max} bytes"),
            )
        };
        self.text(name, bytes_max)?.ok_or_else(missing)
    }

    pub(in crate::http) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = serde_json::from_str::<u64>(value.get()).ok();
        let fix = || {
            wrong(
                name,
                value,
                &format!("send a whole number from {least} to {most}"),
            )
        };
        number
            .filter(|number| (least..=most).contains(number))
            .map(Some)
            .ok_or_else(fix)
    }

    pub(in crate::http) fn required_number(&self, name: &str, most: u64) -> Result<u64, Problem> {
        let missing = || Problem::member(name, &format!("is missing; send a whole number up to {most}"));
        self.number(name, 0, most)?.ok_or_else(missing)
    }

    pub(in crate::http) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let flag =
            serde_json::from_str(value.get()).map_err(|_other| wrong(name, value, "send true or false"));
        flag.map(Some)
    }

    /// One of several words.
    pub(in crate::http) fn choice<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let text: Option<String> = serde_json::from_str(value.get()).ok();
        let chosen = words.iter().find(|(word, _)| text.as_deref() == Some(*word));
        let fix = || {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            wrong(name, value, &format!("send one of {}", words.join(", ")))
        };
        chosen.map(|(_, chosen)| Some(*chosen)).ok_or_else(fix)
    }
}

/// A value cannot be meant.
pub(in crate::http) fn wrong(name: &str, value: &RawValue, fix: &str) -> Problem {
    let mut shown = value.get().to_owned();
    if shown.len() > 100 {
        shown.truncate(shown.floor_char_boundary(100));
        shown.push('…');
    }
    Problem::member(name, &format!("is {shown}; {fix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_name() {
        let refused = |body: &str| {
            let members = Members::of(body.as_bytes(), &["worker", "max", "retry"])?;
            members.required_text("worker", 5)?;
            members.number("max", 1, 10)?;
            members.flag("retry")?;
            Ok::<_, Problem>(())
        };
        assert!(refused("{\"worker\":\"w\",\"max\":10,\"retry\":null}").is_ok());
        for (body, detail) in [
            ("", "`worker` is missing; send a text of 1 to 5 bytes."),
            (
                "{\"worker\":\"longer\"}",
                "`worker` is \"longer\"; send a text of 1 to 5 bytes.",
            ),
            ("{\"worker\":1}", "`worker` is 1; send a text of 1 to 5 bytes."),
            (
                "{\"worker\":\"w\",\"max\":0}",
                "`max` is 0; send a whole number from 1 to 10.",
            ),
            (
                "{\"worker\":\"w\",\"max\":1.5}",
                "`max` is 1.5; send a whole number from 1 to 10.",
            ),
            (
                "{\"worker\":\"w\",\"retry\":\"no\"}",
                "`retry` is \"no\"; send true or false.",
            ),
            (
                "{\"wroker\":\"w\"}",
                "`wroker` means nothing; known are worker, max, retry.",
            ),
        ] {
            assert_eq!(refused(body).expect_err(body).detail(), detail);
        }
        assert_eq!(refused("[]").expect_err("no object").code(), "invalid_json");
    }

    #[test]
    fn a_value_of_any_kind_is_kept_as_it_came() {
        let members = Members::of(
            b"{\"error\": null, \"result\": {\"a\": 1.0}}",
            &["error", "result"],
        )
        .expect("members");
        assert_eq!(members.json("error").expect("there").as_str(), "null");
        assert_eq!(members.json("result").expect("there").as_str(), "{\"a\": 1.0}");
    }
}
