//! DELETE: deletes a stream (PROTOCOL.md §5.4).

use http::{HeaderMap, StatusCode};
use tailwater_storage::stream::StreamName;

use super::error::Problem;
use super::{App, Response, ResponseBody, headers};

pub(super) async fn delete(app: &App, name: &StreamName, head: &HeaderMap) -> Result<Response, Problem> {
    let if_match = headers::if_match(head)?;
    if let Some(queues) = &app.queues
        && queues.is_queue(name).await?
    {
        return Err(Problem::stream_is_queue(name.as_str(), app.base()));
    }
    let _waiting = app.writes.begin();
    app.engine.delete_if(name, if_match).await?;
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
