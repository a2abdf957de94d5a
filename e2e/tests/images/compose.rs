//! All of `docker-compose.yml`, from nothing, as README.md says: Envoy, the server, PostgreSQL, the mirror and Prometheus.

use serde_json::Value;
use tailwater_e2e::eventually;

use crate::project::{Project, TAG};

const README: &str = include_str!("../../../README.md");
/// What is always there.
const SERVICES: [&str; 4] = ["envoy", "tailwater", "postgres", "mirror"];

/// The commands of README.md that append to the edge and look into PostgreSQL.
fn commands() -> Vec<&'static str> {
    let (_, section) = README
        .split_once("## In containers\n")
        .expect("README.md has this section");
    let block = section
        .split("```")
        .filter_map(|block| block.strip_prefix("sh\n"))
        .find(|block| block.contains("tailwater append"));
    let lines: Vec<_> = block.expect("it appends something").lines().collect();
    assert_eq!(lines.len(), 4, "a URL, a token, an append, a question: {lines:?}");
    lines
}

/// Appends that event to the stream of README.md, by Envoy and with a token.
#[track_caller]
fn append(project: &Project, event: &str) {
    let lines = commands();
    let typed = lines[..3].join("\n").replace(r#"{"step":"started"}"#, event);
    tailwater_e2e::node::run(&mut project.shell(&typed));
}

/// Waits until PostgreSQL has these events of the stream, and no others.
#[track_caller]
fn expect_mirrored(project: &Project, steps: &[&str]) {
    let sql = "SELECT payload->>'step' FROM tailwater.events WHERE stream = 'runs/42' ORDER BY index";
    let wanted = steps.join("\n");
    eventually("the mirror has written them", || {
        (project.rows(sql) == wanted).then_some(())
    });
}

#[track_caller]
fn expect_well(project: &Project) {
    for service in SERVICES {
        let container = project.container(service);
        let state = &container["State"];
        assert_eq!(state["Health"]["Status"], "healthy", "{service}: {state}");
        assert_eq!(container["RestartCount"], 0, "{service}");
        assert_eq!(container["HostConfig"]["ReadonlyRootfs"], true, "{service}");
    }
}

#[test]
#[ignore = "needs Docker with its compose; `make test-images` runs it"]
fn all_of_it_starts_from_nothing_and_keeps_what_is_appended_through_down_up_and_an_upgrade() {
    let project = Project::set_up();
    project.up("");
    expect_well(&project);
    append(&project, r#"{"step":"started"}"#);
    expect_mirrored(&project, &["started"]);
    let shown = project.shell(commands()[3]).output().expect("bash can be run");
    let shown = tailwater_e2e::node::written(&shown);
    assert!(shown.contains("runs/42") && shown.contains("started"), "{shown}");

    project.compose("stop tailwater mirror");
    for service in ["tailwater", "mirror"] {
        let state = &project.container(service)["State"];
        assert_eq!(state["ExitCode"], 0, "{service} stops by itself: {state}");
    }
    project.compose("down");
    project.up("");
    expect_well(&project);
    append(&project, r#"{"step":"rendered"}"#);
    expect_mirrored(&project, &["started", "rendered"]);

    let images =
        || ["tailwater", "mirror"].map(|service| project.container(service)["Config"]["Image"].to_string());
    assert!(
        images().iter().all(|image| image.ends_with(&format!(":{TAG}\""))),
        "{:?}",
        images()
    );
    project.name_tag("v2");
    project.up("");
    assert!(
        images().iter().all(|image| image.ends_with(":v2\"")),
        "{:?}",
        images()
    );
    expect_well(&project);
    append(&project, r#"{"step":"sent"}"#);
    expect_mirrored(&project, &["started", "rendered", "sent"]);
}

/// What Prometheus answers to that question.
fn prometheus(path: &str) -> Option<Value> {
    let mut answer = ureq::get(&format!("http://127.0.0.1:9090/api/v1/{path}"))
        .call()
        .ok()?;
    let text = answer.body_mut().read_to_string().ok()?;
    let all: Value = serde_json::from_str(&text).ok()?;
    Some(all["data"].clone())
}

#[test]
#[ignore = "needs Docker with its compose; `make test-images` runs it"]
fn prometheus_reaches_both_programs_takes_all_rules_and_has_nothing_to_alert_of() {
    let project = Project::set_up();
    project.up("");
    project.up("prometheus");
    append(&project, r#"{"step":"started"}"#);
    let is_up = |job: &str| {
        let found = prometheus(&format!("query?query=up%7Bjob%3D%22{job}%22%7D"))?;
        (found["result"][0]["value"][1] == "1").then_some(())
    };
    for job in ["tailwater", "tailwater-sync"] {
        eventually(&format!("Prometheus has asked {job}"), || is_up(job));
    }
    let rules = eventually("every rule was evaluated", || {
        let groups = prometheus("rules?type=alert")?;
        let groups = groups["groups"].as_array()?;
        let rules: Vec<Value> = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
            .collect();
        let is_known = rules.iter().all(|rule| rule["health"] != "unknown");
        (!rules.is_empty() && is_known).then_some(rules)
    });
    let files = ["tailwater.yml", "tailwater-sync.yml"].map(|name| {
        let path = project.path().join("deploy/observability/rules").join(name);
        std::fs::read_to_string(path).expect("it was copied")
    });
    assert_eq!(rules.len(), files.concat().matches("- alert:").count());
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        // The disk is the machine's, and others may be filling it.
        let is_of_the_disk = rule["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("TailwaterDisk"));
        assert!(rule["state"] == "inactive" || is_of_the_disk, "{rule}");
    }
}
