//! Webhooks of the real binary, with receivers that are nothing but sockets: what is signed is verified by OpenSSL, what
//! is hostile gets nowhere, and keys outlive what the server does not.

mod command_line;
mod keys;
mod receiver;
mod receivers;
mod tls;

use serde_json::{Value, json};
use tailwater_e2e::{Request, Response, Server};

/// Lets webhooks go to this machine.
const DEVELOPMENT: (&str, &str) = ("DS_SUBSCRIPTIONS__ALLOW_HTTP_LOCALHOST", "true");

fn send_json(server: &Server, method: &str, name: &str, body: &Value) -> Response {
    let request = Request::new(method, &server.path(name)).header("Content-Type", "application/json");
    server.send(&request.body(body.to_string()))
}

/// A subscription of all streams below `{id}/`, which are woken at that URL.
fn subscribe(server: &Server, id: &str, url: &str) -> Response {
    let name = format!("__ds/subscriptions/{id}");
    let body = json!({ "type": "webhook", "pattern": format!("{id}/*"), "webhook": { "url": url } });
    send_json(server, "PUT", &name, &body)
}

/// Makes a stream with a message, which wakes the subscription.
fn wake(server: &Server, id: &str) {
    send_json(server, "PUT", &format!("{id}/x"), &json!({ "n": 1 })).expect(201);
}

fn subscription(server: &Server, id: &str) -> Value {
    server
        .get(&server.path(&format!("__ds/subscriptions/{id}")))
        .expect(200)
        .json()
}

fn published(server: &Server) -> Value {
    server.get(&server.path("__ds/jwks.json")).expect(200).json()
}
