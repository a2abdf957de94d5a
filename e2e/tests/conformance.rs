//! The protocol's official server tests pass against the real binary, all of them, in every storage mode.

use serde_json::Value;
use tailwater_e2e::{Server, node};

/// One row per storage mode: its name, and the settings that choose it.
const MODES: &[(&str, &[(&str, &str)])] = &[
    ("memory", &[("DS_STORAGE__MODE", "memory")]),
    ("file-fast", &[("DS_STORAGE__MODE", "file-fast")]),
    ("file-durable", &[("DS_STORAGE__MODE", "file-durable")]),
    ("acid", &[("DS_STORAGE__MODE", "acid")]),
];

/// Tests that run in the pinned version of the suite. A suite that silently shrinks is a failure.
const PASSED: u64 = 338;

/// The suite waits a little longer than the server's long-polls last.
const LONG_POLL_SECS: &str = "2";
const LONG_POLL_PATIENCE_MS: &str = "10000";

#[test]
fn every_official_conformance_test_passes_in_every_storage_mode() {
    for (mode, settings) in MODES {
        let settings = [
            *settings,
            &[
                ("DS_LIMITS__LONG_POLL_TIMEOUT_SECS", LONG_POLL_SECS),
                // Its receivers listen on this machine.
                ("DS_SUBSCRIPTIONS__ALLOW_HTTP_LOCALHOST", "true"),
            ],
        ]
        .concat();
        let server = Server::start_with(&settings);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let report = directory.path().join("report.json");
        let output = node::node("node_modules/vitest/vitest.mjs")
            .args(["run", "--reporter=json", "--outputFile"])
            .arg(&report)
            .env("SERVER_URL", server.origin())
            .env("LONG_POLL_TIMEOUT_MS", LONG_POLL_PATIENCE_MS)
            .output()
            .expect("Node.js runs");
        let text = std::fs::read(&report)
            .unwrap_or_else(|error| panic!("{mode}: no report ({error}):\n{}", node::written(&output)));
        let report: Value = serde_json::from_slice(&text).expect("the report is JSON");
        let tests: Vec<&Value> = report["testResults"]
            .as_array()
            .expect("the report lists its files")
            .iter()
            .flat_map(|file| {
                file["assertionResults"]
                    .as_array()
                    .expect("a file lists its tests")
            })
            .collect();
        let with_status = |status: &str| -> Vec<&Value> {
            tests
                .iter()
                .copied()
                .filter(|test| test["status"] == status)
                .collect()
        };

        let failures: String = with_status("failed")
            .iter()
            .map(|test| {
                format!(
                    "{}\n    {}\n",
                    test["fullName"],
                    first_line(&test["failureMessages"][0])
                )
            })
            .collect();
        assert!(
            failures.is_empty(),
            "{mode}: failed conformance tests:\n{failures}"
        );
        assert!(
            output.status.success(),
            "{mode}: vitest failed:\n{}",
            node::written(&output)
        );
        assert_eq!(report["numPassedTests"], PASSED, "{mode}: tests that passed");
        let skipped = with_status("skipped");
        assert!(skipped.is_empty(), "{mode}: skipped {skipped:#?}");
        server.stop();
    }
}

fn first_line(message: &Value) -> &str {
    message
        .as_str()
        .and_then(|text| text.lines().next())
        .unwrap_or_default()
}
