//! The body of a request becomes what is asked for. What is not known is refused, so that nothing that was asked for is left
//! undone without a word.

use tailwater_storage::stream::schedule::{CRON_BYTES_MAX, EnqueueAs, Misfire};
use tailwater_storage::stream::{NameLimits, ScheduleConfig, StreamName, Timestamp};

use crate::http::error::Problem;
use crate::http::queues::body::Members;
use crate::http::time;

/// More than names of time zones need, and texts of times.
const ZONE_BYTES_MAX: usize = 100;
const TIME_BYTES_MAX: usize = 100;
const MEMBERS: [&str; 9] = [
    "stream",
    "cron",
    "time_zone",
    "payload",
    "enqueue_as",
    "misfire",
    "paused",
    "start_at",
    "end_at",
];

/// What a body asks for.
pub(super) fn config(body: &[u8], limits: NameLimits) -> Result<ScheduleConfig, Problem> {
    let members = Members::of(body, &MEMBERS)?;
    let stream = members.required_text("stream", limits.bytes_max)?;
    let stream = StreamName::parse(&stream, limits)
        .map_err(|refusal| Problem::member("stream", &format!("is {stream:?}: {refusal}")))?;
    let cron = members.required_text("cron", CRON_BYTES_MAX)?;
    let time_zone = members.text("time_zone", ZONE_BYTES_MAX)?;
    let payload = members.json("payload").ok_or_else(|| {
        Problem::member(
            "payload",
            "is missing; send what is to be enqueued, `null` if it is nothing",
        )
    })?;
    let (start_at, end_at) = (time(&members, "start_at")?, time(&members, "end_at")?);
    if let (Some(start), Some(end)) = (start_at, end_at)
        && end <= start
    {
        let fix = "is not after `start_at`; send a later time, or leave one of them out";
        return Err(Problem::member("end_at", fix));
    }
    let forms = [("job", EnqueueAs::Job), ("message", EnqueueAs::Message)];
    let misfires = [
        ("skip", Misfire::Skip),
        ("once", Misfire::Once),
        ("all", Misfire::All),
    ];
    Ok(ScheduleConfig {
        stream,
        cron: cron.into(),
        time_zone: time_zone.as_deref().unwrap_or("UTC").into(),
        payload: payload.as_str().into(),
        enqueue_as: members.choice("enqueue_as", &forms)?.unwrap_or_default(),
        misfire: members.choice("misfire", &misfires)?.unwrap_or_default(),
        paused: members.flag("paused")?.unwrap_or_default(),
        start_at,
        end_at,
    })
}

fn time(members: &Members<'_>, name: &str) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = members.text(name, TIME_BYTES_MAX)? else {
        return Ok(None);
    };
    let fix = || {
        let what = format!("is {text:?}; send an RFC 3339 time such as \"2030-01-01T00:00:00Z\"");
        Problem::member(name, &what)
    };
    time::parse(&text).map(Some).ok_or_else(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Result<ScheduleConfig, Problem> {
        config(body.as_bytes(), NameLimits::default())
    }

    #[test]
    fn a_whole_request_is_understood_and_a_short_one_has_defaults() {
        let made = asked(
            r#"{"stream": "jobs", "cron": "30 2 * * *", "time_zone": "Europe/Berlin", "payload": {"n": 1e400 },
                "enqueue_as": "message", "misfire": "all", "paused": true, "start_at": "2030-01-01T00:00:00Z",
                "end_at": "2031-01-01T00:00:00+01:00"}"#,
        )
        .expect("understood");
        assert_eq!(
            (&*made.payload, made.enqueue_as),
            ("{\"n\": 1e400 }", EnqueueAs::Message)
        );
        assert_eq!((made.misfire, made.paused), (Misfire::All, true));
        assert!(made.end_at > made.start_at);
        let short = asked(r#"{"stream": "jobs", "cron": "* * * * *", "payload": null}"#).expect("understood");
        assert_eq!((&*short.time_zone, &*short.payload), ("UTC", "null"));
        assert_eq!((short.misfire, short.enqueue_as), (Misfire::Once, EnqueueAs::Job));
    }

    #[test]
    fn each_mistake_is_told_with_its_field_its_value_and_what_to_do() {
        for (change, detail) in [
            (r#""cron": 7"#, "`cron` is 7; send a text of 1 to 256 bytes."),
            (
                r#""cronn": "* * * * *""#,
                "`cronn` means nothing; known are stream, cron, time_zone, payload, enqueue_as, misfire, paused, start_at, \
                 end_at.",
            ),
            (
                r#""misfire": "twice""#,
                "`misfire` is \"twice\"; send one of \"skip\", \"once\", \"all\".",
            ),
            (r#""paused": "yes""#, "`paused` is \"yes\"; send true or false."),
            (
                r#""start_at": "tomorrow""#,
                "`start_at` is \"tomorrow\"; send an RFC 3339 time such as \"2030-01-01T00:00:00Z\".",
            ),
            (
                r#""start_at": "2030-01-01T00:00:00Z", "end_at": "2030-01-01T00:00:00Z""#,
                "`end_at` is not after `start_at`; send a later time, or leave one of them out.",
            ),
            (
                r#""stream": "__ds/x""#,
                "`stream` is \"__ds/x\": names whose first segment is `__ds` belong to the server; choose another first \
                 segment.",
            ),
        ] {
            let body = format!(r#"{{"stream": "jobs", "cron": "* * * * *", "payload": 1, {change}}}"#);
            assert_eq!(asked(&body).expect_err("refused").detail(), detail);
        }
        let detail = |body| asked(body).expect_err("refused").detail().to_owned();
        assert_eq!(
            detail("{}"),
            "`stream` is missing; send a text of 1 to 1024 bytes."
        );
        assert_eq!(
            detail(r#"{"stream": "s", "cron": "* * * * *"}"#),
            "`payload` is missing; send what is to be enqueued, `null` if it is nothing."
        );
    }
}
