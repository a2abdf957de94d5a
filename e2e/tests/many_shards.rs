//! As many shards as there can be: each has a writer of its own, and nobody has to wait for all of them.

use std::path::Path;

use tailwater_e2e::{Request, Server};

const SHARDS: &str = "256";
const WRITERS: usize = 8;
/// So many streams stand in nearly all shards.
const STREAMS_PER_WRITER: usize = 128;

fn start(dir: &Path) -> Server {
    Server::start_with(&[
        ("DS_STORAGE__MODE", "acid"),
        ("DS_STORAGE__ACID_SHARD_COUNT", SHARDS),
        ("DS_STORAGE__DATA_DIR", dir.to_str().expect("a plain path")),
    ])
}

/// Writes two messages to each stream of a writer, over one connection.
fn write(server: &Server, writer: usize) {
    let mut connection = server.connect();
    for number in 0..STREAMS_PER_WRITER {
        let path = server.path(&format!("s/{writer}/{number}"));
        for (method, body, status) in [
            ("PUT", "", 201),
            ("POST", "first;", 204),
            ("POST", "second;", 204),
        ] {
            let request = Request::new(method, &path).header("Content-Type", "text/plain");
            connection.send(&request.body(body)).expect(status);
        }
    }
}

#[test]
fn readers_are_served_while_256_shards_are_written_and_all_is_there_after_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path());
    let live = server.stream("live").create();
    let mut follower = live.follow("-1");
    std::thread::scope(|scope| {
        let server = &server;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || write(server, writer)))
            .collect();
        let mut delivered = 0;
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) || delivered == 0 {
            server.get("/healthz").expect(200);
            live.append("1");
            while follower.next_event().expect("an event").kind != "data" {}
            delivered += 1;
        }
        println!("{delivered} events were delivered meanwhile");
    });
    server.kill();
    let server = start(dir.path());
    for stream in
        (0..WRITERS).flat_map(|writer| (0..STREAMS_PER_WRITER).map(move |n| format!("s/{writer}/{n}")))
    {
        assert_eq!(
            server.stream(&stream).read("-1").expect(200).text(),
            "first;second;"
        );
    }
}
