//! Tests of the response parser.

use super::{Head, Piece, ResponseError, ResponseParser};

/// A response as a reader of pieces sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    body: Vec<u8>,
}

/// Parses `bytes`, handed over in slices of `step` bytes, into whole responses.
fn parse_in_steps(bytes: &[u8], step: usize) -> Result<Vec<Seen>, ResponseError> {
    let mut parser = ResponseParser::new();
    let mut seen = Vec::new();
    let mut body = Vec::new();
    for mut input in bytes.chunks(step) {
        while let Some(piece) = parser.next(&mut input)? {
            match piece {
                Piece::Head => {}
                Piece::Body(bytes) => body.extend_from_slice(bytes),
                Piece::End => seen.push(Seen {
                    status: parser.head().status,
                    body: std::mem::take(&mut body),
                }),
            }
        }
        assert!(input.is_empty(), "None means that the input was used up");
    }
    Ok(seen)
}

/// Parses `bytes` cut in every regular way and asserts that the cut makes no difference.
fn parse(bytes: &[u8]) -> Result<Vec<Seen>, ResponseError> {
    let whole = parse_in_steps(bytes, bytes.len());
    for step in 1..bytes.len() {
        assert_eq!(parse_in_steps(bytes, step), whole, "cut every {step} bytes");
    }
    whole
}

fn seen(status: u16, body: &str) -> Seen {
    Seen {
        status,
        body: body.as_bytes().to_vec(),
    }
}

#[test]
fn sized_bodies_end_where_their_length_says() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(parse(bytes), Ok(vec![seen(200, "hello"), seen(404, "")]));
}

#[test]
fn no_content_has_no_body_even_without_a_length() {
    let bytes = b"HTTP/1.1 204 No Content\r\nstream-next-offset: 1_2\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(parse(bytes), Ok(vec![seen(204, ""), seen(204, "")]));
}

#[test]
fn chunks_are_joined_and_their_extensions_and_trailers_dropped() {
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        4;note=x\r\nwiki\r\nA\r\npedia in c\r\n5\r\nhunks\r\n0\r\nX-Trailer: y\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(
        parse(bytes),
        Ok(vec![seen(200, "wikipedia in chunks"), seen(200, "")])
    );
}

#[test]
fn stream_headers_are_kept_and_do_not_leak_into_the_next_head() {
    let mut parser = ResponseParser::new();
    let mut input: &[u8] = b"HTTP/1.1 200 OK\r\nStream-Next-Offset: 07_09\r\nStream-Up-To-Date: true\r\n\
        Content-Length: 0\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(parser.next(&mut input), Ok(Some(Piece::Head)));
    assert_eq!(
        parser.head(),
        &Head {
            status: 200,
            next_offset: "07_09".to_owned(),
            up_to_date: true
        }
    );
    assert_eq!(parser.next(&mut input), Ok(Some(Piece::End)));
    assert_eq!(parser.next(&mut input), Ok(Some(Piece::Head)));
    assert_eq!(
        parser.head(),
        &Head {
            status: 204,
            ..Head::default()
        }
    );
}

#[test]
fn an_open_ended_body_is_refused() {
    assert_eq!(
        parse(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"),
        Err(ResponseError::Unframed)
    );
}

#[test]
fn malformed_lengths_and_chunks_are_refused() {
    assert_eq!(
        parse(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        Err(ResponseError::ContentLength)
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in ["\r\n", "xyz\r\n", "11111111111111111\r\n", "1\r\nabc\r\n"] {
        assert_eq!(
            parse(format!("{chunked}{body}").as_bytes()),
            Err(ResponseError::Chunk),
            "{body:?}"
        );
    }
}

#[test]
fn bytes_that_are_not_http_are_refused() {
    assert!(matches!(
        parse(b"SSH-2.0-OpenSSH\r\n"),
        Err(ResponseError::Head(_))
    ));
}

#[test]
fn a_head_without_an_end_is_refused_once_it_is_too_large() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    bytes.resize(super::HEAD_BYTES_MAX + 1, b'x');
    assert_eq!(parse_in_steps(&bytes, 4096), Err(ResponseError::HeadTooLarge));
}
