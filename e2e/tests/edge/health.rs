//! What orchestrators run in Envoy's container to see whether it takes clients. Its image has bash, and no curl.

use std::net::SocketAddr;
use std::process::Command;

use tailwater_e2e::envoy::repository;
use tailwater_e2e::{Edge, Server, node};

/// Where the admin page is in a container.
const IN_CONTAINERS: &str = "127.0.0.1/9901";

/// The command of a file, asking the admin page at that address.
fn check(file: &str, admin: SocketAddr) -> Command {
    let text = std::fs::read_to_string(repository().join(file)).expect("it is in the repository");
    let from = text.find("exec 3<>").expect("it asks by bash");
    let end = "<&3";
    let to = text[from..].find(end).expect("it reads the answer") + end.len();
    // Compose has it in quotes.
    let script = text[from..from + to].replace(r"\\", r"\");
    assert_eq!(script.matches(IN_CONTAINERS).count(), 1, "{script}");
    let mut bash = Command::new("bash");
    let here = format!("{}/{}", admin.ip(), admin.port());
    bash.arg("-c").arg(script.replace(IN_CONTAINERS, &here));
    bash
}

/// They asked in HTTP/1.0, to which Envoy answers 426: with Compose, Swarm and Kubernetes alike it never became healthy.
#[test]
fn an_envoy_that_takes_clients_is_healthy_for_every_orchestrator_and_one_that_is_gone_for_none() {
    let server = Server::start();
    let edge = Edge::before(server.address());
    let admin = edge.envoy().admin_address();
    let files = [
        "docker-compose.yml",
        "deploy/swarm/stack.yml",
        "deploy/kubernetes/base/edge.yaml",
    ];
    for file in files {
        node::run(&mut check(file, admin));
    }
    drop(edge);
    for file in files {
        let asked = check(file, admin).output().expect("bash can be run");
        assert!(!asked.status.success(), "{file}: nobody answers");
    }
}
