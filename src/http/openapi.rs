//! The OpenAPI document of the operations on job queues, runs and schedules: `__ds/openapi.json`. `openapi.json` beside this file has it,
//! but for the version and the URL that the client uses.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response as SideResponse;
use serde_json::Value;

use super::caller::Caller;
use super::control::{self, to_side};
use super::error::Problem;
use super::{App, queues};

pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// GET: the document.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<SideResponse, Problem> {
    let root = queues::root(&app, &caller, request.headers(), request.uri());
    Ok(to_side(control::json(&document(&root))))
}

/// The document for a client that uses the stream root by this URL.
fn document(root: &str) -> Value {
    let mut document: Value =
        serde_json::from_str(DOCUMENT).expect("the document is JSON, which a test shows");
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document["servers"][0]["url"] = root.into();
    document
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All references of a document.
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn what_the_document_refers_to_is_in_it_and_all_of_it_is_referred_to() {
        let document = document("http://h/s");
        assert_eq!(document["servers"][0]["url"], "http://h/s");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in &found {
            let place = reference.strip_prefix('#').expect("within the document");
            assert!(document.pointer(place).is_some(), "{reference}");
        }
        for kind in ["schemas", "parameters", "responses"] {
            for name in document["components"][kind]
                .as_object()
                .expect("components")
                .keys()
            {
                let reference = format!("#/components/{kind}/{name}");
                assert!(
                    found.contains(reference.as_str()),
                    "nothing refers to {reference}"
                );
            }
        }
    }
}
