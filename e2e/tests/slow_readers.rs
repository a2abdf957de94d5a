//! Readers that stop reading cost the server a bounded amount of memory and cost other readers nothing.
//! Verdicts are by bytes and events; nothing here depends on time.

use tailwater_e2e::{Connection, Request, Server};

const READERS: usize = 50;

/// One answer's share of a stream, as configured.
const READ_CHUNK: u64 = 64 * 1024;
/// What a stuck reader may pin: a chunk as stored, as encoded and as framed, and the buffers of its connection.
const PER_READER: u64 = 3 * READ_CHUNK + 512 * 1024;
/// What a stuck reader would pin at least if the server buffered all that it has to send.
const STORED: u64 = 16 * 1024 * 1024;
/// The server's own copy of the data, with room for buffers that double when they grow.
const STORE: u64 = 2 * STORED;
/// Allocators keep what they once had, and requests of the writer are received somewhere.
const SLACK: u64 = 16 * 1024 * 1024;

const APPEND: usize = 128 * 1024;
const SETTINGS: &[(&str, &str)] = &[
    ("DS_LIMITS__READ_CHUNK_BYTES", "65536"),
    ("DS_LIMITS__MAX_STREAM_BYTES", "32MiB"),
    ("DS_LIMITS__MAX_MEMORY_BYTES", "64MiB"),
];

/// The kernel's buffers swallow what is sent to a reader that does not read; small ones fill soon.
const RECEIVE_BUFFER: usize = 4 * 1024;

#[test]
fn event_readers_that_stop_reading_neither_fill_memory_nor_starve_a_healthy_one() {
    let server = Server::start_with(SETTINGS);
    let stream = server.stream("slow/events").of_type("text/plain").create();
    let stuck: Vec<Connection> = (0..READERS)
        .map(|_| stuck_after(&server, &[stream.reading("-1", "&live=sse")]))
        .collect();
    let mut healthy = stream.follow("-1");
    let before = server.resident_bytes();

    let total = usize::try_from(STORED).expect("fits");
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..total / APPEND {
                stream.append(lettered(number));
            }
            stream.close();
        });
        let mut received = String::with_capacity(total);
        loop {
            let event = healthy
                .next_event()
                .expect("the healthy reader is served to the close");
            if event.kind == "data" {
                received.push_str(&event.data);
            } else if event.says_closed() {
                return received;
            }
        }
    });
    let expected: String = (0..total / APPEND).map(lettered).collect();
    assert!(
        received == expected,
        "the healthy reader got {} bytes of {total}",
        received.len()
    );
    assert_bounded(&server, before);
    drop(stuck);
    server.assert_well("the stuck readers left");
    server.stop();
}

#[test]
fn catch_up_readers_that_stop_reading_neither_fill_memory_nor_starve_a_healthy_one() {
    let server = Server::start_with(SETTINGS);
    let stream = server.stream("slow/catch-up").of_type("text/plain").create();
    let total = usize::try_from(STORED).expect("fits");
    for number in 0..total / APPEND {
        stream.append(lettered(number));
    }
    let before = server.resident_bytes();
    // Each asks for more answers than the kernel's buffers take, all at once, and reads only the first head.
    let requests: Vec<Request> = (0..200).map(|_| stream.reading("-1", "")).collect();
    let stuck: Vec<Connection> = (0..READERS).map(|_| stuck_after(&server, &requests)).collect();

    let (mut received, mut offset) = (String::with_capacity(total), "-1".to_owned());
    while received.len() < total {
        let answer = stream.read(&offset).expect(200);
        assert!(!answer.body.is_empty(), "an empty answer before the end");
        received.push_str(answer.text());
        answer.expect_header("stream-next-offset").clone_into(&mut offset);
    }
    let expected: String = (0..total / APPEND).map(lettered).collect();
    assert!(
        received == expected,
        "the healthy reader got {} bytes of {total}",
        received.len()
    );
    assert_bounded(&server, before);
    drop(stuck);
    server.assert_well("the stuck readers left");
    server.stop();
}

/// A connection that asks, sees the head of the first answer and then stops reading.
fn stuck_after(server: &Server, requests: &[Request]) -> Connection {
    let mut connection = Connection::open_narrow(server.address(), RECEIVE_BUFFER).expect("a connection");
    let bytes: Vec<u8> = requests.iter().flat_map(Request::encode).collect();
    connection
        .write(&bytes)
        .expect("the requests fit the server's buffers");
    let head = connection.read_head().expect("an answer").expect("an answer");
    assert_eq!(head.status, 200, "{head:?}");
    connection
}

fn assert_bounded(server: &Server, before: u64) {
    let readers = u64::try_from(READERS).expect("fits");
    let bound = before + STORE + readers * PER_READER + SLACK;
    // The bound means something only if a server that buffers for each reader would pass it.
    assert!(bound < readers * STORED / 4);
    let held = server.resident_bytes();
    assert!(
        held <= bound,
        "the server holds {held} bytes, {before} before, at most {bound} allowed"
    );
}

/// A body that names its place in the stream.
fn lettered(number: usize) -> String {
    let mark = format!("[{number:06}]");
    mark.repeat(APPEND / mark.len())
}
