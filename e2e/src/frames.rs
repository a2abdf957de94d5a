//! HTTP/2, frame by frame (RFC 9113), for what no client library would send or leave out.

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;

use crate::connection::Connection;

/// What a client begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
pub const DATA: u8 = 0;
/// The head of a request or an answer.
pub const HEADERS: u8 = 1;
/// One request is given up.
pub const RST_STREAM: u8 = 3;
/// What an end may do; acknowledged with [`ACK`].
pub const SETTINGS: u8 = 4;
/// Asks whether the other end is there, which answers with [`ACK`].
pub const PING: u8 = 6;
/// The whole connection is given up.
pub const GOAWAY: u8 = 7;
/// The other end may send more.
pub const WINDOW_UPDATE: u8 = 8;

/// A flag of [`DATA`] and [`HEADERS`]: the last of its stream.
pub const END_STREAM: u8 = 1;
/// A flag of [`HEADERS`]: it is complete.
pub const END_HEADERS: u8 = 4;
/// A flag of [`SETTINGS`] and [`PING`].
pub const ACK: u8 = 1;

/// The number of the setting that says how many bytes of each answer may be sent at first.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame as it is sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short payload")
        .to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field as HPACK writes it without any table or Huffman code, so that all bytes come as they are (RFC 7541, 6.2.2).
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        if let Ok(length @ 0..127) = u8::try_from(text.len()) {
            field.push(length);
        } else {
            field.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                field.push(u8::try_from(rest % 128).expect("below 128") | 128);
                rest /= 128;
            }
            field.push(u8::try_from(rest).expect("below 128"));
        }
        field.extend(text);
    }
    field
}

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    /// [`DATA`] or one of the others.
    pub kind: u8,
    /// [`END_STREAM`] and others.
    pub flags: u8,
    /// The request that it belongs to; 0 for the connection.
    pub stream: u32,
    /// The rest of it.
    pub payload: Vec<u8>,
}

/// Reads the next frame, or says why there is none: a connection that has ended is [`ErrorKind::UnexpectedEof`].
pub fn read_frame(connection: &mut Connection) -> io::Result<Frame> {
    let mut head = [0; 9];
    connection.read_exact(&mut head)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    connection.read_exact(&mut payload)?;
    Ok(Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload,
    })
}

/// A client in clear that opens windows only when it is told to, and takes what comes.
#[derive(Debug)]
pub struct FrameClient {
    connection: Connection,
    next_stream: u32,
}

impl FrameClient {
    /// Connects. The server may send that many bytes of each answer at first.
    #[track_caller]
    pub fn open(address: SocketAddr, window_bytes: u32) -> Self {
        let mut client = Self {
            connection: Connection::open(address),
            next_stream: 1,
        };
        let mut setting = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        setting.extend(window_bytes.to_be_bytes());
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, &setting)].concat();
        client.connection.write(&begin).expect("the server reads");
        client
    }

    /// Sends a request without a body and returns the number of its stream.
    pub fn request(&mut self, method: &str, target: &str) -> io::Result<u32> {
        let fields = [
            (":method", method),
            (":scheme", "http"),
            (":path", target),
            (":authority", "localhost"),
        ];
        let fields = fields.map(|(name, value)| field(name.as_bytes(), value.as_bytes()));
        let stream = self.next_stream;
        self.next_stream += 2;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields.concat());
        self.connection.write(&head)?;
        Ok(stream)
    }

    /// Sends what is given as it is.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.write(bytes)
    }

    /// Lets the server send that many more bytes of one answer.
    pub fn widen(&mut self, stream: u32, bytes: u32) -> io::Result<()> {
        let update = frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
        self.connection.write(&update)
    }

    /// Asks whether the server is there, and reads up to its answer to that; what comes before it is dropped.
    pub fn ping(&mut self) -> io::Result<()> {
        self.connection.write(&frame(PING, 0, 0, &[7; 8]))?;
        while self.next_frame()?.kind != PING {}
        Ok(())
    }

    /// The next frame that is no setting; these are acknowledged.
    ///
    /// # Panics
    /// If the server gives up the connection for an error of the client's.
    pub fn next_frame(&mut self) -> io::Result<Frame> {
        loop {
            let frame = read_frame(&mut self.connection)?;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => {
                    self.connection.write(&self::frame(SETTINGS, ACK, 0, &[]))?;
                }
                SETTINGS | WINDOW_UPDATE => {}
                GOAWAY if frame.payload.get(4..8) != Some(&[0; 4]) => panic!("given up: {frame:?}"),
                _ => return Ok(frame),
            }
        }
    }

    /// The next part of that answer's body.
    pub fn next_data(&mut self, stream: u32) -> io::Result<Vec<u8>> {
        loop {
            let frame = self.next_frame()?;
            match (frame.stream == stream, frame.kind) {
                (true, DATA) if !frame.payload.is_empty() => return Ok(frame.payload),
                (true, DATA) if frame.flags & END_STREAM != 0 => return Err(ErrorKind::UnexpectedEof.into()),
                (true, RST_STREAM) => return Err(ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
        }
    }
}
