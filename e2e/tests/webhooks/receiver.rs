//! A receiver that is a socket: each connection is served by a thread of its own, as a test says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Channel, channel};

use rustls::{ServerConnection, StreamOwned};
use tailwater_e2e::PATIENCE;
use tailwater_e2e::authority::Issued;

/// A connection to a receiver.
pub(crate) trait Wire: Read + Write {}

impl<W: Read + Write> Wire for W {}

/// Listens until the process ends.
pub(crate) struct Receiver {
    address: SocketAddr,
    requests: Channel<String>,
}

impl Receiver {
    /// One that does this with each connection once it has read the request.
    pub(crate) fn new(serve: impl Fn(&mut dyn Wire) + Send + Sync + 'static) -> Self {
        Self::over(|stream| Box::new(stream), serve)
    }

    /// One behind TLS that shows this certificate, answers these bytes and leaves.
    pub(crate) fn with_tls(certificate: &Issued, answer: &'static str) -> Self {
        let config = certificate.server_config();
        let wrap = move |stream| -> Box<dyn Wire> {
            let tls = ServerConnection::new(Arc::clone(&config)).expect("a configuration");
            Box::new(StreamOwned::new(tls, stream))
        };
        Self::over(wrap, move |stream| {
            // The server may have heard enough, or have said nothing.
            let _gone = stream.write_all(answer.as_bytes());
        })
    }

    fn over(
        wrap: impl Fn(TcpStream) -> Box<dyn Wire> + Send + Sync + 'static,
        serve: impl Fn(&mut dyn Wire) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (sender, requests) = channel();
        let both = Arc::new((wrap, serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (sender, both) = (sender.clone(), Arc::clone(&both));
                std::thread::spawn(move || {
                    let (wrap, serve) = &*both;
                    let mut wire = wrap(stream);
                    if let Some(request) = read_request(&mut *wire) {
                        // A test that has seen enough is gone.
                        let _gone = sender.send(request);
                    }
                    serve(&mut *wire);
                });
            }
        });
        Self { address, requests }
    }

    /// One that answers these bytes and leaves.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(move |stream| {
            // The server may have heard enough.
            let _gone = stream.write_all(&answer);
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// The same for this machine's name, by TLS.
    pub(crate) fn https_url(&self) -> String {
        format!("https://localhost:{}/hooks", self.address.port())
    }

    /// The next request, waited for.
    pub(crate) fn request(&self) -> String {
        self.requests.recv_timeout(PATIENCE).expect("a webhook")
    }

    /// Whether a request has come that nobody has asked for.
    pub(crate) fn has_been_asked(&self) -> bool {
        self.requests.try_recv().is_ok()
    }
}

fn read_request(stream: &mut dyn Wire) -> Option<String> {
    let (mut request, mut piece) = (String::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        request.push_str(std::str::from_utf8(&piece[..count]).ok()?);
        let Some((head, body)) = request.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0) {
            return Some(request);
        }
    }
}

/// A header of a request.
pub(crate) fn header<'r>(request: &'r str, name: &str) -> &'r str {
    let line = request
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name}: {request}"))
}

pub(crate) fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").expect("a head and a body").1
}
