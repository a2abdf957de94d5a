//! The mirror's spans.

use tailwater_e2e::Server;
use tailwater_e2e::mirror::Mirror;
use tailwater_e2e::postgres::Postgres;

use crate::collector::Collector;
use crate::variables;

#[test]
fn reads_and_transactions_are_spans_that_name_no_stream() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let (server, postgres) = (Server::start_with(&variables(&endpoint)), Postgres::start());
    server.stream("confidential").create().append("[1,2,3]");
    let url = format!("{}{}", server.origin(), server.base_path());
    let database = postgres.url("postgres");
    let own = [
        ("DS_SYNC__SOURCE_URL", url.as_str()),
        ("DS_SYNC__POSTGRES_URL", database.as_str()),
    ];
    let mirror = Mirror::start(&[&own[..], &variables(&endpoint)].concat());
    let read = collector.span("read");
    assert_eq!(read.service, "tailwater-sync");
    assert_eq!(read.attribute("tailwater.events").as_deref(), Some("3"));
    // The server is the same build, and has the same collector.
    let served = collector.span_where("GET /v1/stream/{stream}", |span| {
        span.parent_span_id == read.span.span_id
    });
    assert_eq!(served.service, "tailwater");
    assert_eq!(served.span.trace_id, read.span.trace_id);
    let commit = collector.span("commit");
    assert_eq!(commit.attribute("tailwater.rows").as_deref(), Some("3"));
    assert_eq!(commit.attribute("tailwater.chunks").as_deref(), Some("1"));
    mirror.stop();
    let all = format!("{:?}", collector.received());
    assert!(!all.contains("confidential"), "{all}");
}
