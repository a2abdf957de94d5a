//! One non-blocking connection: bytes out, bytes in; and all that can go wrong with it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::{Interest, Registry, Token, net::TcpStream};
use thiserror::Error;

use crate::response::ResponseError;

/// Why a connection is of no more use to a measurement.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    #[error("connection closed by the server")]
    Closed,
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Response(#[from] ResponseError),
    #[error("status {status}: {body}")]
    Refused { status: u16, body: String },
    #[error("{0}")]
    WrongAnswer(String),
}

/// A registered connection. Readiness is edge-triggered: after an event, receive until a receive
/// comes back short.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// What the socket's buffer had no room for.
    unsent: Vec<u8>,
}

impl Connection {
    /// Connects before returning: on the loopback device this takes as long as the server's backlog
    /// is full, and no longer.
    pub(crate) fn open(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            unsent: Vec::new(),
        })
    }

    /// Sends `request`, the rest of it later if the socket is full.
    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(request);
            return Ok(());
        }
        let sent = self.write(request)?;
        self.unsent.extend_from_slice(&request[sent..]);
        Ok(())
    }

    /// Sends what an earlier [`send`](Self::send) had to leave; to be called when the socket is writable.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        let sent = self.write(&unsent)?;
        self.unsent.extend_from_slice(&unsent[sent..]);
        Ok(())
    }

    /// Bytes written until the socket was full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Bytes that have arrived, none if there are none now.
    pub(crate) fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<&'a [u8], Fault> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(Fault::Closed),
                Ok(received) => return Ok(&buffer[..received]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(&[]),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
