//! Clients that others have made: curl, as the documentation has it, the command line, and the official client.

use std::process::Command;

use tailwater_e2e::edge::Configuration;
use tailwater_e2e::envoy::repository;
use tailwater_e2e::{Edge, edge, node, server};

/// The commands of docs/edge.md, each with what is printed below it.
fn documented() -> Vec<(String, String)> {
    let path = repository().join("docs/edge.md");
    let text = std::fs::read_to_string(path).expect("the page is in the repository");
    let (_, section) = text.split_once("## From token to tail").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("another section follows");
    let mut commands: Vec<(String, String)> = Vec::new();
    for block in section.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").expect("a block ends");
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => commands.push((command.to_owned(), String::new())),
                None => {
                    let (_, printed) = commands.last_mut().expect("a command comes first");
                    printed.push_str(line);
                    printed.push('\n');
                }
            }
        }
    }
    commands
}

/// Runs what the page says to type, at the top of the repository, and compares what it says is printed. Only the port
/// and the directory of what `envoy/setup` makes are others, since tests run beside each other.
#[test]
fn the_commands_of_the_documentation_do_what_it_says() {
    const MARK: &str = "---- next";
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    let generated = edge.file("").display().to_string();
    let commands = documented();
    assert!(commands.len() > 8, "the commands are found: {commands:?}");
    let port = format!("localhost:{}", edge.address().port());
    let mut script = "set -e\n".to_owned();
    let mut expected = String::new();
    for (command, printed) in &commands {
        let command = command
            .replace("envoy/token ", &format!("envoy/token --keys {generated} "))
            .replace("envoy/generated", generated.trim_end_matches('/'))
            .replace("localhost:8443", &port);
        script.push_str(&format!("{command}\necho '{MARK}'\n"));
        expected.push_str(&format!("{printed}{MARK}\n"));
    }
    let binary = server::binary();
    let directory = binary.parent().expect("the binary is in a directory");
    let path = std::env::var("PATH").expect("there is a PATH");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(repository())
        .env("PATH", format!("{}:{path}", directory.display()))
        .output()
        .expect("bash runs");
    let said = node::written(&output);
    assert!(output.status.success(), "{said}\n{script}");
    // Envoy's problem documents end in a line break or not; what counts is the text.
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(lines(&printed), lines(&expected), "{said}");
    server.stop();
}

/// curl by both versions of HTTP, as far as this one can.
#[test]
fn curl_comes_through_by_http_1_and_http_2() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    server.stream("runs/1").create().append("1");
    let token = edge.token(&["--read", "runs/"]);
    let certificate = edge.file("certificate.pem").display().to_string();
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let output = Command::new("curl")
            .args([
                "-sS",
                "--cacert",
                &certificate,
                option,
                "-w",
                "\n%{http_version} %{http_code}",
            ])
            .args(["-H", &format!("Authorization: Bearer {token}")])
            .arg(format!("{}/v1/stream/runs/1", edge.origin()))
            .output()
            .expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, format!("[1]\n{version} 200"), "{}", node::written(&output));
    }
    server.stop();
}

/// The official client writes, and reads to the end in all three ways. It is told apart why it is refused.
#[test]
fn the_official_client_writes_and_reads_through_the_edge() {
    let server = edge::server(&[]);
    let configuration = Configuration::development(server.address())
        .set("requests_at_once", "1000000")
        .set("requests_each_second", "1000000");
    let edge = Edge::of(configuration);
    let output = node::run(
        node::node("tests/edge/official_client.mjs")
            .env("STREAM_URL", format!("{}/v1/stream/runs/official", edge.origin()))
            .env("TOKEN", edge.token(&["--read", "runs/", "--write", "runs/"]))
            .env("READ_ONLY", edge.token(&["--read", "runs/"]))
            .env("NODE_EXTRA_CA_CERTS", edge.file("certificate.pem")),
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON line");
    let numbers: Vec<_> = (0..500).collect();
    for mode in ["catch-up", "long-poll", "sse"] {
        assert_eq!(report["modes"][mode], serde_json::json!(numbers), "{mode}");
    }
    assert_eq!(report["failures"], serde_json::json!([]));
    assert_eq!(report["refused"], 403, "a reader may not write");
    assert_eq!(report["anonymous"], 401, "nobody may read");
    server.stop();
}
