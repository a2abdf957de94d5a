//! Rules over two settings: each names a setting, the one that bounds it or that it needs, and why.

use tailwater_process::{ConfigError, Values};

use super::settings::{Config, TlsConfig};

/// `key` must not be more than `other_key`.
struct Bound {
    key: &'static str,
    relation: &'static str,
    other_key: &'static str,
    reason: &'static str,
    /// Whether the rule stands in every storage mode.
    in_every_mode: bool,
    holds: fn(&Config) -> bool,
}

static BOUNDS: [Bound; 6] = [
    Bound {
        key: "limits.max_stream_bytes",
        relation: "",
        other_key: "limits.max_memory_bytes",
        reason: "a stream could never grow to its limit",
        in_every_mode: false,
        holds: |config| {
            config.storage.mode.is_on_disk()
                || config.limits.max_stream_bytes <= config.limits.max_memory_bytes
        },
    },
    Bound {
        key: "storage.journal_bytes",
        relation: "",
        other_key: "storage.fold_bytes",
        reason: "journals are folded whole",
        in_every_mode: true,
        holds: |config| config.storage.journal_bytes <= config.storage.fold_bytes,
    },
    Bound {
        key: "limits.max_body_bytes",
        relation: "",
        other_key: "limits.max_in_flight_bytes",
        reason: "the largest body could never be received",
        in_every_mode: true,
        holds: |config| config.limits.max_body_bytes <= config.limits.max_in_flight_bytes,
    },
    Bound {
        key: "limits.max_name_bytes",
        relation: "a third of ",
        other_key: "limits.max_header_bytes",
        reason: "a percent-encoded name takes three bytes for each of its own, and is part of the header block",
        in_every_mode: true,
        holds: |config| config.limits.max_name_bytes * 3 <= config.limits.max_header_bytes,
    },
    Bound {
        key: "subscriptions.connect_timeout_ms",
        relation: "",
        other_key: "subscriptions.delivery_timeout_ms",
        reason: "the time to connect is part of the time that a webhook may take",
        in_every_mode: true,
        holds: |config| config.subscriptions.connect_timeout_ms <= config.subscriptions.delivery_timeout_ms,
    },
    Bound {
        key: "subscriptions.max_deliveries_per_host",
        relation: "",
        other_key: "subscriptions.max_deliveries",
        reason: "those to one host are some of all",
        in_every_mode: true,
        holds: |config| config.subscriptions.max_deliveries_per_host <= config.subscriptions.max_deliveries,
    },
];

/// `key` means nothing without `other_key`.
struct Companion {
    key: &'static str,
    other_key: &'static str,
    reason: &'static str,
    holds: fn(&TlsConfig) -> bool,
}

static COMPANIONS: [Companion; 3] = [
    Companion {
        key: "tls.cert_path",
        other_key: "tls.key_path",
        reason: "a certificate is of no use without its private key",
        holds: |tls| tls.cert_path.is_none() || tls.key_path.is_some(),
    },
    Companion {
        key: "tls.key_path",
        other_key: "tls.cert_path",
        reason: "a private key is of no use without its certificate",
        holds: |tls| tls.key_path.is_none() || tls.cert_path.is_some(),
    },
    Companion {
        key: "tls.client_ca_path",
        other_key: "tls.cert_path",
        reason: "certificates of clients are asked for in TLS alone, which needs one of the server",
        // A key alone is told of by itself.
        holds: |tls| tls.client_ca_path.is_none() || tls.cert_path.is_some() || tls.key_path.is_some(),
    },
];

/// `key` and `other_key` must not be the same.
struct Distinct {
    key: &'static str,
    other_key: &'static str,
    reason: &'static str,
    holds: fn(&Config) -> bool,
}

static DISTINCT: [Distinct; 1] = [Distinct {
    key: "proxy.subject_header",
    other_key: "proxy.deadline_header",
    reason: "one header cannot name the client and say how long it may stay",
    holds: |config| config.proxy.subject_header != config.proxy.deadline_header,
}];

/// The rules that are broken. A rule over a `doubtful` setting, one with a bad value, says nothing.
pub(super) fn conflicts(config: &Config, values: &Values, doubtful: &[&'static str]) -> Vec<ConfigError> {
    let mode_is_known = !doubtful.contains(&"storage.mode");
    let bounds = BOUNDS
        .iter()
        .filter(|bound| !doubtful.contains(&bound.key) && !doubtful.contains(&bound.other_key))
        .filter(|bound| bound.in_every_mode || mode_is_known)
        .filter(|bound| !(bound.holds)(config))
        .map(|bound| ConfigError::Conflict {
            key: bound.key,
            value: values.toml_of(bound.key),
            origin: values.origin(bound.key),
            relation: bound.relation,
            other_key: bound.other_key,
            other_value: values.toml_of(bound.other_key),
            other_origin: values.origin(bound.other_key),
            reason: bound.reason,
        });
    let companions = COMPANIONS
        .iter()
        .filter(|rule| !doubtful.contains(&rule.key) && !doubtful.contains(&rule.other_key))
        .filter(|rule| !(rule.holds)(&config.tls))
        .map(|rule| ConfigError::Alone {
            key: rule.key,
            value: values.toml_of(rule.key),
            origin: values.origin(rule.key),
            other_key: rule.other_key,
            reason: rule.reason,
        });
    let alike = DISTINCT
        .iter()
        .filter(|rule| !doubtful.contains(&rule.key) && !doubtful.contains(&rule.other_key))
        .filter(|rule| !(rule.holds)(config))
        .map(|rule| ConfigError::Same {
            key: rule.key,
            origin: values.origin(rule.key),
            other_key: rule.other_key,
            other_origin: values.origin(rule.other_key),
            value: values.toml_of(rule.key),
            reason: rule.reason,
        });
    bounds.chain(companions).chain(alike).collect()
}
