//! HTTP/2, frame by frame, for what no client would send: what a header says in it must not become another line, or
//! another request, in the HTTP/1.1 that the edge speaks to the server.

use std::io::ErrorKind;
use std::sync::Mutex;

use tailwater_e2e::edge::Configuration;
use tailwater_e2e::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, field, frame,
    read_frame,
};
use tailwater_e2e::{Connection, Edge, Request, authority, edge};

/// How a request on stream 1 is answered: with a status that says done (2xx), or in any other way.
#[derive(Debug, PartialEq)]
enum Outcome {
    Done,
    Refused,
}

/// Sends a request of these fields and this body, and reads up to what becomes of it.
fn exchange(mut connection: Connection, fields: &[Field<'_>], body: &[u8]) -> Outcome {
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect();
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    let end = if body.is_empty() { END_STREAM } else { 0 };
    bytes.extend(frame(HEADERS, END_HEADERS | end, 1, &block));
    if !body.is_empty() {
        bytes.extend(frame(DATA, END_STREAM, 1, body));
    }
    if connection.write(&bytes).is_err() {
        return Outcome::Refused;
    }
    loop {
        let Frame {
            kind, flags, payload, ..
        } = match read_frame(&mut connection) {
            Ok(frame) => frame,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the edge leaves a request without an answer")
            }
            Err(_) => return Outcome::Refused,
        };
        match (kind, flags) {
            // The first field is the status, of which 200, 204 and 206 have numbers of their own (RFC 7541, A). 201 has
            // none, and is written as a text behind the number 8 of the name.
            (HEADERS, _) if matches!(payload[0], 0x88..=0x8a) || payload.starts_with(&[0x48, 0x82, 0x10]) => {
                return Outcome::Done;
            }
            (HEADERS | RST_STREAM | GOAWAY, _) => return Outcome::Refused,
            (SETTINGS, flags) if flags & ACK == 0 => {
                let _ = connection.write(&frame(SETTINGS, ACK, 0, &[]));
            }
            _ => {}
        }
    }
}

/// A field: its name and its value.
type Field<'a> = (&'a [u8], &'a [u8]);

/// The method, the path, a field beside those that belong there, and the body.
type Row<'a> = (&'a [u8], &'a [u8], Option<Field<'a>>, &'a [u8]);

