//! Blocking requests, one at a time: prepares streams and finds out whether a server is up. Nothing
//! that is measured goes through here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::request::Target;
use crate::response::{Piece, ResponseParser};

/// A server that does not answer for this long is broken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    parser: ResponseParser,
    buffer: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            stream,
            parser: ResponseParser::new(),
            buffer: vec![0; 64 * 1024],
        })
    }

    pub(crate) fn create(&mut self, target: &Target, stream: &str, content_type: &str) -> Result<()> {
        self.expect_success(&target.create(stream, content_type))
            .with_context(|| format!("cannot create stream {stream}"))
    }

    /// Appends to a stream created with the same content type.
    pub(crate) fn append(
        &mut self,
        target: &Target,
        stream: &str,
        content_type: &str,
        record: &[u8],
    ) -> Result<()> {
        self.expect_success(&target.append(stream, content_type, record))
            .with_context(|| format!("cannot append to stream {stream}"))
    }

    fn expect_success(&mut self, request: &[u8]) -> Result<()> {
        let answer = self.send(request)?;
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(
            (200..300).contains(&answer.status),
            "status {}: {body}",
            answer.status
        );
        Ok(())
    }

    /// Sends a request and waits for its whole answer.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request)?;
        let mut body = Vec::new();
        loop {
            let received = self.stream.read(&mut self.buffer)?;
            if received == 0 {
                bail!("the server closed the connection");
            }
            let mut input = &self.buffer[..received];
            while let Some(piece) = self.parser.next(&mut input)? {
                match piece {
                    Piece::Head => {}
                    Piece::Body(bytes) => body.extend_from_slice(bytes),
                    Piece::End => {
                        return Ok(Answer {
                            status: self.parser.head().status,
                            body,
                        });
                    }
                }
            }
        }
    }
}
