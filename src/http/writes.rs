//! How many writes wait for their answers. Knows nothing of what they write, or of reads.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Writes all of whose request is there, and that are not answered yet.
///
/// One whose body is still coming is none of them: it needs no time of the server, however long its client takes, and
/// would hold reads to their share for nothing.
#[derive(Debug, Default)]
pub(crate) struct Writes(AtomicUsize);

impl Writes {
    /// Counts a write until what is returned is dropped. To be called once its body is complete.
    pub(super) fn begin(&self) -> WaitingWrite<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        WaitingWrite(self)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A write that waits for its answer.
#[must_use]
pub(super) struct WaitingWrite<'a>(&'a Writes);

impl Drop for WaitingWrite<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{IpAddr, Ipv4Addr};
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Poll;

    use axum::body::Body;
    use http::header::AUTHORIZATION;
    use http::{HeaderMap, Request, StatusCode};
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};
    use tailwater_storage::engine::AppendRequest;
    use tailwater_storage::stream::{ContentType, CreateCommand, StreamName};
    use tower_service::Service as _;

    use crate::config::Config;
    use crate::http::App;
    use crate::http::caller::{Caller, Peer};
    use crate::http::control;
    use crate::http::visitor::Limited;
    use crate::server;

    fn json_type() -> Option<ContentType> {
        ContentType::parse("application/json")
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text, tailwater_storage::stream::NameLimits::default()).expect("a name")
    }

    /// Asks for something that changes what is stored. It counts while it waits for that, and not any more.
    async fn ask(app: &Arc<App>, method: &str, path: &str, token: &str, body: &Value) -> Value {
        let what = format!("{method} {path}");
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer = Peer::new(address, false, &app.config.proxy.trusted);
        let caller = Caller::of(peer, &HeaderMap::new(), &app.config.proxy, || app.engine.now());
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/__ds/{path}", app.base()))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .extension(caller.expect("nobody says how long it may stay"))
            .extension(Limited(None))
            .body(Body::from(if body.is_null() {
                String::new()
            } else {
                body.to_string()
            }))
            .expect("a request");
        let mut router = control::router(app);
        let mut answer = pin!(router.call(request));
        // What is stored is stored by a task that does not run before this one waits.
        let first = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
        assert!(first.is_pending(), "{what} has nothing to wait for");
        assert_eq!(app.writes.waiting(), 1, "{what}");
        let Ok(response) = answer.await;
        assert_eq!(app.writes.waiting(), 0, "{what}");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(
            status.is_success(),
            "{what}: {status} {}",
            String::from_utf8_lossy(&body)
        );
        if status == StatusCode::NO_CONTENT {
            return Value::Null;
        }
        serde_json::from_slice(&body).expect("JSON")
    }

    /// Nobody counted them, so that reads took from them what they were to leave to writes.
    #[tokio::test]
    async fn what_is_asked_of_subscriptions_and_schedules_waits_as_other_writes_do() {
        let app = server::whole_app_for_tests(Config::default()).await;
        for stream in ["wakes", "jobs"] {
            let command = CreateCommand {
                content_type: json_type(),
                ..CreateCommand::default()
            };
            app.engine.create(&name(stream), command).await.expect("created");
        }
        let subscription = json!({
            "type": "pull-wake", "streams": ["jobs"], "wake_stream": "wakes", "lease_ttl_ms": 600_000,
        });
        let subscription = &subscription;
        ask(&app, "PUT", "subscriptions/s", "", subscription).await;
        let named = json!({ "streams": ["other"] });
        ask(&app, "POST", "subscriptions/s/streams", "", &named).await;
        ask(&app, "DELETE", "subscriptions/s/streams/other", "", &Value::Null).await;
        let append = AppendRequest {
            body: "1".into(),
            content_type: json_type(),
            ..AppendRequest::default()
        };
        app.engine.append(&name("jobs"), append).await.expect("appended");
        let worker = json!({ "worker": "w" });
        let claimed = ask(&app, "POST", "subscriptions/s/claim", "", &worker).await;
        let token = claimed["token"].as_str().expect("a token");
        let said = json!({ "wake_id": claimed["wake_id"], "generation": claimed["generation"] });
        ask(&app, "POST", "subscriptions/s/ack", token, &said).await;
        ask(&app, "POST", "subscriptions/s/release", token, &said).await;
        ask(&app, "DELETE", "subscriptions/s", "", &Value::Null).await;
        let schedule = json!({ "stream": "jobs", "cron": "0 0 1 1 *", "payload": 1 });
        ask(&app, "PUT", "schedules/s", "", &schedule).await;
        ask(&app, "DELETE", "schedules/s", "", &Value::Null).await;
    }
}
