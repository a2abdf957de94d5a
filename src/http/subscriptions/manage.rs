//! Make, show, list and delete subscriptions; name streams; the published keys.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response as SideResponse;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use tailwater_storage::stream::StreamName;
use tailwater_storage::subscriptions::{LinksPage, NewSubscription};

use super::{body, document, id, root, served};
use crate::http::caller::Caller;
use crate::http::control::{self, to_side};
use crate::http::error::Problem;
use crate::http::visitor::Limited;
use crate::http::{App, query};

/// PUT: makes a subscription, or finds that the very same exists.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(Limited(client)): Extension<Limited>,
    Path(text): Path<String>,
    request: Request,
) -> Result<SideResponse, Problem> {
    let served = served(&app)?;
    let id = id(&text)?;
    let root = root(&app, &caller, request.headers(), request.uri());
    let (body, _share) = control::receive(&app, client.as_deref(), request, body_bytes_max(&app)).await?;
    let fields = body::Fields::of(&body)?;
    let config = body::config(&fields, app.name_limits, &served.url_rules)?;
    let asked = NewSubscription {
        id,
        config,
        root: root.as_str().into(),
    };
    let _waiting = app.writes.begin();
    let made = served
        .all
        .create(asked, app.config.limits.max_list_entries)
        .await?;
    let described = document::described(&made.described, &root, &served.keys);
    let mut response = control::json(&described);
    if made.new {
        *response.status_mut() = StatusCode::CREATED;
        let location = format!("{root}{}", document::path(made.described.summary.id.as_str()));
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(LOCATION, location);
        }
    }
    Ok(to_side(response))
}

/// GET: a subscription with a page of its streams.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<SideResponse, Problem> {
    let served = served(&app)?;
    let root = root(&app, &caller, request.headers(), request.uri());
    let page = page_of(&app, query.as_deref().unwrap_or_default())?;
    let described = served.all.get(&id(&text)?, &page).await?;
    let described = document::described(&described, &root, &served.keys);
    Ok(to_side(control::json(&described)))
}

/// Which streams a query asks for. Unknown parameters are passed over.
fn page_of(app: &App, query: &str) -> Result<LinksPage, Problem> {
    let limit_max = app.config.limits.max_list_entries;
    let mut page = LinksPage::first(limit_max);
    for (name, value) in query::pairs(query) {
        match name {
            "after" => page.after = Some(body::stream("after", &value, app.name_limits)?),
            "limit" => page.count_max = query::limit(&value, limit_max)?,
            _ => {}
        }
    }
    Ok(page)
}

/// DELETE: whoever holds it is fenced off.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
) -> Result<SideResponse, Problem> {
    let (served, id) = (served(&app)?, id(&text)?);
    let _waiting = app.writes.begin();
    served.all.delete(&id).await?;
    Ok(control::no_content())
}

/// GET of all: pages of subscriptions without their streams.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<SideResponse, Problem> {
    let served = served(&app)?;
    let root = root(&app, &caller, request.headers(), request.uri());
    let limit_max = app.config.limits.max_list_entries;
    let (mut after, mut limit) = (None, limit_max);
    for (name, value) in query::pairs(query.as_deref().unwrap_or_default()) {
        match name {
            "after" => after = Some(id(&value)?),
            "limit" => limit = query::limit(&value, limit_max)?,
            _ => {}
        }
    }
    let (listed, more) = served.all.list(after.as_ref(), limit).await;
    let last = listed.last().filter(|_| more).map(|last| last.id.to_string());
    let documents: Vec<Value> = listed
        .iter()
        .map(|summary| document::summary(summary, &root, &served.keys))
        .collect();
    Ok(to_side(control::json(
        &json!({ "subscriptions": documents, "after": last }),
    )))
}

/// POST: names streams.
pub(super) async fn add_streams(
    State(app): State<Arc<App>>,
    Extension(Limited(client)): Extension<Limited>,
    Path(text): Path<String>,
    request: Request,
) -> Result<SideResponse, Problem> {
    let served = served(&app)?;
    let id = id(&text)?;
    let (body, _share) = control::receive(&app, client.as_deref(), request, body_bytes_max(&app)).await?;
    let streams = body::some_streams(&body::Fields::of(&body)?, app.name_limits)?;
    let _waiting = app.writes.begin();
    served.all.add_streams(&id, streams).await?;
    Ok(control::no_content())
}

/// DELETE: takes the name of a stream back.
pub(super) async fn remove_stream(
    State(app): State<Arc<App>>,
    Path((text, path)): Path<(String, String)>,
) -> Result<SideResponse, Problem> {
    let served = served(&app)?;
    let id = id(&text)?;
    let stream = StreamName::parse(path.trim_matches('/'), app.name_limits)
        .map_err(|refusal| Problem::invalid_request(&refusal))?;
    let _waiting = app.writes.begin();
    served.all.remove_stream(&id, stream).await?;
    Ok(control::no_content())
}

/// GET: the keys by which receivers know webhooks (PROTOCOL.md §6.5).
pub(super) async fn key_set(State(app): State<Arc<App>>) -> Result<SideResponse, Problem> {
    let mut response = control::json(&served(&app)?.keys.key_set());
    let to = response.headers_mut();
    to.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    to.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    Ok(to_side(response))
}

pub(super) fn body_bytes_max(app: &App) -> usize {
    app.config.subscriptions.max_body_bytes
}
