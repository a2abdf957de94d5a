//! The source of the Postgres mirror against the real server, the real edge, and servers that behave badly.

mod discovery;
mod edge;
mod faults;
mod reading;
mod removal;
mod scripted;

use std::sync::Arc;

use tailwater_e2e::{PATIENCE, Server};
use tailwater_sync::event::{Chunk, Event, Offset};
use tailwater_sync::source::{Change, Discovery, Error, Patterns, Settings, Source, Stream};

/// A source with the defaults for that server.
fn source(server: &Server) -> Source {
    Source::new(settings(server)).expect("the server's URL is one")
}

fn settings(server: &Server) -> Settings {
    Settings::new(&format!("{}{}", server.origin(), server.base_path()))
}

/// The stream of that name, which has to be there.
async fn stream(source: &Source, name: &str) -> Stream {
    let found = source.look(&name.into()).await.expect("the server answers");
    found.unwrap_or_else(|| panic!("there is no stream {name}"))
}

/// One read behind an offset.
async fn read(source: &Source, stream: &Stream, after: Offset) -> Result<Chunk, Error> {
    source
        .read(&stream.name, stream.incarnation, &stream.content_type, after)
        .await
}

/// All chunks from an offset up to the tail, the last of which may have nothing in it.
async fn read_on(source: &Source, stream: &Stream, after: Offset) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut after = after;
    loop {
        let chunk = read(source, stream, after).await.expect("it can be read");
        assert_eq!(chunk.after, after);
        after = chunk.next;
        let is_last = chunk.next == stream.next;
        chunks.push(chunk);
        if is_last {
            return chunks;
        }
    }
}

fn events(chunks: &[Chunk]) -> Vec<&Event> {
    chunks.iter().flat_map(|chunk| &chunk.events).collect()
}

/// What the events carry, as text that loses nothing.
fn payloads(chunks: &[Chunk]) -> Vec<&[u8]> {
    let events = events(chunks).into_iter();
    events.map(|event| &event.payload.as_bytes()[..]).collect()
}

fn discovery(source: &Source, patterns: &[&str]) -> Discovery {
    let patterns = Patterns::parse(patterns.iter().copied()).expect("patterns");
    Discovery::new(source.clone(), patterns)
}

/// The next news. Errors that heal are waited out.
async fn next(discovery: &mut Discovery) -> Vec<Change> {
    let news = async {
        loop {
            match discovery.next().await {
                Ok(changes) => return changes,
                Err(error) if error.heals() => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, news)
        .await
        .expect("news within patience")
}

/// News until one is as it should be, which is the last of them.
async fn until(discovery: &mut Discovery, is_last: impl Fn(&Change) -> bool) -> Vec<Change> {
    let mut news = Vec::new();
    loop {
        news.extend(next(discovery).await);
        if news.iter().any(&is_last) {
            return news;
        }
    }
}

/// A change as a word and a name.
fn told(change: &Change) -> (&'static str, Arc<str>) {
    match change {
        Change::Appeared(stream) => ("appeared", Arc::clone(&stream.name)),
        Change::Moved(stream) => ("moved", Arc::clone(&stream.name)),
        Change::Closed(stream) => ("closed", Arc::clone(&stream.name)),
        Change::Deleted { name, .. } => ("deleted", Arc::clone(name)),
    }
}

/// Whether a change is that word about that stream.
fn is<'a>(word: &'a str, name: &'a str) -> impl Fn(&Change) -> bool + 'a {
    move |change| {
        let (said, of) = told(change);
        said == word && *of == *name
    }
}

fn trim(server: &Server, name: &str, before: &str) {
    let body = serde_json::json!({ "stream": name, "before": before }).to_string();
    let request = tailwater_e2e::Request::new("POST", &server.path("__ds/trim")).body(body);
    server.send(&request).expect(204);
}
