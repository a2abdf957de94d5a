//! Reads HTTP/1.1 responses piece by piece, as their bytes come off a socket. Knows no sockets and
//! no streams.
//!
//! Only what the servers under test send is understood: a body is framed by its length, by chunks,
//! or is absent. A body that ends with the connection is refused, because a closed loop could not
//! tell it from a lost connection.

use thiserror::Error;

/// More header lines than this are refused; the servers send about a dozen.
const HEADERS_MAX: usize = 64;

/// A response head larger than this is refused, so that garbage cannot make the client grow.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why bytes were not a response.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ResponseError {
    #[error("malformed response head: {0}")]
    Head(httparse::Error),
    #[error("the response head is larger than {HEAD_BYTES_MAX} bytes")]
    HeadTooLarge,
    #[error("malformed Content-Length")]
    ContentLength,
    #[error("malformed chunk")]
    Chunk,
    #[error("a body with neither Content-Length nor chunks")]
    Unframed,
}

/// What the generator wants to know of a response head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// `Stream-Next-Offset`, or empty.
    pub(crate) next_offset: String,
    /// Whether `Stream-Up-To-Date: true` was there.
    pub(crate) up_to_date: bool,
}

impl Head {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A part of a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The head is complete; see [`ResponseParser::head`].
    Head,
    /// Some bytes of the body, without their framing.
    Body(&'a [u8]),
    /// The response is complete; what follows belongs to the next one.
    End,
}

/// How the rest of the body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Sized { remaining: u64 },
    ChunkSize { size: u64, digits: u32 },
    ChunkExtension { size: u64 },
    ChunkData { remaining: u64 },
    ChunkDataEnd,
    Trailer { line_bytes: u64 },
}

/// Takes the bytes of one connection's responses, in order.
#[derive(Debug)]
pub(crate) struct ResponseParser {
    state: State,
    head: Head,
    /// The start of a head whose end has not arrived.
    partial_head: Vec<u8>,
}

