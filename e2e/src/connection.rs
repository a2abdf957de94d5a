//! One HTTP/1.1 connection over a blocking socket, in clear or in TLS, for tests that need exact bytes. It never
//! follows, retries or repairs anything.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::chunked::ChunkDecoder;
use crate::events::Events;
use crate::message::{Head, Request, Response};
use crate::patience::PATIENCE;

/// A connection to the server under test.
#[derive(Debug)]
pub struct Connection {
    socket: BufReader<Socket>,
}

/// What a connection goes over.
#[derive(Debug)]
enum Socket {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Clear(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

impl Connection {
    /// Connects; panics when nobody listens.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// Connects, or says why not.
    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE)?, Socket::Clear)
    }

    /// Connects from that address of this machine, as `127.0.0.2`, so that the server sees another peer.
    #[track_caller]
    pub fn open_from(source: IpAddr, address: SocketAddr) -> Self {
        let connect = || {
            let socket =
                socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            socket.connect_timeout(&address.into(), PATIENCE)?;
            Self::over(socket.into(), Socket::Clear)
        };
        connect().unwrap_or_else(|error| panic!("cannot connect from {source} to {address}: {error}"))
    }

    /// Connects by TLS to a server that is called `localhost` there, and completes the handshake, or says why not. A
    /// server that refuses the client's certificate may say so only with its first answer.
    pub fn try_open_tls(address: SocketAddr, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        let mut tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Self::over(tcp, |tcp| Socket::Tls(Box::new(StreamOwned::new(session, tcp))))
    }

    /// The client's side of TLS, if that is what the connection goes over.
    pub fn tls(&self) -> Option<&ClientConnection> {
        match self.socket.get_ref() {
            Socket::Clear(_) => None,
            Socket::Tls(tls) => Some(&tls.conn),
        }
    }

    /// Connects with a receive buffer of about that many bytes, so that a reader that stops reading is
    /// soon felt by the server.
    pub fn open_narrow(address: SocketAddr, receive_bytes: usize) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_recv_buffer_size(receive_bytes)?;
        socket.connect(&address.into())?;
        Self::over(socket.into(), Socket::Clear)
    }

    fn over(socket: TcpStream, kind: impl FnOnce(TcpStream) -> Socket) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket: BufReader::new(kind(socket)),
        })
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let socket = self.socket.get_mut();
        socket.write_all(bytes)?;
        socket.flush()
    }

    /// Waits no longer than this for what may never come. What must come is waited for with [`PATIENCE`].
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.socket.get_ref().tcp().set_read_timeout(Some(patience))
    }

    /// Ends the sending direction; the answer can still be read.
    pub fn finish_writing(&mut self) -> io::Result<()> {
        self.socket.get_ref().tcp().shutdown(Shutdown::Write)
    }

    /// Sends a request and reads its answer; panics when there is none.
    #[track_caller]
    pub fn send(&mut self, request: &Request) -> Response {
        self.write(&request.encode())
            .unwrap_or_else(|error| panic!("cannot send {request:?}: {error}"));
        self.read_response(request.method())
            .unwrap_or_else(|error| panic!("no answer to {request:?}: {error}"))
            .unwrap_or_else(|| panic!("the connection was closed instead of an answer to {request:?}"))
    }

    /// Sends a request whose answer is an event stream, and reads up to its body.
    #[track_caller]
    pub fn follow(self, request: &Request) -> Events {
        self.try_follow(request)
            .unwrap_or_else(|error| panic!("no event stream for {request:?}: {error}"))
    }

    /// Sends a request whose answer is an event stream, and reads up to its body; any other answer is an error.
    pub fn try_follow(mut self, request: &Request) -> io::Result<Events> {
        self.write(&request.encode())?;
        let head = self
            .read_head()?
            .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        if head.status != 200 || head.header("content-type") != Some("text/event-stream") {
            return Err(bad(&format!("not an event stream: {head:?}")));
        }
        Ok(Events::new(head, self))
    }

    /// Reads a status line and headers; nothing when the peer closed the connection before the first byte.
    pub fn read_head(&mut self) -> io::Result<Option<Head>> {
        let Some(status_line) = self.read_line()? else {
            return Ok(None);
        };
        let status = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| bad(&format!("not a status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self
                .read_line()?
                .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
            if line.is_empty() {
                return Ok(Some(Head { status, headers }));
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| bad(&format!("not a header line: {line:?}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Reads the answer to a request of that method; nothing when the peer closed the connection before
    /// the first byte. Interim answers (1xx) are answers: the final one is read by another call.
    pub fn read_response(&mut self, method: &str) -> io::Result<Option<Response>> {
        let Some(head) = self.read_head()? else {
            return Ok(None);
        };
        let mut body = Vec::new();
        if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
            return Ok(Some(Response { head, body }));
        }
        if head
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            self.read_chunked(&mut body)?;
        } else if let Some(length) = head.header("content-length") {
            let length = length
                .parse()
                .map_err(|error| bad(&format!("content-length: {error}")))?;
            body.resize(length, 0);
            self.socket.read_exact(&mut body)?;
        } else {
            self.socket.read_to_end(&mut body)?;
        }
        Ok(Some(Response { head, body }))
    }

    /// Whether the peer has ended the connection: waits, with patience, for its end and fails on any byte.
    pub fn read_end(&mut self) -> io::Result<()> {
        match self.socket.fill_buf() {
            Ok([]) => Ok(()),
            Ok(bytes) => Err(bad(&format!(
                "bytes instead of an end: {:?}",
                String::from_utf8_lossy(bytes)
            ))),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read_chunked(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        let mut decoder = ChunkDecoder::default();
        while !decoder.finished() {
            let available = self.socket.fill_buf()?;
            if available.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let count = available.len();
            decoder.push(available, body)?;
            // What follows the last chunk stays in the buffer: it belongs to the next response.
            let excess = if decoder.finished() {
                decoder.rest().len()
            } else {
                0
            };
            self.socket.consume(count - excess);
        }
        Ok(())
    }

    fn read_line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.socket.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.pop() != Some(b'\n') {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8(line).map_err(|error| bad(&error.to_string()))?;
        Ok(Some(text.trim_end_matches('\r').to_owned()))
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
