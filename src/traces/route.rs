//! The template of a path: what it leads to, without any name that somebody has chosen.

use std::borrow::Cow;

/// Paths beside the streams.
const SIDE: [&str; 5] = ["/healthz", "/health", "/ok", "/readyz", "/metrics"];
/// The segments behind `__ds` that are names of operations.
const OPERATIONS: [&str; 7] = [
    "streams",
    "changes",
    "trim",
    "export",
    "import",
    "subscriptions",
    "jwks.json",
];
/// Those behind a subscription's id.
const OF_SUBSCRIPTIONS: [&str; 5] = ["streams", "callback", "claim", "ack", "release"];

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
            ("/v1/streams", "*"),
            ("/secret", "*"),
            ("", "*"),
        ] {
            assert_eq!(template("/v1/stream", path), expected, "{path}");
        }
    }
}