impl ResponseParser {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            head: Head::default(),
            partial_head: Vec::new(),
        }
    }

    /// The head last completed.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Takes the next piece off the front of `input`, or all of `input` and `None` if more is needed.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, ResponseError> {
        loop {
            match self.state {
                State::Head => return Ok(self.take_head(input)?.then_some(Piece::Head)),
                State::Sized { remaining: 0 } => return Ok(Some(self.end())),
                State::Sized { remaining } => {
                    let body = take(input, remaining);
                    self.state = State::Sized {
                        remaining: remaining - body.len() as u64,
                    };
                    return Ok(body_piece(body));
                }
                State::ChunkData { remaining: 0 } => self.state = State::ChunkDataEnd,
                State::ChunkData { remaining } => {
                    let body = take(input, remaining);
                    self.state = State::ChunkData {
                        remaining: remaining - body.len() as u64,
                    };
                    return Ok(body_piece(body));
                }
                State::ChunkSize { .. }
                | State::ChunkExtension { .. }
                | State::ChunkDataEnd
                | State::Trailer { .. } => {
                    let Some((&byte, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    *input = rest;
                    if self.take_framing_byte(byte)? {
                        return Ok(Some(self.end()));
                    }
                }
            }
        }
    }

    fn end(&mut self) -> Piece<'static> {
        self.state = State::Head;
        Piece::End
    }

    /// Moves through the bytes between chunks; true at the end of the last chunk's trailer.
    fn take_framing_byte(&mut self, byte: u8) -> Result<bool, ResponseError> {
        self.state = match (self.state, byte) {
            (State::ChunkSize { digits: 1.., size }, b'\n') => after_chunk_size(size),
            (State::ChunkSize { digits: 1.., size }, b'\r' | b';' | b' ') => State::ChunkExtension { size },
            (
                State::ChunkSize {
                    size,
                    digits: digits @ 0..16,
                },
                _,
            ) => {
                let digit = char::from(byte).to_digit(16).ok_or(ResponseError::Chunk)?;
                State::ChunkSize {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::ChunkExtension { size }, b'\n') => after_chunk_size(size),
            (state @ State::ChunkExtension { .. }, _) => state,
            (State::ChunkDataEnd, b'\r') => State::ChunkDataEnd,
            (State::ChunkDataEnd, b'\n') => State::ChunkSize { size: 0, digits: 0 },
            (State::Trailer { line_bytes: 0 }, b'\n') => return Ok(true),
            (State::Trailer { .. }, b'\n') => State::Trailer { line_bytes: 0 },
            (state @ State::Trailer { .. }, b'\r') => state,
            (State::Trailer { line_bytes }, _) => State::Trailer {
                line_bytes: line_bytes + 1,
            },
            _ => return Err(ResponseError::Chunk),
        };
        Ok(false)
    }

    /// Takes a whole head off `input` if it is there; heads nearly always arrive whole, and are then
    /// parsed where they lie.
    fn take_head(&mut self, input: &mut &[u8]) -> Result<bool, ResponseError> {
        if self.partial_head.is_empty() {
            if let Some(head_bytes) = self.parse_head(input)? {
                *input = &input[head_bytes..];
                return Ok(true);
            }
            self.partial_head.extend_from_slice(input);
            *input = &[];
            return Ok(false);
        }
        let mut joined = std::mem::take(&mut self.partial_head);
        let known = joined.len();
        joined.extend_from_slice(input);
        match self.parse_head(&joined)? {
            Some(head_bytes) => {
                *input = &input[head_bytes - known..];
                Ok(true)
            }
            None => {
                self.partial_head = joined;
                *input = &[];
                Ok(false)
            }
        }
    }

    /// The length of the head at the start of `bytes`, or `None` if its end is not there yet.
    fn parse_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, ResponseError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(bytes).map_err(ResponseError::Head)? {
            httparse::Status::Partial if bytes.len() > HEAD_BYTES_MAX => Err(ResponseError::HeadTooLarge),
            httparse::Status::Partial => Ok(None),
            httparse::Status::Complete(head_bytes) => {
                self.state = self.keep_head(&response)?;
                Ok(Some(head_bytes))
            }
        }
    }

    /// Keeps what is wanted of a head and says how its body is framed.
    fn keep_head(&mut self, response: &httparse::Response<'_, '_>) -> Result<State, ResponseError> {
        self.head.status = response.code.unwrap_or_default();
        self.head.next_offset.clear();
        self.head.up_to_date = false;
        let mut framing = None;
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                framing = Some(State::Sized {
                    remaining: decimal(header.value)?,
                });
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Some(State::ChunkSize { size: 0, digits: 0 });
            } else if header.name.eq_ignore_ascii_case("stream-next-offset") {
                self.head
                    .next_offset
                    .push_str(&String::from_utf8_lossy(header.value));
            } else if header.name.eq_ignore_ascii_case("stream-up-to-date") {
                self.head.up_to_date = header.value.eq_ignore_ascii_case(b"true");
            }
        }
        match (self.head.status, framing) {
            (100..200 | 204 | 304, _) => Ok(State::Sized { remaining: 0 }),
            (_, framing) => framing.ok_or(ResponseError::Unframed),
        }
    }
}

fn after_chunk_size(size: u64) -> State {
    match size {
        0 => State::Trailer { line_bytes: 0 },
        remaining => State::ChunkData { remaining },
    }
}

/// At most `limit` bytes off the front of `input`.
fn take<'a>(input: &mut &'a [u8], limit: u64) -> &'a [u8] {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (front, rest) = input.split_at(limit.min(input.len()));
    *input = rest;
    front
}

fn body_piece(body: &[u8]) -> Option<Piece<'_>> {
    (!body.is_empty()).then_some(Piece::Body(body))
}

fn decimal(value: &[u8]) -> Result<u64, ResponseError> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or(ResponseError::ContentLength)
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
