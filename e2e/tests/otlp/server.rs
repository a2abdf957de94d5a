//! The server's spans.

use tailwater_e2e::{Request, Server, eventually};

use crate::collector::Collector;
use crate::variables;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that a span says, to look for what it must not say.
fn all_of(collector: &Collector) -> String {
    format!("{:?}", collector.received())
}

#[test]
fn a_request_is_a_span_of_its_callers_trace_and_names_no_stream() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let server = Server::start_with(&variables(&endpoint));
    server.stream("confidential").create();
    let request = Request::new("POST", &server.path("confidential"))
        .header("Content-Type", "application/json")
        .header("traceparent", &format!("00-{TRACE}-{PARENT}-01"))
        .body("[1]");
    server.send(&request).expect(204);
    server.get(&server.path("nobody")).expect(404);

    let appended = collector.span("POST /v1/stream/{stream}");
    assert_eq!(appended.service, "tailwater");
    assert_eq!(hexadecimal(&appended.span.trace_id), TRACE);
    assert_eq!(hexadecimal(&appended.span.parent_span_id), PARENT);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/stream/{stream}"),
        ("http.response.status_code", "204"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
    ] {
        assert_eq!(appended.attribute(key).as_deref(), Some(value), "{key}");
    }
    assert!(appended.attribute("tailwater.next_offset").is_some());
    assert!(appended.span.end_time_unix_nano > appended.span.start_time_unix_nano);
    let read = collector.span("GET /v1/stream/{stream}");
    assert_eq!(
        read.attribute("http.response.status_code").as_deref(),
        Some("404")
    );
    assert_ne!(hexadecimal(&read.span.trace_id), TRACE, "it has no caller");
    server.stop();
    let all = all_of(&collector);
    for hidden in ["confidential", "nobody", "127.0.0.1"] {
        assert!(!all.contains(hidden), "{hidden} is in {all}");
    }
}

#[test]
fn names_and_addresses_are_told_if_settings_say_so() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let told = [
        ("DS_TRACES__STREAM_NAMES", "true"),
        ("DS_TRACES__CLIENT_ADDRESSES", "true"),
    ];
    let server = Server::start_with(&[&variables(&endpoint)[..], &told].concat());
    server.stream("public").create();
    let created = collector.span("PUT /v1/stream/{stream}");
    assert_eq!(created.attribute("url.path"), Some(server.path("public")));
    assert_eq!(created.attribute("client.address").as_deref(), Some("127.0.0.1"));
    server.stop();
}

#[test]
fn a_commit_on_disk_is_a_span_that_says_how_many_records_it_made_durable() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let on_disk = [("DS_STORAGE__MODE", "file-durable")];
    let server = Server::start_with(&[&variables(&endpoint)[..], &on_disk].concat());
    server.stream("x").create();
    let commit = collector.span("commit");
    assert_eq!(commit.attribute("tailwater.commit.records").as_deref(), Some("1"));
    assert_eq!(
        commit.attribute("tailwater.storage.mode").as_deref(),
        Some("file-durable")
    );
    server.stop();
}

#[test]
fn a_commit_is_linked_to_the_requests_whose_records_it_made_durable() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let on_disk = [("DS_STORAGE__MODE", "file-durable")];
    let server = Server::start_with(&[&variables(&endpoint)[..], &on_disk].concat());
    server.stream("x").create();
    let append = |flags| {
        let request = Request::new("POST", &server.path("x"))
            .header("Content-Type", "application/json")
            .header("traceparent", &format!("00-{TRACE}-{PARENT}-{flags}"))
            .body("[1]");
        server.send(&request).expect(204);
    };
    // One that its caller does not have recorded leaves a commit without a link.
    append("00");
    append("01");
    let appended = collector.span("POST /v1/stream/{stream}");
    let commit = collector.span_where("commit", |span| {
        span.links
            .iter()
            .any(|link| link.span_id == appended.span.span_id)
    });
    let [link] = &commit.span.links[..] else {
        panic!("one record has one cause: {commit:?}");
    };
    assert_eq!(hexadecimal(&link.trace_id), TRACE);
    assert_ne!(commit.span.trace_id, link.trace_id, "it is on a trace of its own");
    let created = collector.span("PUT /v1/stream/{stream}");
    collector.span_where("commit", |span| {
        span.links.iter().any(|link| link.span_id == created.span.span_id)
    });
    let received = collector.received();
    let commits = received.iter().filter(|received| received.span.name == "commit");
    let linked: Vec<_> = commits.map(|commit| commit.span.links.len()).collect();
    assert_eq!(
        linked.iter().filter(|links| **links == 0).count(),
        1,
        "of the append that is not recorded: {linked:?}"
    );
    server.stop();
}

/// They waited for the next time to send, which never came.
#[test]
fn what_is_not_sent_when_the_server_stops_is_sent_then() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let server = Server::start_with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_SERVICE_NAME", "renamed"),
    ]);
    server.stream("x").create();
    assert!(collector.received().is_empty(), "{}", all_of(&collector));
    server.stop();
    assert_eq!(collector.span("PUT /v1/stream/{stream}").service, "renamed");
}

#[test]
fn without_a_collector_nothing_waits_for_one_and_the_log_says_so_once() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", gone.local_addr().expect("it is bound"));
    drop(gone);
    let server = Server::start_with(&variables(&endpoint));
    for _ in 0..20 {
        server.get("/healthz").expect(200);
    }
    eventually("the log says that no spans are taken", || {
        server
            .stderr()
            .contains("the collector takes no spans")
            .then_some(())
    });
    for number in 0..20 {
        server.stream(&number.to_string()).create();
    }
    let said = server.stop();
    let times = said.matches("the collector takes no spans").count();
    assert_eq!(times, 1, "{said}");
}

#[test]
fn a_variable_that_means_nothing_here_is_named_and_what_would_do() {
    let (code, said) = Server::refusal(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ]);
    assert_eq!(code, Some(1), "{said}");
    let wanted = "OTEL_EXPORTER_OTLP_PROTOCOL cannot be `grpc`; allowed: http/protobuf";
    assert!(said.contains(wanted), "{said}");
}
