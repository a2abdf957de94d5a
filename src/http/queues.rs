//! The operations on job queues: below `__ds/queues`. Translates; what may happen stands in the rules.
//!
//! The name of a queue's stream may have slashes, so what is asked of it is the last part of the path.
//!
//! | file | what stands there |
//! |---|---|
//! | `body.rs` | members of bodies |
//! | `document.rs` | what answers say |
//! | `manage.rs` | make, show, list, pause, purge and delete; dead letters |
//! | `work.rs` | enqueue and claim |

pub(super) mod body;
pub(super) mod document;
mod manage;
mod work;

pub(super) use manage::root;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use http::Method;
use tailwater_storage::Queues;
use tailwater_storage::stream::StreamName;

use super::error::Problem;
use super::{App, dispatch};

/// What every path of a queue begins with, below the base.
const PATH: &str = "/__ds/queues/";

/// The routes below `{base}/__ds`.
pub(super) fn routes(base: &str) -> Router<Arc<App>> {
    let queues = format!("{base}/__ds/queues");
    let one = get(manage::show)
        .put(manage::put)
        .delete(manage::delete)
        .post(work::post);
    Router::new()
        .route(&queues, get(manage::list))
        .route(&format!("{queues}/{{*path}}"), one)
}

/// What may be asked of a path below `__ds`, to tell whoever asks for something else; none if it is no queue's.
pub(super) fn allowed(path: &str) -> Option<&'static str> {
    let (_, below) = path.split_once("/__ds/")?;
    match below.split_once('/') {
        Some(("queues", rest)) if !rest.is_empty() => Some("GET, HEAD, PUT, POST, DELETE"),
        _ => None,
    }
}

/// What is posted to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Posted {
    Enqueue,
    Claim,
    Pause,
    Resume,
    Purge,
    Redrive,
}

const POSTED: [(&str, Posted); 6] = [
    ("/enqueue", Posted::Enqueue),
    ("/claim", Posted::Claim),
    ("/pause", Posted::Pause),
    ("/resume", Posted::Resume),
    ("/purge", Posted::Purge),
    ("/dead/redrive", Posted::Redrive),
];

/// The part of a path behind those of all queues, as it came.
fn below<'a>(app: &App, path: &'a str) -> &'a str {
    let behind = path
        .strip_prefix(app.base())
        .and_then(|path| path.strip_prefix(PATH));
    behind.unwrap_or_default()
}

/// The queue of a path to which something is posted, and what.
fn posted(app: &App, path: &str) -> Result<(StreamName, Posted), Problem> {
    let below = below(app, path);
    let found = POSTED
        .iter()
        .find_map(|(operation, posted)| Some((below.strip_suffix(operation)?, *posted)));
    match found {
        Some((name, posted)) => Ok((dispatch::name(app, name)?, posted)),
        None => Err(Problem::method_not_allowed(
            &Method::POST,
            "GET, HEAD, PUT, DELETE",
        )),
    }
}

fn served(app: &App) -> Result<&Queues, Problem> {
    app.queues.as_ref().ok_or_else(Problem::shutting_down)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::server;

    #[test]
    fn what_is_posted_is_the_last_part_of_the_path() {
        let app = server::app_for_tests(Config::default());
        let of = |below: &str| {
            posted(&app, &format!("/v1/stream/__ds/queues/{below}")).map_err(|problem| problem.code())
        };
        let name = |text: &str| StreamName::parse(text, app.name_limits).expect("a name");
        assert_eq!(of("jobs/mail/claim"), Ok((name("jobs/mail"), Posted::Claim)));
        assert_eq!(of("claim/claim"), Ok((name("claim"), Posted::Claim)));
        assert_eq!(of("a%20b/enqueue"), Ok((name("a b"), Posted::Enqueue)));
        assert_eq!(of("jobs/dead/redrive"), Ok((name("jobs"), Posted::Redrive)));
        assert_eq!(of("jobs"), Err("method_not_allowed"));
        assert_eq!(of("claim"), Err("method_not_allowed"));
        assert_eq!(of("a//claim"), Err("invalid_name"));
    }

    #[test]
    fn each_path_says_what_may_be_asked_of_it() {
        let of = |below: &str| allowed(&format!("/v1/stream/__ds/{below}"));
        assert_eq!(of("queues/jobs"), Some("GET, HEAD, PUT, POST, DELETE"));
        assert_eq!(of("queues"), None);
        assert_eq!(of("streams/queues"), None);
    }
}
