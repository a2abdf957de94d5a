//! Requests to subscriptions.

use serde_json::{Value, json};
use tailwater_e2e::{Request, Response, Server};

/// A request to what stands below `__ds/`.
pub(crate) fn request(server: &Server, method: &str, below: &str, body: &Value) -> Request {
    let request = Request::new(method, &server.path(&format!("__ds/{below}")));
    if body.is_null() {
        request
    } else {
        request.body(body.to_string())
    }
}

pub(crate) fn send(server: &Server, method: &str, below: &str, body: &Value) -> Response {
    server.send(&request(server, method, below, body))
}

/// A request that shows a token.
pub(crate) fn send_with(server: &Server, token: &str, below: &str, body: &Value) -> Response {
    let request = request(server, "POST", below, body);
    server.send(&request.header("Authorization", &format!("Bearer {token}")))
}

/// What a subscription is made with that writes its wakes to `wakes`.
pub(crate) fn pull(pattern: &str) -> Value {
    json!({ "type": "pull-wake", "pattern": pattern, "wake_stream": "wakes", "lease_ttl_ms": 1_000 })
}

/// The code of a refusal in the protocol's form.
#[track_caller]
pub(crate) fn code(response: &Response) -> String {
    let body = response.json();
    let message = body["error"]["message"].as_str().expect("a message for people");
    assert!(message.ends_with('.'), "{message}");
    body["error"]["code"].as_str().expect("a code").to_owned()
}
