//! The answer with data that catch-up reads and long-polls share.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, VARY};
use http::{HeaderValue, StatusCode};
use tailwater_storage::backend::Slices;
use tailwater_storage::engine::Incarnation;
use tailwater_storage::stream::{ContentKind, Position};

use super::caching::{self, Picture};
use super::compression::{self, Encoding};
use super::error::Problem;
use super::place::Place;
use super::query::View;
use super::{App, Response, ResponseBody, headers, records};

/// Answers up to this size go out in one piece: a copy of so little costs less than writing it piece by piece.
const GATHER_BYTES_MAX: usize = 4096;

/// Where the answer ends, which its headers tell.
struct End {
    position: Position,
    up_to_date: bool,
    closed: bool,
}

/// Answers with the data behind a place, as much as one answer holds; `304` if the client has it.
pub(super) async fn answer(
    app: &App,
    place: &Place,
    shows: View,
    request: &HeaderMap,
    cursor: Option<u64>,
) -> Result<Response, Problem> {
    let stream = place.reader.incarnation();
    let bytes_max = app.config.limits.read_chunk_bytes as u64;
    let kind = stream.content_type.kind();
    let (pieces, position) = match shows {
        View::Content => {
            let slices = place.reader.read(place.from, &place.view, bytes_max).await?;
            let end = slices.end;
            (content(kind, slices), end)
        }
        View::Records => {
            let records = place.reader.records(place.from, &place.view, bytes_max).await?;
            let end = records.last().map_or(place.from, |record| record.end);
            (vec![records::lines(stream, &records)], end)
        }
    };
    let up_to_date = position == place.view.tail;
    let end = End {
        position,
        up_to_date,
        closed: up_to_date && place.view.closed,
    };
    app.metrics.read(pieces.iter().map(Bytes::len).sum());

    let compressible = kind != ContentKind::Binary || shows == View::Records;
    let encoding = Encoding::negotiate(request).filter(|_| compressible && cursor.is_none());
    let encoding =
        encoding.filter(|_| pieces.iter().map(Bytes::len).sum::<usize>() >= compression::BYTES_MIN);
    let picture = Picture {
        id: stream.id,
        from: place.token(place.from),
        to: place.token(end.position),
        closed: end.closed,
        up_to_date: end.up_to_date,
        records: shows == View::Records,
        encoding: encoding.map(Encoding::name),
    };
    let mut tag = picture.tag();
    let mut response = if caching::client_has(request, &tag) {
        let mut response = Response::new(ResponseBody::Empty);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let response = with_body(app, pieces, encoding).await;
        if !response.headers().contains_key(CONTENT_ENCODING) {
            tag = Picture {
                encoding: None,
                ..picture
            }
            .tag();
        }
        response
    };
    let to = response.headers_mut();
    to.insert(ETAG, tag);
    to.insert(CONTENT_TYPE, content_type(stream, shows));
    if compressible {
        to.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    let is_final = !end.up_to_date || end.closed;
    let cache = app
        .cache
        .of_range(stream, place.asked, is_final, end.position == place.from);
    to.insert(CACHE_CONTROL, cache);
    put_end(place, &end, to);
    if let Some(cursor) = cursor {
        to.insert(&headers::STREAM_CURSOR, headers::number(cursor));
    }
    Ok(response)
}

/// Answers with nothing, at the tail: `offset=now`, and long-polls that saw no data.
pub(super) fn at_tail(place: &Place, shows: View, status: StatusCode, cursor: Option<u64>) -> Response {
    let stream = place.reader.incarnation();
    let is_content = shows == View::Content;
    let as_json = status == StatusCode::OK && is_content && stream.content_type.kind() == ContentKind::Json;
    let body = if as_json {
        ResponseBody::Whole(Bytes::from_static(b"[]"))
    } else {
        ResponseBody::Empty
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let to = response.headers_mut();
    if status == StatusCode::OK {
        to.insert(CONTENT_TYPE, content_type(stream, shows));
    }
    to.insert(CACHE_CONTROL, headers::NO_STORE.clone());
    put_end(
        place,
        &End {
            position: place.view.tail,
            up_to_date: true,
            closed: place.view.closed,
        },
        to,
    );
    if let Some(cursor) = cursor.filter(|_| !place.view.closed) {
        to.insert(&headers::STREAM_CURSOR, headers::number(cursor));
    }
    response
}

fn content_type(stream: &Incarnation, shows: View) -> HeaderValue {
    match shows {
        View::Content => headers::text(stream.content_type.as_str()),
        View::Records => HeaderValue::from_static(records::CONTENT_TYPE),
    }
}

fn put_end(place: &Place, end: &End, to: &mut HeaderMap) {
    to.insert(
        &headers::STREAM_NEXT_OFFSET,
        headers::token(place.token(end.position)),
    );
    if end.up_to_date {
        to.insert(&headers::STREAM_UP_TO_DATE, headers::TRUE.clone());
    }
    if end.closed {
        to.insert(&headers::STREAM_CLOSED, headers::TRUE.clone());
    }
}

async fn with_body(app: &App, pieces: Vec<Bytes>, encoding: Option<Encoding>) -> Response {
    if let Some(encoding) = encoding
        && let Some(compressed) = encoding.compress(pieces.clone(), &app.read_share).await
    {
        let mut response = Response::new(ResponseBody::Whole(compressed));
        response
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        return response;
    }
    Response::new(ResponseBody::pieces(pieces))
}

/// The stored bytes as they are sent: JSON messages become an array by putting brackets around them.
fn content(kind: ContentKind, slices: Slices) -> Vec<Bytes> {
    let bytes = slices.len();
    let mut pieces = slices.pieces;
    if kind != ContentKind::Json {
        if bytes <= GATHER_BYTES_MAX && pieces.len() > 1 {
            return vec![pieces.concat().into()];
        }
        return pieces.into_vec();
    }
    let Some(last) = pieces.last_mut() else {
        return vec![Bytes::from_static(b"[]")];
    };
    // Every message is followed by a comma; the last one's becomes the bracket.
    last.truncate(last.len() - 1);
    if bytes <= GATHER_BYTES_MAX {
        let mut whole = Vec::with_capacity(bytes + 1);
        whole.push(b'[');
        pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole.push(b']');
        return vec![whole.into()];
    }
    let (open, close) = (Bytes::from_static(b"["), Bytes::from_static(b"]"));
    [open].into_iter().chain(pieces).chain([close]).collect()
}
