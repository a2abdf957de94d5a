//! GET: reads a stream from an offset on (PROTOCOL.md §5.6). Live reads go on elsewhere.

use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use tailwater_storage::stream::{Offset, StreamName};

use super::caller::Caller;
use super::error::Problem;
use super::place::Place;
use super::query::{Live, ReadQuery};
use super::{App, Response, answer, long_poll, sse};
use crate::limits::Client;

pub(super) async fn read(
    app: &Arc<App>,
    caller: &Caller,
    client: Option<&Arc<Client>>,
    name: &StreamName,
    request: &Request<Incoming>,
) -> Result<Response, Problem> {
    let query = ReadQuery::parse(request.uri().query())?;
    match query.live {
        Live::No => {
            let place = Place::find(app, name, query.offset).await?;
            if query.offset == Some(Offset::Now) {
                return Ok(answer::at_tail(&place, query.view, StatusCode::OK, None));
            }
            answer::answer(app, &place, query.view, request.headers(), None).await
        }
        Live::LongPoll => long_poll::long_poll(app, caller, client, name, query, request.headers()).await,
        Live::Sse => sse::subscribe(app, caller, client, name, query, request.headers()).await,
    }
}
