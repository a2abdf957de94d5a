//! The operations on subscriptions (PROTOCOL.md §6, §7): below `__ds/subscriptions`, and the published keys. Translates;
//! what may happen stands in the rules.
//!
//! | file | what stands there |
//! |---|---|
//! | `body.rs` | bodies of requests become what is asked for |
//! | `document.rs` | what answers say |
//! | `manage.rs` | make, show, list and delete; name streams; the published keys |
//! | `work.rs` | callbacks, claims, acks and releases |

mod body;
mod document;
mod manage;
mod work;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use http::header::HeaderMap;
use tailwater_storage::Subscriptions;
use tailwater_storage::stream::SubscriptionId;

use super::App;
use super::caller::{self, Caller};
use super::error::Problem;
use crate::webhooks::{Keys, UrlRules};

/// What the operations need beside the engine.
pub(crate) struct Served {
    pub(crate) all: Subscriptions,
    pub(crate) keys: Arc<Keys>,
    pub(crate) url_rules: UrlRules,
}

/// The routes below `{base}/__ds`.
pub(super) fn routes(base: &str) -> Router<Arc<App>> {
    let subscriptions = format!("{base}/__ds/subscriptions");
    let one = format!("{subscriptions}/{{id}}");
    Router::new()
        .route(&format!("{base}/__ds/jwks.json"), get(manage::key_set))
        .route(&subscriptions, get(manage::list))
        .route(&one, get(manage::show).put(manage::create).delete(manage::delete))
        .route(&format!("{one}/streams"), post(manage::add_streams))
        .route(&format!("{one}/streams/{{*path}}"), delete(manage::remove_stream))
        .route(&format!("{one}/callback"), post(work::callback))
        .route(&format!("{one}/claim"), post(work::claim))
        .route(&format!("{one}/ack"), post(work::ack))
        .route(&format!("{one}/release"), post(work::release))
}

/// What may be asked of a path below `__ds`, to tell whoever asks for something else; none if it is no subscription's.
pub(super) fn allowed(path: &str) -> Option<&'static str> {
    let (_, below) = path.split_once("/__ds/")?;
    let mut segments = below.split('/');
    match (
        segments.next()?,
        segments.next(),
        segments.next(),
        segments.next(),
    ) {
        ("subscriptions", Some(_), None, _) => Some("GET, HEAD, PUT, DELETE"),
        ("subscriptions", Some(_), Some("streams"), Some(_)) => Some("DELETE"),
        ("subscriptions", Some(_), Some(_), _) => Some("POST"),
        _ => None,
    }
}

fn served(app: &App) -> Result<&Served, Problem> {
    app.subscriptions.as_ref().ok_or_else(Problem::shutting_down)
}

fn id(text: &str) -> Result<SubscriptionId, Problem> {
    SubscriptionId::parse(text).map_err(|refusal| Problem::invalid_request(&refusal))
}

/// The URL of the stream root, by the scheme and host that the client used.
fn root(app: &App, caller: &Caller, head: &HeaderMap, uri: &http::Uri) -> String {
    let origin = caller::origin_of(app, caller, head, uri);
    format!("{origin}{}", app.base())
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn each_path_says_what_may_be_asked_of_it() {
        let of = |below: &str| allowed(&format!("/v1/stream/__ds/{below}"));
        assert_eq!(of("subscriptions/s"), Some("GET, HEAD, PUT, DELETE"));
        assert_eq!(of("subscriptions/s/streams"), Some("POST"));
        assert_eq!(of("subscriptions/s/streams/a/b"), Some("DELETE"));
        assert_eq!(of("subscriptions/s/claim"), Some("POST"));
        assert_eq!(of("subscriptions"), None);
        assert_eq!(of("streams"), None);
    }
}
