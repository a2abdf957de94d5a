//! The Rust program of docs/clients.md, which a test keeps the same.

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

type Answer = Response<Body>;

/// Asks until there is an answer.
fn answered(ask: impl Fn() -> Result<Answer, ureq::Error>) -> Result<Answer, Box<dyn Error>> {
    loop {
        match ask() {
            Ok(answer) if answer.status().is_success() => return Ok(answer),
            Ok(busy) if [429, 503].contains(&busy.status().as_u16()) => sleep(Duration::from_secs(1)),
            Ok(mut refusal) => {
                let status = refusal.status();
                return Err(format!("{status}: {}", refusal.body_mut().read_to_string()?).into());
            }
            Err(_interrupted) => sleep(Duration::from_millis(100)),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("STREAM_URL")?;
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into();
    let json = ("Content-Type", "application/json");
    answered(|| agent.put(&url).header(json.0, json.1).send_empty())?;

    let steps = ["started", "rendered", "sent"];
    for (seq, step) in steps.iter().enumerate() {
        let event = serde_json::json!({ "step": step }).to_string();
        let is_last = seq + 1 == steps.len();
        answered(|| {
            let append = agent
                .post(&url)
                .header(json.0, json.1)
                .header("Producer-Id", "clients-page")
                .header("Producer-Epoch", "0")
                .header("Producer-Seq", seq.to_string())
                .header("Stream-Closed", if is_last { "true" } else { "false" });
            append.send(&event)
        })?;
    }

    let mut offset = "-1".to_owned();
    loop {
        let mut answer = answered(|| agent.get(format!("{url}?offset={offset}&live=long-poll")).call())?;
        if answer.status() != StatusCode::NO_CONTENT {
            // An answer that is cut off is no valid JSON; the same is asked for again then.
            let body = answer.body_mut().read_to_string().unwrap_or_default();
            let Ok(events) = serde_json::from_str::<Vec<Value>>(&body) else {
                continue;
            };
            events.iter().for_each(|event| println!("{event}"));
        }
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        offset = header("Stream-Next-Offset")
            .ok_or("no Stream-Next-Offset")?
            .to_owned();
        if header("Stream-Closed") == Some("true") {
            return Ok(());
        }
    }
}
