//! Compares durable-stream servers: the same load on each in turn, on the same machine, in the same
//! minutes. Knows servers only from outside, as processes that speak HTTP.
//!
//! | module | |
//! |---|---|
//! | `arguments` | the command line |
//! | `comparison` | rounds of every server in turn, each alone on its core |
//! | `in_turn` | two kinds of appends in many short turns |
//! | `scenario` | the kinds of load, and what they all report |
//! | `append` `small_read` `catch_up` `fan_out` `idle` `streams` `overload` `subscriptions` | one kind of load each |
//! | `job_cycles` `claim_wait` | job queues: whole cycles, and how soon a job is claimed |
//! | `queue_comparison` `postgres_queue` | the same cycles in PostgreSQL |
//! | `closed_loop` | connections with one request outstanding each, and their latencies |
//! | `subscribers` | open SSE connections |
//! | `channels` | many connections, polled by one thread |
//! | `connection` `response` `request` | one socket; what comes off it; what goes onto it |
//! | `client` | blocking requests, for preparing streams |
//! | `errands` | requests that are each made once, for preparing many |
//! | `servers` | the table of servers that can be compared |
//! | `contender` | one of them with a durability and settings of its own |
//! | `process` | a server started for one measurement, and its end |
//! | `usage` `cores` | what `/proc` says of a process; which core runs what |
//! | `failures` | what went wrong during a measurement, counted |
//! | `statistics` `report` | medians and ratios; the table |

mod append;
mod arguments;
mod catch_up;
mod channels;
mod claim_wait;
mod client;
mod closed_loop;
mod comparison;
mod connection;
mod contender;
mod cores;
mod errands;
mod failures;
mod fan_out;
mod idle;
mod in_turn;
mod job_cycles;
mod overload;
mod postgres_queue;
mod process;
mod queue_comparison;
mod report;
mod request;
mod response;
mod scenario;
mod servers;
mod small_read;
mod statistics;
mod streams;
mod subscribers;
mod subscriptions;
mod usage;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("loadgen: built without optimization, so its figures mean nothing; use --release");
    }
    cores::raise_open_files_limit()?;
    let setup = &arguments.setup;
    match &arguments.command {
        Command::Peers(peers) => comparison::run(&peers.plan(setup), setup),
        Command::Versus(versus) => comparison::run(&versus.plan(setup), setup),
        Command::Shards(shards) => comparison::run(&shards.plan(setup), setup),
        Command::InTurn(in_turn) => in_turn::run(in_turn, setup),
        Command::Queues(queues) => queue_comparison::run(queues, setup),
        Command::One(scenario) => comparison::run_one(scenario, setup),
    }
}
