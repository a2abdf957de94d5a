//! What can be typed, and what is made of it.

use clap::{CommandFactory, Parser};

use super::{Arguments, Command};
use crate::comparison::Plan;
use crate::contender::Contender;
use crate::servers::Durability;

fn plan(arguments: &[&str]) -> Plan {
    let arguments = Arguments::parse_from([&["loadgen", "peers"], arguments].concat());
    let Command::Peers(peers) = &arguments.command else {
        panic!("the command was peers")
    };
    peers.plan(&arguments.setup)
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.contenders
        .iter()
        .map(|contender| contender.server.name)
        .collect()
}

#[test]
fn the_subject_is_compared_with_all_others_in_five_rounds() {
    let plan = plan(&[]);
    assert_eq!(
        names(&plan),
        ["tailwater", "durable-streams", "durable-streams-server"]
    );
    assert_eq!((plan.rounds, plan.scenarios.len()), (5, 6));
}

#[test]
fn subject_peer_modes_and_pairs_can_be_chosen() {
    let plan = plan(&[
        "--subject=durable-streams",
        "--peer=tailwater",
        "--modes=append,idle",
        "--pairs=7",
        "--quick",
    ]);
    assert_eq!(names(&plan), ["durable-streams", "tailwater"]);
    let titles: Vec<String> = plan
        .scenarios
        .iter()
        .map(|(scenario, _)| scenario.title())
        .collect();
    assert_eq!(
        titles,
        [
            "append, 64 connections",
            "append, 256 connections",
            "1000 idle subscribers"
        ]
    );
    assert_eq!((plan.rounds, plan.scenarios[0].1.window_ms), (7, 1_000));
}

#[test]
fn on_disk_appends_take_a_minute_and_needs_are_only_what_the_defaults_do_not_give() {
    let plan = plan(&["--durability=durable", "--modes=append"]);
    assert!(plan.scenarios.iter().all(|(_, pace)| pace.window_ms == 60_000));
    let needing: Vec<String> = plan
        .scenarios
        .iter()
        .filter(|(scenario, _)| !scenario.needs(Durability::Durable).is_empty())
        .map(|(scenario, _)| scenario.title())
        .collect();
    assert_eq!(needing, ["append, 256 connections, 100000 streams"]);
}

#[test]
fn shards_are_compared_with_servers_that_have_some() {
    assert_eq!(
        names(&plan(&["--durability=acid"])),
        ["tailwater", "durable-streams-server"]
    );
}

#[test]
fn numbers_of_shards_are_compared_with_each_other_and_with_files() {
    let arguments = Arguments::parse_from(["loadgen", "shards", "--pairs=2"]);
    let Command::Shards(shards) = &arguments.command else {
        panic!("the command was shards")
    };
    let plan = shards.plan(&arguments.setup);
    let labels: Vec<String> = plan.contenders.iter().map(Contender::label).collect();
    let count = "tailwater acid DS_STORAGE__ACID_SHARD_COUNT=";
    assert_eq!(
        labels[..4],
        ["16", "1", "4", "64"].map(|shards| format!("{count}{shards}"))
    );
    assert_eq!(labels[4..], ["tailwater"]);
    assert_eq!((plan.scenarios.len(), plan.rounds), (6, 2));
}

#[test]
fn two_settings_of_one_server_can_be_compared() {
    let arguments = Arguments::parse_from([
        "loadgen",
        "--durability=durable",
        "--set=A=1",
        "versus",
        "--other=A=2",
        "--pairs=3",
        "append",
    ]);
    let Command::Versus(versus) = &arguments.command else {
        panic!("the command was versus")
    };
    let plan = versus.plan(&arguments.setup);
    let labels: Vec<String> = plan.contenders.iter().map(Contender::label).collect();
    assert_eq!(labels, ["tailwater A=1", "tailwater A=2"]);
    assert_eq!(plan.rounds, 3);
}
