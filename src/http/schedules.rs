//! The operations on schedules: below `__ds/schedules`. Translates; what may happen stands in the rules.
//!
//! | file | what stands there |
//! |---|---|
//! | `body.rs` | bodies of requests become what is asked for |
//! | `document.rs` | what answers say |

mod body;
mod document;

use std::sync::Arc;

use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response as SideResponse;
use axum::routing::get;
use axum::{Extension, Router};
use http::StatusCode;
use tailwater_storage::Schedules;
use tailwater_storage::stream::ScheduleId;

use super::App;
use super::control::{self, to_side};
use super::error::Problem;
use super::query;
use super::visitor::Limited;
use document::{Document, Page};

/// The routes below `{base}/__ds`.
pub(super) fn routes(base: &str) -> Router<Arc<App>> {
    let schedules = format!("{base}/__ds/schedules");
    Router::new()
        .route(&schedules, get(list))
        .route(&format!("{schedules}/{{id}}"), get(show).put(put).delete(delete))
}

/// What may be asked of a path below `__ds`, to tell whoever asks for something else; none if it is no schedule's.
pub(super) fn allowed(path: &str) -> Option<&'static str> {
    let (_, below) = path.split_once("/__ds/")?;
    let id = below.strip_prefix("schedules/")?;
    (!id.contains('/')).then_some("GET, HEAD, PUT, DELETE")
}

fn all(app: &App) -> Result<&Schedules, Problem> {
    app.schedules.as_ref().ok_or_else(Problem::shutting_down)
}

fn id(text: &str) -> Result<ScheduleId, Problem> {
    ScheduleId::parse(text).map_err(|refusal| Problem::schedule_id(&refusal))
}

/// PUT: makes a schedule, or changes the one that exists.
async fn put(
    State(app): State<Arc<App>>,
    Extension(Limited(client)): Extension<Limited>,
    Path(text): Path<String>,
    request: Request,
) -> Result<SideResponse, Problem> {
    let all = all(&app)?;
    let id = id(&text)?;
    let bytes_max = app.config.schedules.max_body_bytes;
    let (body, _share) = control::receive(&app, client.as_deref(), request, bytes_max).await?;
    let config = body::config(&body, app.name_limits)?;
    let _waiting = app.writes.begin();
    let (cron, time_zone) = (config.cron.clone(), config.time_zone.clone());
    let put = all.put(id, config).await;
    let put = put.map_err(|error| Problem::put_schedule(error, &cron, &time_zone))?;
    let mut response = control::json(&Document::of(&put.described));
    if put.new {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(to_side(response))
}

/// GET: a schedule as it is now.
async fn show(State(app): State<Arc<App>>, Path(text): Path<String>) -> Result<SideResponse, Problem> {
    let described = all(&app)?.get(&id(&text)?).await?;
    Ok(to_side(control::json(&Document::of(&described))))
}

/// DELETE: it enqueues nothing any more once this is answered.
async fn delete(State(app): State<Arc<App>>, Path(text): Path<String>) -> Result<SideResponse, Problem> {
    let (all, id) = (all(&app)?, id(&text)?);
    let _waiting = app.writes.begin();
    all.delete(&id).await?;
    Ok(control::no_content())
}

/// GET of all: pages of schedules.
async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<SideResponse, Problem> {
    let limit_max = app.config.limits.max_list_entries;
    let (mut after, mut limit) = (None, limit_max);
    for (name, value) in query::pairs(query.as_deref().unwrap_or_default()) {
        match name {
            "after" => after = Some(id(&value)?),
            "limit" => limit = query::limit(&value, limit_max)?,
            _ => {}
        }
    }
    let (listed, more) = all(&app)?.list(after.as_ref(), limit).await;
    let last = listed.last().filter(|_| more).map(|last| last.id.as_str());
    let page = Page {
        schedules: listed.iter().map(Document::of).collect(),
        after: last,
    };
    Ok(to_side(control::json(&page)))
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn each_path_says_what_may_be_asked_of_it() {
        let of = |below: &str| allowed(&format!("/v1/stream/__ds/{below}"));
        assert_eq!(of("schedules/s"), Some("GET, HEAD, PUT, DELETE"));
        assert_eq!(of("schedules/s/t"), None);
        assert_eq!(of("schedules"), None);
        assert_eq!(of("streams"), None);
    }
}
