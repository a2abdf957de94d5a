//! Stands where the server stands, keeps every request as it came and answers each with `204`, or hangs up. It shows what
//! a proxy in front of it really sends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::message::Head;
use crate::patience::eventually;

/// A request as it came: its first line, and its headers.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Such as `GET /v1/stream/runs/42 HTTP/1.1`.
    pub line: String,
    /// Its headers, whose `status` means nothing.
    pub head: Head,
}

impl Recorded {
    /// All values of a header, whatever its case.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let headers = self.head.headers.iter();
        let of_name = headers.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str()).collect()
    }
}

/// A server that only listens. Its threads end with the process of the test.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

impl Recorder {
    /// Listens on a port of its own.
    pub fn start() -> Self {
        Self::start_with(b"HTTP/1.1 204 No Content\r\n\r\n")
    }

    /// One that hangs up when a request has come, as a server does that dies of it.
    pub fn start_hanging_up() -> Self {
        Self::start_with(b"")
    }

    fn start_with(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || record(socket, answer, &kept));
            }
        });
        Self { address, requests }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in the order in which their headers ended.
    pub fn requests(&self) -> Vec<Recorded> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The newest request, once there are that many.
    #[track_caller]
    pub fn newest_of(&self, count: usize) -> Recorded {
        eventually("the request arrives", || {
            let requests = self.requests();
            (requests.len() >= count)
                .then(|| requests.last().cloned())
                .flatten()
        })
    }
}

/// Takes the requests of one connection, whose bodies have a Content-Length or none, until it ends.
fn record(socket: TcpStream, answer: &[u8], kept: &Mutex<Vec<Recorded>>) -> Option<()> {
    let mut stream = BufReader::new(socket);
    loop {
        let line = read_line(&mut stream)?;
        let mut headers = Vec::new();
        loop {
            let field = read_line(&mut stream)?;
            if field.is_empty() {
                break;
            }
            let (name, value) = field.split_once(':')?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let head = Head { status: 0, headers };
        let length = head
            .header("content-length")
            .and_then(|length| length.parse().ok());
        std::io::copy(&mut (&mut stream).take(length.unwrap_or(0)), &mut std::io::sink()).ok()?;
        kept.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Recorded { line, head });
        if answer.is_empty() {
            return None;
        }
        stream.get_mut().write_all(answer).ok()?;
    }
}

fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let count = stream.read_line(&mut line).ok()?;
    (count > 0).then(|| line.trim_end().to_owned())
}
