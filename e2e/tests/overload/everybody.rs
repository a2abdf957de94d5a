//! What all clients together may have.

use tailwater_e2e::{Server, eventually};

use crate::support::{assert_refused, connect_from, metric, refusals};

const TEXT: &str = "text/plain";

/// Requests that are waited for count, from whomever they come, until they are answered or their connection is cut.
#[test]
fn no_more_requests_are_answered_at_once_than_the_server_takes() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_REQUESTS", "2")]);
    let stream = server.stream("slow").of_type(TEXT).create();
    let head = stream
        .request("POST")
        .header("Content-Type", TEXT)
        .header("Content-Length", "10");
    let begin = |last| {
        let mut connection = connect_from(&server, last);
        connection.write(&head.encode()).expect("the server reads");
        connection.write(b"slow").expect("the server reads");
        connection
    };
    let mut slow = [begin(2), begin(3)];
    eventually("both are being answered", || {
        (metric(&server, "tailwater_requests") == 2).then_some(())
    });
    for request in [
        stream.reading("-1", ""),
        stream.appending("x"),
        stream.request("DELETE"),
    ] {
        assert_refused(connect_from(&server, 4).send(&request), 503, "too_many_requests");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        server.get(path).expect(200);
    }
    assert_eq!(refusals(&server, "too_many_requests"), 3);
    slow[0].write(b" body.").expect("the server reads");
    let answer = slow[0]
        .read_response("POST")
        .expect("an answer")
        .expect("an answer");
    answer.expect(204);
    assert_eq!(stream.read("-1").expect(200).text(), "slow body.");
    // The other one goes away in the midst of its body.
    drop(slow);
    eventually("no request is left", || {
        (metric(&server, "tailwater_requests") == 0).then_some(())
    });
    server.stop();
}