#[test]
fn nothing_in_a_request_of_http_2_becomes_another_request_of_http_1() {
    let server = edge::server(&[]);
    for name in ["canary", "runs/target", "runs/witness"] {
        server.stream(name).of_type("text/plain").create().append(name);
    }
    let configuration = Configuration::development(server.address());
    let pem =
        std::fs::read_to_string(configuration.directory().join("certificate.pem")).expect("a certificate");
    let edge = Edge::of(configuration);
    let token = edge.token(&["--read", "runs/", "--write", "runs/"]);
    let caller = edge.caller(&token);
    let tls = authority::trusting(&pem, &["h2"]);
    let bearer = format!("Bearer {token}");
    let hidden: &[u8] =
        b"POST /v1/stream/canary HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nsmuggled";
    let target: &[u8] = b"/v1/stream/runs/target";
    let method_line = [
        target,
        b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        hidden,
    ]
    .concat();
    let value_line = [b"y\r\nContent-Length: 0\r\n\r\n".as_slice(), hidden].concat();
    let last_chunk = [b"0\r\n\r\n".as_slice(), hidden].concat();
    let rows: Vec<Row<'_>> = vec![
        (b"POST", target, Some((b"content-length", b"0")), hidden),
        (b"POST", target, Some((b"content-length", b"5")), hidden),
        (b"POST", target, Some((b"content-length", b"100000")), hidden),
        (b"POST", target, Some((b"content-length", b"+5")), hidden),
        (b"POST", target, Some((b"content-length", b"0, 5")), hidden),
        (b"POST", target, Some((b"content-length", b"")), hidden),
        (
            b"POST",
            target,
            Some((b"transfer-encoding", b"chunked")),
            &last_chunk,
        ),
        (b"POST", target, Some((b"transfer-encoding", b"identity")), hidden),
        (
            b"POST",
            target,
            Some((b"transfer-encoding\r\nx", b"chunked")),
            &last_chunk,
        ),
        (
            b"POST",
            target,
            Some((b"transfer-encoding: chunked\r\nx", b"y")),
            &last_chunk,
        ),
        (
            b"POST",
            target,
            Some((b"connection", b"transfer-encoding")),
            hidden,
        ),
        (b"POST", target, Some((b"connection", b"content-length")), hidden),
        (b"POST", target, Some((b"upgrade", b"h2c")), hidden),
        (b"POST", target, Some((b"host", b"x\r\n\r\n")), hidden),
        (b"POST", target, Some((b"x", &value_line)), b""),
        (
            b"POST",
            target,
            Some((b"x", b"y\nTransfer-Encoding: chunked")),
            &last_chunk,
        ),
        (
            b"POST",
            target,
            Some((b"x", b"y\rTransfer-Encoding: chunked")),
            &last_chunk,
        ),
        (b"POST", target, Some((b"x", b"y\0z")), hidden),
        (b"POST", target, Some((b"x:y", b"z")), hidden),
        (b"POST", target, Some((b"x y", b"z")), hidden),
        (b"POST", target, Some((b"", b"z")), hidden),
        (b"POST", target, Some((b"Content-Length", b"0")), hidden),
        (b"POST", target, Some((b"X-Tailwater-Subject", b"eve")), hidden),
        (b"POST", target, Some((b":path", b"/v1/stream/canary")), hidden),
        (b"POST", target, Some((b":method", b"GET")), hidden),
        (b"POST", target, Some((b":unknown", b"x")), hidden),
        (b"POST", target, Some((b":authority", b"x\r\nHost: y")), hidden),
        (b"POST /v1/stream/canary HTTP/1.1\r\nx:", target, None, hidden),
        (b"POST\r\n", target, None, hidden),
        (b"PO ST", target, None, hidden),
        (b"", target, None, hidden),
        (b"POST", &method_line, None, b""),
        (b"POST", b"/v1/stream/runs/target HTTP/1.1\r\nX: y", None, hidden),
        (b"POST", b"/v1/stream/runs/target HTTP/1.0", None, hidden),
        (b"POST", b"/v1/stream/runs/tar get", None, hidden),
        (b"POST", b"/v1/stream/runs/target\n", None, hidden),
        (b"POST", b"/v1/stream/runs/target\0", None, hidden),
        (b"POST", b"/v1/stream/runs/target#/../canary", None, hidden),
        (b"POST", b"v1/stream/canary", None, hidden),
        (b"POST", b"", None, hidden),
        (b"POST", b"*", None, hidden),
        (b"POST", b"http://x/v1/stream/canary", None, hidden),
        (b"CONNECT", b"/v1/stream/canary", None, hidden),
    ];
    let request = |method: &[u8], path: &[u8], extra: Option<Field<'_>>, body: &[u8]| {
        let mut fields: Vec<Field<'_>> = vec![
            (b":method", method),
            (b":scheme", b"https"),
            (b":path", path),
            (b":authority", b"localhost"),
        ];
        let (pseudo, other): (Vec<_>, Vec<_>) =
            extra.into_iter().partition(|(name, _)| name.starts_with(b":"));
        fields.extend(pseudo);
        fields.push((b"authorization", bearer.as_bytes()));
        fields.push((b"content-type", b"text/plain"));
        fields.extend(other);
        exchange(edge.try_connect_as(&tls).expect("a connection"), &fields, body)
    };

    // What is sound gets through, else the rows would show nothing.
    assert_eq!(
        request(b"POST", target, Some((b"x", b"y")), b"one,"),
        Outcome::Done
    );
    assert_eq!(
        request(b"POST", target, Some((b"content-length", b"4")), b"two,"),
        Outcome::Done
    );
    assert_eq!(request(b"GET", target, None, b""), Outcome::Done);
    let before = server
        .stream("runs/target")
        .of_type("text/plain")
        .read("-1")
        .text()
        .to_owned();
    assert_eq!(before, "runs/targetone,two,");
    // All at once, for the edge takes its time to hang up.
    let wrong = Mutex::new(String::new());
    std::thread::scope(|scope| {
        for (method, path, extra, body) in rows {
            let (request, caller, wrong) = (&request, &caller, &wrong);
            scope.spawn(move || {
                let named = extra.map(|(name, value)| {
                    format!(
                        "{:?}: {:?}",
                        String::from_utf8_lossy(name),
                        String::from_utf8_lossy(value)
                    )
                });
                let line = [method, path].map(String::from_utf8_lossy);
                let row = format!("{line:?} {named:?}");
                let outcome = request(method, path, extra, body);
                println!("{row}: {outcome:?}");
                let witness = caller.send("GET", "runs/witness");
                let mut wrong = wrong.lock().expect("no other thread has panicked");
                if outcome == Outcome::Done {
                    wrong.push_str(&format!("{row} was done\n"));
                }
                if witness.body != b"runs/witness" {
                    wrong.push_str(&format!("{row} changed another's answer: {witness:?}\n"));
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no thread has panicked");
    assert!(wrong.is_empty(), "{wrong}");
    let held = |name: &str| {
        server
            .stream(name)
            .of_type("text/plain")
            .read("-1")
            .text()
            .to_owned()
    };
    assert_eq!(held("canary"), "canary", "a hidden request was executed");
    assert_eq!(
        held("runs/target"),
        before,
        "something of what was refused was done"
    );
    edge.send(&Request::new("GET", "/healthz")).expect(200);
    server.stop();
}
