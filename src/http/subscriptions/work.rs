//! What workers and receivers ask for: callbacks, claims, acks and releases. Each shows the token of its wake.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response as SideResponse;
use http::header::{AUTHORIZATION, HeaderMap};
use serde_json::json;
use tailwater_storage::stream::SubscriptionId;
use tailwater_storage::stream::subscription::WakeId;
use tailwater_storage::subscriptions::AckRequest;

use super::manage::body_bytes_max;
use super::{Served, body, document, id, served};
use crate::http::App;
use crate::http::control::{self, to_side};
use crate::http::error::Problem;
use crate::http::visitor::Limited;
use crate::limits::Client;
use crate::webhooks::{Token, TokenUse};

/// A worker asks for the subscription.
pub(super) async fn claim(
    State(app): State<Arc<App>>,
    Extension(Limited(client)): Extension<Limited>,
    Path(text): Path<String>,
    request: Request,
) -> Result<SideResponse, Problem> {
    let served = served(&app)?;
    let id = id(&text)?;
    let (body, _share) = control::receive(&app, client.as_deref(), request, body_bytes_max(&app)).await?;
    let fields = body::Fields::of(&body)?;
    let worker = body::worker(&fields)?;
    let _waiting = app.writes.begin();
    let claim = served.all.claim(&id, worker).await?;
    let token = served.keys.issue(&Token {
        subscription: id.to_string(),
        purpose: TokenUse::Claim,
        generation: claim.claimed.generation,
        wake_id: claim.claimed.wake.to_string(),
    });
    Ok(to_side(control::json(&document::claimed(&claim, &token))))
}

/// A receiver says how far it is.
pub(super) async fn callback(
    State(app): State<Arc<App>>,
    Extension(Limited(client)): Extension<Limited>,
    Path(text): Path<String>,
    request: Request,
) -> Result<SideResponse, Problem> {
    let served = served(&app)?;
    let (id, said) = said(
        &app,
        served,
        client.as_deref(),
        &text,
        TokenUse::Callback,
        request,
    )
    .await?;
    let _waiting = app.writes.begin();
    let acked = served.all.callback(&id, said).await?;
    Ok(accepted(acked.next_wake))
}

/// A worker says how far it is.
pub(super) async fn ack(
    State(app): State<Arc<App>>,
    Extension(Limited(client)): Extension<Limited>,
    Path(text): Path<String>,
    request: Request,
) -> Result<SideResponse, Problem> {
    let served = served(&app)?;
    let (id, said) = said(&app, served, client.as_deref(), &text, TokenUse::Claim, request).await?;
    let _waiting = app.writes.begin();
    let acked = served.all.ack(&id, said).await?;
    Ok(accepted(acked.next_wake))
}

/// A worker gives the subscription back.
pub(super) async fn release(
    State(app): State<Arc<App>>,
    Extension(Limited(client)): Extension<Limited>,
    Path(text): Path<String>,
    request: Request,
) -> Result<SideResponse, Problem> {
    let served = served(&app)?;
    let (id, said) = said(&app, served, client.as_deref(), &text, TokenUse::Claim, request).await?;
    let _waiting = app.writes.begin();
    served.all.release(&id, said).await?;
    Ok(control::no_content())
}

/// What was said of a wake holds; and whether the next one follows at once.
fn accepted(next_wake: bool) -> SideResponse {
    to_side(control::json(&json!({ "ok": true, "next_wake": next_wake })))
}

/// What is said of a wake, and by whose token.
async fn said(
    app: &App,
    served: &Served,
    client: Option<&Client>,
    text: &str,
    purpose: TokenUse,
    request: Request,
) -> Result<(SubscriptionId, AckRequest), Problem> {
    let id = id(text)?;
    let bearer = bearer(request.headers()).ok_or_else(Problem::missing_token)?;
    let token = served.keys.verify(bearer, id.as_str(), purpose);
    let token = token.map_err(|error| Problem::token(&error))?;
    let (body, _share) = control::receive(app, client, request, body_bytes_max(app)).await?;
    let said = body::said(&body::Fields::of(&body)?, app.name_limits)?;
    let of_token = WakeId::parse(&token.wake_id);
    let request = AckRequest {
        token_generation: token.generation,
        generation: said.generation,
        // A token of another wake is of no use, though its generation be the same: the subscription may have been
        // deleted and made anew.
        wake: said.wake.filter(|wake| of_token == Some(*wake)),
        acks: said.acks,
        done: said.done,
    };
    Ok((id, request))
}

fn bearer(head: &HeaderMap) -> Option<&str> {
    let value = head.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
