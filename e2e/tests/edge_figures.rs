//! What tails cost at the edge: figures, and no verdict. `make bench-edge` prints them.

use std::time::Instant;

use tailwater_e2e::edge::{self, Configuration};
use tailwater_e2e::process::Process;
use tailwater_e2e::{Edge, Event, Events};

const OPTIONS: &[&str] = &["--read", "runs/", "--write", "runs/"];
/// Tails that are open when the memory is looked at first, so that what Envoy takes once does not count.
const TAILS_BEFORE: usize = 100;
const TAILS: usize = 2_000;
/// Appends of which each waits for the event of the one before.
const EVENTS: usize = 1_000;

#[test]
#[ignore = "measures; make bench-edge runs it"]
fn what_a_tail_costs_at_the_edge() {
    let server = edge::server(&[("DS_STORAGE__MODE", "memory")]);
    let configuration = Configuration::development(server.address())
        .set("requests_at_once", "1000000")
        .set("requests_each_second", "1000000");
    let edge = Edge::of(configuration);
    let caller = edge.caller(&edge.token(OPTIONS));
    caller.create("runs/1");
    let memory = || Process::new(edge.envoy().pid()).status_bytes("RssAnon");

    let mut tails = Vec::with_capacity(TAILS);
    let mut before = 0;
    for number in 0..TAILS {
        if number == TAILS_BEFORE {
            before = memory();
        }
        let mut events = caller.follow("runs/1", "now");
        // It is open all the way once the server has said where it stands.
        events.next_event().expect("an event");
        tails.push(events);
    }
    let each = (memory() - before) / (TAILS - TAILS_BEFORE) as u64;
    println!(
        "| memory of Envoy for each tail by TLS, KiB, {TAILS} of them | {:.0} |",
        each as f64 / 1024.0
    );
    drop(tails);

    caller.create("runs/2");
    let mut events = caller.follow("runs/2", "-1");
    let mut delays: Vec<_> = (0..EVENTS)
        .map(|number| {
            let began = Instant::now();
            caller.append("runs/2", &number.to_string());
            assert_eq!(next_data(&mut events).messages(), [number]);
            began.elapsed()
        })
        .collect();
    delays.sort();
    println!(
        "| from an append to its event, median and p99 of {EVENTS} | {:.2?}, {:.2?} |",
        delays[EVENTS / 2],
        delays[EVENTS * 99 / 100],
    );
    server.stop();
}

fn next_data(events: &mut Events) -> Event {
    loop {
        let event = events.next_event().expect("the event stream goes on");
        if event.kind == "data" {
            return event;
        }
    }
}
