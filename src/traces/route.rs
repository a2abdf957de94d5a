//! The template of a path: what it leads to, without any name that somebody has chosen.

use std::borrow::Cow;

/// Paths beside the streams.
const SIDE: [&str; 5] = ["/healthz", "/health", "/ok", "/readyz", "/metrics"];
/// The segments behind `__ds` that are names of operations.
const OPERATIONS: [&str; 11] = [
    "streams",
    "changes",
    "trim",
    "export",
    "import",
    "subscriptions",
    "queues",
    "runs",
    "schedules",
    "jwks.json",
    "openapi.json",
];
/// Those behind a subscription's id.
const OF_SUBSCRIPTIONS: [&str; 5] = ["streams", "callback", "claim", "ack", "release"];
/// What may stand behind the stream of a queue, whose name may have slashes itself. Of those that end alike the longer is first.
const OF_QUEUES: [&str; 7] = [
    "enqueue",
    "claim",
    "pause",
    "resume",
    "purge",
    "dead/redrive",
    "dead",
];
/// Likewise behind a run.
const OF_RUNS: [&str; 6] = ["heartbeat", "complete", "fail", "release", "cancel", "retry"];

/// The template of a path, of which there are few. `base` is the path of streams.
pub(super) fn template(base: &str, path: &str) -> Cow<'static, str> {
    if let Some(side) = SIDE.iter().find(|side| **side == path) {
        return Cow::Borrowed(side);
    }
    let below = path.strip_prefix(base).and_then(|below| below.strip_prefix('/'));
    match below {
        None => Cow::Borrowed("*"),
        Some("__ds") => Cow::Owned(format!("{base}/__ds")),
        Some(below) => match below.strip_prefix("__ds/") {
            None => Cow::Owned(format!("{base}/{{stream}}")),
            Some(operation) => Cow::Owned(format!("{base}/__ds/{}", operation_template(operation))),
        },
    }
}

fn operation_template(below: &str) -> String {
    match below.split_once('/') {
        Some(("queues", below)) => return behind_a_name("queues/{stream}", below, &OF_QUEUES),
        Some(("runs", below)) => return behind_a_name("runs/{run}", below, &OF_RUNS),
        Some(("schedules", _id)) => return "schedules/{id}".to_owned(),
        _ => {}
    }
    let mut segments = below.splitn(4, '/');
    let first = segments.next().unwrap_or_default();
    let known = |known: &[&'static str], segment: &str| {
        let found = known.iter().find(|known| **known == segment);
        found.copied().unwrap_or("*")
    };
    let mut template = known(&OPERATIONS, first).to_owned();
    let Some(_id) = segments.next() else {
        return template;
    };
    template.push_str(if first == "subscriptions" { "/{id}" } else { "/*" });
    let Some(third) = segments.next() else {
        return template;
    };
    template.push('/');
    template.push_str(known(&OF_SUBSCRIPTIONS, third));
    if segments.next().is_some() {
        template.push_str("/*");
    }
    template
}

/// The template of what is asked of something whose name has any number of segments.
fn behind_a_name(template: &str, below: &str, operations: &[&str]) -> String {
    let is_asked = |operation: &&&str| {
        let name = below.strip_suffix(**operation);
        name.is_some_and(|name| name.ends_with('/'))
    };
    match operations.iter().find(is_asked) {
        Some(operation) => format!("{template}/{operation}"),
        None => template.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::template;

    #[test]
    fn no_name_that_somebody_has_chosen_is_in_a_template() {
        for (path, expected) in [
            ("/metrics", "/metrics"),
            ("/v1/stream/secret", "/v1/stream/{stream}"),
            ("/v1/stream/secret/run/7", "/v1/stream/{stream}"),
            ("/v1/stream/__dsecret", "/v1/stream/{stream}"),
            ("/v1/stream/__ds", "/v1/stream/__ds"),
            ("/v1/stream/__ds/streams", "/v1/stream/__ds/streams"),
            ("/v1/stream/__ds/secret", "/v1/stream/__ds/*"),
            ("/v1/stream/__ds/secret/secret", "/v1/stream/__ds/*/*"),
            (
                "/v1/stream/__ds/subscriptions/secret",
                "/v1/stream/__ds/subscriptions/{id}",
            ),
            (
                "/v1/stream/__ds/subscriptions/secret/claim",
                "/v1/stream/__ds/subscriptions/{id}/claim",
            ),
            (
                "/v1/stream/__ds/subscriptions/secret/streams/secret/secret",
                "/v1/stream/__ds/subscriptions/{id}/streams/*",
            ),
            (
                "/v1/stream/__ds/subscriptions/secret/secret",
                "/v1/stream/__ds/subscriptions/{id}/*",
            ),
            ("/v1/stream/__ds/queues", "/v1/stream/__ds/queues"),
            ("/v1/stream/__ds/queues/secret", "/v1/stream/__ds/queues/{stream}"),
            ("/v1/stream/__ds/queues/claim", "/v1/stream/__ds/queues/{stream}"),
            (
                "/v1/stream/__ds/queues/secret/secret/claim",
                "/v1/stream/__ds/queues/{stream}/claim",
            ),
            (
                "/v1/stream/__ds/queues/secret/reclaim",
                "/v1/stream/__ds/queues/{stream}",
            ),
            (
                "/v1/stream/__ds/queues/secret/dead",
                "/v1/stream/__ds/queues/{stream}/dead",
            ),
            (
                "/v1/stream/__ds/queues/secret/dead/redrive",
                "/v1/stream/__ds/queues/{stream}/dead/redrive",
            ),
            (
                "/v1/stream/__ds/runs/runs/secret/7/heartbeat",
                "/v1/stream/__ds/runs/{run}/heartbeat",
            ),
            ("/v1/stream/__ds/runs/secret", "/v1/stream/__ds/runs/{run}"),
            (
                "/v1/stream/__ds/schedules/secret",
                "/v1/stream/__ds/schedules/{id}",
            ),
            ("/v1/streams", "*"),
            ("/secret", "*"),
            ("", "*"),
        ] {
            assert_eq!(template("/v1/stream", path), expected, "{path}");
        }
    }
}
