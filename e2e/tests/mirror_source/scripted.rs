//! A server that answers whatever a test makes it answer, byte for byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Listens on a port of its own and gives each connection one answer, by the head of its request; then it ends the
/// connection. Returns the stream root. Its threads end with the process of the test.
pub(crate) fn serve(answer: impl Fn(&str, &mut TcpStream) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                if let Some(head) = read_head(&mut socket) {
                    answer(&head, &mut socket);
                }
            });
        }
    });
    format!("http://{address}/v1/stream")
}

/// The same with an answer that is known as a whole.
pub(crate) fn serve_text(answer: impl Fn(&str) -> String + Clone + Send + 'static) -> String {
    serve(move |head, socket| {
        // Who does not wait for the whole of it is not missed.
        let _ = socket.write_all(answer(head).as_bytes());
    })
}

fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    String::from_utf8(head).ok()
}

/// An answer with its length.
pub(crate) fn answer(status: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}
