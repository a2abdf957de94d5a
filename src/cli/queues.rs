//! `tailwater queue`: makes queues and looks after them. Working for one is in `work`.

use serde_json::{Map, Value, json};

use super::arguments::queues::{
    QueueCommand, QueueCreateOptions, QueueEnqueueOptions, QueueListOptions, QueueOptions, QueuePurgeOptions,
    QueueRedriveOptions,
};
use super::error::CommandError;
use super::input::json_of;
use super::listing;
use super::output::{Output, cell};
use super::patience::patiently;
use super::work;
use crate::client::Enqueue;

pub(super) async fn queue(command: &QueueCommand, output: &mut Output) -> Result<(), CommandError> {
    match command {
        QueueCommand::Create(options) => create(options, output).await,
        QueueCommand::List(options) => list(options, output).await,
        QueueCommand::Stats(options) => stats(options, output).await,
        QueueCommand::Enqueue(options) => enqueue(options, output).await,
        QueueCommand::Work(options) => work::work(options, output).await,
        QueueCommand::Dead(options) => dead(options, output).await,
        QueueCommand::Redrive(options) => redrive(options, output).await,
        QueueCommand::Pause(options) => ask(options, "pause", &json!({}), output).await,
        QueueCommand::Resume(options) => ask(options, "resume", &json!({}), output).await,
        QueueCommand::Purge(options) => purge(options, output).await,
        QueueCommand::Delete(options) => delete(options).await,
    }
}

async fn create(options: &QueueCreateOptions, output: &mut Output) -> Result<(), CommandError> {
    let stream = &options.queue.stream;
    let client = options.queue.connection.client()?;
    let settings = settings(options);
    let made = patiently(async || client.put_queue(stream, &settings).await).await?;
    let what = if made.is_new {
        "created"
    } else {
        "changed, if it was another one,"
    };
    eprintln!("{what} the queue `{stream}`");
    if options.json {
        output.line(&made.document.to_string())?;
    }
    output.flush()
}

/// The settings that were given.
fn settings(options: &QueueCreateOptions) -> Value {
    let backoff = given([
        ("base_ms", options.backoff_base_ms.map(Value::from)),
        ("cap_ms", options.backoff_cap_ms.map(Value::from)),
        ("jitter", options.backoff_jitter.map(Value::from)),
    ]);
    Value::Object(given([
        ("lease_ms", options.lease_ms.map(Value::from)),
        ("max_attempts", options.max_attempts.map(Value::from)),
        ("backoff", (!backoff.is_empty()).then_some(Value::Object(backoff))),
        ("concurrency", options.concurrency.map(Value::from)),
        (
            "concurrency_key",
            options.concurrency_key.clone().map(Value::from),
        ),
        (
            "concurrency_per_key",
            options.concurrency_per_key.map(Value::from),
        ),
        ("run_prefix", options.run_prefix.clone().map(Value::from)),
        ("dead_letter", options.dead_letter.clone().map(Value::from)),
        ("run_timeout_ms", options.run_timeout_ms.map(Value::from)),
        ("start_ttl_ms", options.start_ttl_ms.map(Value::from)),
        ("run_retention_ms", options.run_retention_ms.map(Value::from)),
    ]))
}

fn given<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let fields = fields.into_iter();
    fields
        .filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)))
        .collect()
}

async fn list(options: &QueueListOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let page = async |after: Option<&str>| {
        let page = client.queues(after).await?;
        Ok((page.queues, page.next))
    };
    let line = |queue: &Value| match (options.json, options.long) {
        (true, _) => queue.to_string(),
        (false, true) => long_line(queue),
        (false, false) => cell(&queue["stream"]),
    };
    listing::print(output, page, line).await
}

fn long_line(queue: &Value) -> String {
    let is_paused = queue["paused"].as_bool().unwrap_or_default();
    let state = if is_paused { "paused" } else { "running" };
    let counts = ["ready", "leased", "scheduled", "dead"].map(|name| cell(&queue[name]));
    format!("{}\t{state}\t{}", cell(&queue["stream"]), counts.join("\t"))
}

async fn stats(options: &QueueOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let queue = patiently(async || client.queue(&options.stream).await).await?;
    output.line(&queue.to_string())?;
    output.flush()
}

async fn enqueue(options: &QueueEnqueueOptions, output: &mut Output) -> Result<(), CommandError> {
    let job = Enqueue {
        payload: json_of(options.payload.as_deref())?,
        id: options.id.clone(),
        run_at: options.run_at.clone(),
        max_attempts: options.max_attempts,
    };
    let stream = &options.queue.stream;
    let client = options.queue.connection.client()?;
    let made = patiently(async || client.enqueue(stream, &job).await).await?;
    if !made.is_new {
        eprintln!("the very same job is in `{stream}` already");
    }
    if options.json {
        output.line(&made.document.to_string())?;
    } else {
        output.line(&cell(&made.document["run"]))?;
    }
    output.flush()
}

async fn dead(options: &QueueOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let page = async |after: Option<&str>| {
        let page = client.dead_letters(&options.stream, after).await?;
        Ok((page.dead, page.next))
    };
    listing::print(output, page, Value::to_string).await
}

async fn redrive(options: &QueueRedriveOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.queue.connection.client()?;
    let (stream, job) = (&options.queue.stream, options.job.as_deref());
    let redriven = patiently(async || client.redrive(stream, job).await).await?;
    output.line(&redriven.to_string())?;
    output.flush()
}

async fn purge(options: &QueuePurgeOptions, output: &mut Output) -> Result<(), CommandError> {
    let what = json!({ "what": options.what.name() });
    ask(&options.queue, "purge", &what, output).await
}

async fn ask(
    options: &QueueOptions,
    what: &str,
    body: &Value,
    output: &mut Output,
) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    let answer = patiently(async || client.ask_queue(&options.stream, what, body).await).await?;
    output.line(&answer.to_string())?;
    output.flush()
}

async fn delete(options: &QueueOptions) -> Result<(), CommandError> {
    let client = options.connection.client()?;
    patiently(async || client.delete_queue(&options.stream).await).await?;
    eprintln!("`{}` is no queue any more", options.stream);
    Ok(())
}
