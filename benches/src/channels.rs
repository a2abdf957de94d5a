//! Many connections polled by one thread, each with its responses taken apart. What the pieces mean,
//! a [`Handler`] knows; that a refusal or a lost connection is a failure, is known here.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::connection::{Connection, Fault};
use crate::failures::Failures;
use crate::response::{Head, Piece, ResponseParser};

/// Large enough that a catch-up read is not limited by system calls, small enough to stay in cache.
const RECEIVE_BYTES: usize = 256 * 1024;

/// So much of a refusal's body is kept for the report.
const REFUSAL_BYTES_MAX: usize = 200;

/// Takes the pieces of 2xx answers, and of others that it asks for.
pub(crate) trait Handler {
    /// Whether answers of a status that is not 2xx are taken too. They are faults otherwise.
    fn takes(&self, _status: u16) -> bool {
        false
    }

    /// `head` is the one that the piece belongs to. A fault ends the channel and is counted.
    fn take(
        &mut self,
        index: usize,
        piece: &Piece<'_>,
        head: &Head,
        connection: &mut Connection,
    ) -> Result<(), Fault>;
}

/// Connections by index, in the order in which they were opened.
pub(crate) struct Channels {
    poll: Poll,
    events: Events,
    /// `None` once a channel has failed.
    channels: Vec<Option<Channel>>,
    failures: Failures,
    buffer: Vec<u8>,
}

struct Channel {
    connection: Connection,
    parser: ResponseParser,
    /// The beginning of the body of an answer that is not 2xx.
    refusal: Vec<u8>,
}

impl Channels {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            channels: Vec::new(),
            failures: Failures::default(),
            buffer: vec![0; RECEIVE_BYTES],
        })
    }

    /// Opens a connection and returns its index.
    pub(crate) fn open(&mut self, address: SocketAddr) -> Result<usize> {
        let index = self.channels.len();
        let connection =
            Connection::open(address, self.poll.registry(), Token(index)).context("cannot connect")?;
        let channel = Channel {
            connection,
            parser: ResponseParser::new(),
            refusal: Vec::new(),
        };
        self.channels.push(Some(channel));
        Ok(index)
    }

    /// Sends a request on a channel; that it could not be sent is counted like any other fault.
    pub(crate) fn send(&mut self, index: usize, request: &[u8]) {
        let Some(channel) = &mut self.channels[index] else {
            return;
        };
        if let Err(error) = channel.connection.send(request) {
            self.drop_failed(index, &Fault::Io(error));
        }
    }

    /// Hands over what has arrived, waiting up to `timeout` for something to arrive.
    pub(crate) fn poll(&mut self, timeout: Duration, handler: &mut impl Handler) -> Result<()> {
        ensure!(
            self.channels.iter().any(Option::is_some),
            self.describe_failures()
        );
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, Some(timeout));
        for event in &events {
            self.serve(event, handler);
        }
        self.events = events;
        polled.context("cannot poll")
    }

    /// An error if anything has failed so far.
    pub(crate) fn check(&self) -> Result<()> {
        self.failures.check()
    }

    fn describe_failures(&self) -> String {
        self.failures
            .check()
            .err()
            .map_or_else(|| "no connections".to_owned(), |error| error.to_string())
    }

    fn serve(&mut self, event: &Event, handler: &mut impl Handler) {
        let Token(index) = event.token();
        let Some(channel) = &mut self.channels[index] else {
            return;
        };
        if let Err(fault) = channel.serve(index, event, &mut self.buffer, handler) {
            self.drop_failed(index, &fault);
        }
    }

    fn drop_failed(&mut self, index: usize, fault: &Fault) {
        self.failures.add(fault.to_string());
        self.channels[index] = None;
    }
}

impl Channel {
    /// Does all that the connection is ready for. A receive that does not fill the buffer has emptied
    /// the socket, and saves the system call that would say so; unless the peer has closed, which
    /// brings no further event.
    fn serve(
        &mut self,
        index: usize,
        event: &Event,
        buffer: &mut [u8],
        handler: &mut impl Handler,
    ) -> Result<(), Fault> {
        if event.is_writable() {
            self.connection.flush()?;
        }
        loop {
            let received = self.connection.receive(buffer)?;
            let received_bytes = received.len();
            self.digest(index, received, handler)?;
            let drained = received_bytes < buffer.len() && !event.is_read_closed();
            if drained || received_bytes == 0 {
                return Ok(());
            }
        }
    }

    fn digest(&mut self, index: usize, mut input: &[u8], handler: &mut impl Handler) -> Result<(), Fault> {
        while let Some(piece) = self.parser.next(&mut input)? {
            let head = self.parser.head();
            if head.is_success() || handler.takes(head.status) {
                handler.take(index, &piece, head, &mut self.connection)?;
            } else {
                note_refusal(&mut self.refusal, head, &piece)?;
            }
        }
        Ok(())
    }
}

/// Gathers the body of an answer that is not 2xx, and is a fault at its end.
fn note_refusal(refusal: &mut Vec<u8>, head: &Head, piece: &Piece<'_>) -> Result<(), Fault> {
    match piece {
        Piece::Head => {}
        Piece::Body(bytes) => {
            let room = REFUSAL_BYTES_MAX - refusal.len();
            refusal.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Piece::End => {
            let body = String::from_utf8_lossy(refusal).into_owned();
            return Err(Fault::Refused {
                status: head.status,
                body,
            });
        }
    }
    Ok(())
}
