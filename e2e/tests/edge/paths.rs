//! Tricks with paths: what the edge decides upon is what the server sees, so no path leads out of what a token is for.

use tailwater_e2e::edge::Caller;
use tailwater_e2e::{Edge, Request, edge};

const BASE: &str = "/v1/stream/";

fn caller(edge: &Edge) -> Caller<'_> {
    edge.caller(&edge.token(&["--read", "runs/", "--write", "runs/"]))
}

#[test]
fn paths_with_two_readings_are_refused_and_never_show_another_stream() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    let caller = caller(&edge);
    for name in [
        "secret/plan",
        "runs/1",
        "runs/..;/x",
        "runs/a;b=c/1",
        "runs/%2e%2e",
        "runs/ü",
        "runs/ ",
    ] {
        let path = format!(
            "{BASE}{}",
            name.replace('%', "%25")
                .replace('ü', "%C3%BC")
                .replace(' ', "%20")
        );
        let creation = Request::new("PUT", &path).header("Content-Type", "text/plain");
        server.send(&creation.body(name)).expect(201);
    }
    let tricks = [
        "runs/../secret/plan",
        "runs/%2e%2e/secret/plan",
        "runs/%2E%2E/secret/plan",
        "runs/.%2e/secret/plan",
        "runs/%2e./secret/plan",
        "runs/..%2fsecret/plan",
        "runs/..%2Fsecret%2Fplan",
        "runs%2f..%2fsecret/plan",
        "runs%2f1",
        "runs%2F1",
        "runs%5c1",
        "runs/..%5csecret/plan",
        "runs\\..\\secret/plan",
        "runs/..\\secret/plan",
        "runs/%252e%252e/secret/plan",
        "runs/..%252fsecret/plan",
        "runs/%c0%ae%c0%ae/secret/plan",
        "runs/%c0%afsecret/plan",
        "runs/%uff0e%uff0e/secret/plan",
        "runs/..;/secret/plan",
        "runs/..;/..;/secret/plan",
        "runs;/../secret/plan",
        "secret/plan;/runs/1",
        "secret/plan#/runs/",
        "secret/plan%23/runs/",
        "secret/plan%3fruns/",
        "secret/plan?/runs/",
        "secret/plan?x=runs/",
        "//secret/plan",
        "runs//../secret/plan",
        "runs//1",
        "runs/./1",
        "runs/%2e/1",
        "runs/1/",
        "./runs/1",
        "/runs/1",
        "RUNS/1",
        "Runs/1",
        "%52uns/1",
        "SECRET/PLAN",
        "runs/1%00",
        "runs/1%00/../secret/plan",
        "secret/plan%00runs/",
        "runs/1%0a",
        "runs/1%0d%0aX-Tailwater-Subject:%20admin",
        "runs/%",
        "runs/%2",
        "runs/%zz",
        "%2e%2e/%2e%2e/metrics",
        "runs/../../../metrics",
        "runs/..%2f..%2f..%2fmetrics",
        "__ds/../secret/plan",
        "runs/../__ds/streams",
        "%5f_ds/streams",
        "__ds%2fstreams",
        "__DS/streams",
        "runs/\u{a0}/secret/plan",
        "runs/<1>",
        "runs/\"1\"",
        "runs/{1}",
        "runs/|1",
        "runs/^1",
    ];
    let mut wrong = String::new();
    for trick in tricks {
        let answer = caller.send("GET", trick);
        let known = matches!(answer.status(), 400 | 403 | 404);
        if !known || answer.text().contains("secret/plan") {
            wrong.push_str(&format!("{trick}: {answer:?}\n"));
        }
    }
    // As a whole, and not below the root.
    for path in [
        "/v1/stream/../../metrics",
        "/v1/stream/%2e%2e/%2e%2e/metrics",
        "/metrics",
        "/metrics/",
        "//metrics",
        "/%6detrics",
        "/metrics?x=/v1/stream/runs/1",
        "/metrics;/v1/stream/runs/1",
        "/readyz",
        "/health",
        "/ok",
        "/healthz/../metrics",
        "/healthz/../v1/stream/secret/plan",
        "/healthz;/../metrics",
        "/healthz/",
        "/HEALTHZ",
        "/V1/stream/runs/1",
        "/v1/Stream/runs/1",
        "/v1/stream",
        "/v1//stream/runs/1",
        "//v1/stream/runs/1",
        "/v1/strea%6d/runs/1",
        "/",
        "*",
        "http://localhost/metrics",
        "http://localhost/v1/stream/secret/plan",
        "https://localhost/v1/stream/runs/../secret/plan",
    ] {
        let answer = edge.send(&caller.request_to("GET", path));
        let known = matches!(answer.status(), 400 | 403 | 404);
        if !known || answer.text().contains("secret/plan") || answer.text().contains("tailwater_") {
            wrong.push_str(&format!("{path}: {answer:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "paths that are answered wrongly:\n{wrong}");

    // What has one reading is served as it stands.
    for (path, name) in [
        ("runs/1", "runs/1"),
        ("%72uns/1", "runs/1"),
        ("runs/%31", "runs/1"),
        ("runs/1?offset=-1", "runs/1"),
        ("runs/1?", "runs/1"),
        ("runs/1?x=../secret", "runs/1"),
        ("runs/..;/x", "runs/..;/x"),
        ("runs/a;b=c/1", "runs/a;b=c/1"),
        ("runs/%252e%252e", "runs/%2e%2e"),
        ("runs/%C3%BC", "runs/ü"),
        ("runs/%c3%bc", "runs/ü"),
        ("runs/%20", "runs/ "),
    ] {
        assert_eq!(caller.send("GET", path).expect(200).text(), name, "{path}");
    }
    let absolute = caller.request_to("GET", "https://localhost/v1/stream/runs/1");
    assert_eq!(edge.send(&absolute).expect(200).text(), "runs/1");
    server.stop();
}

/// Pieces that paths are made of, those that parsers disagree on among them.
const PIECES: &[&str] = &[
    "runs", "runs", "run", "secret", "Runs", "/", "/", "/", "//", ".", "..", "/../", "/./", ";", "-", "1",
    "%2e", "%2E%2e", "%2f", "%2F", "%5c", "\\", "%72", "%252f", "%25", "%00", "%0a", "%c0%ae", "%ff", "%3f",
    "%23", "?", "#", "__ds", "%5f", "*", "@", ":", "+", "~", "é", "%C3%A9",
];

/// Makes streams and forks at paths that chance puts together. Whatever the edge let pass, the server has made, and
/// everything that it has made has to be below what the token is for.
#[test]
fn whatever_the_path_only_streams_below_the_prefix_come_into_being() {
    const PATHS: usize = 3_000;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    for name in ["secret", "runs", "runs-secret", "shared/1"] {
        server.stream(name).create();
    }
    let caller = edge.caller(&edge.token(&["--write", "runs/", "--read", "shared/"]));
    let mut connection = edge.connect();
    let mut made = 0;
    for _ in 0..PATHS {
        let path: String = (0..chance.usize(1..8))
            .map(|_| *chance.choice(PIECES).expect("there are pieces"))
            .collect();
        let path = if chance.bool() {
            format!("runs/{path}")
        } else {
            path
        };
        let mut request = caller.request("PUT", &path);
        let forks = chance.u8(..4) == 0;
        if forks {
            let source: String = (0..chance.usize(1..6))
                .map(|_| *chance.choice(PIECES).expect("there are pieces"))
                .collect();
            let source = if chance.bool() {
                format!("shared/{source}")
            } else {
                source
            };
            request = request.header("Stream-Forked-From", &format!("{BASE}{source}"));
        }
        let sent = connection.write(&request.encode());
        match sent.and_then(|()| connection.read_response("PUT")) {
            Ok(Some(answer)) => {
                assert!(answer.status() < 500, "{path:?}: {answer:?}");
                made += usize::from(answer.status() == 201);
                if answer.header("connection") == Some("close") {
                    connection = edge.connect();
                }
            }
            _ => connection = edge.connect(),
        }
    }
    assert!(
        made > PATHS / 100,
        "only {made} of {PATHS} paths were let pass, which shows little"
    );
    let listed = server
        .get("/v1/stream/__ds/streams?limit=100000")
        .expect(200)
        .json();
    let streams = listed["streams"].as_array().expect("a list");
    let mut seen = 0;
    for stream in streams {
        let name = stream["name"].as_str().expect("a name");
        assert!(
            stream["forked_from"].is_null()
                || stream["forked_from"]
                    .as_str()
                    .is_some_and(|from| from.starts_with("shared/")),
            "forked from elsewhere (seed {seed}): {stream}"
        );
        if ["secret", "runs", "runs-secret", "shared/1"].contains(&name) {
            continue;
        }
        assert!(
            name.starts_with("runs/"),
            "{name:?} came into being (seed {seed})"
        );
        seen += 1;
    }
    assert_eq!(seen, made, "every stream that was made is listed");
    server.stop();
}
