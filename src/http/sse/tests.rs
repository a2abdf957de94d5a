use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;
use tailwater_storage::engine::AppendRequest;
use tailwater_storage::stream::{ContentType, CreateCommand, ForkRequest, StreamName};

use super::{FRAME_BYTES_MAX, NewestFrame, Subscriber};
use crate::config::Config;
use crate::http::App;
use crate::http::turns::subscribe;
use crate::server;

/// One that holds no read up and sends no comments.
fn app() -> Arc<App> {
    let day = Duration::from_secs(24 * 60 * 60);
    let mut config = Config::default();
    config.limits.max_read_share_percent = 100;
    config.http.sse_keep_alive = day;
    config.http.sse_duration_max = day;
    server::app_for_tests(config)
}

fn text() -> ContentType {
    ContentType::parse("text/plain").expect("a content type")
}

fn name(app: &App, name: &str) -> StreamName {
    StreamName::parse(name, app.name_limits).expect("a name")
}

async fn create(app: &App, name: &StreamName, source: Option<&StreamName>) {
    let command = CreateCommand {
        content_type: Some(text()),
        fork: source.map(|source| ForkRequest {
            source: source.clone(),
            offset: None,
            sub_offset: 0,
        }),
        ..CreateCommand::default()
    };
    app.engine.create(name, command).await.expect("created");
}

async fn append(app: &App, name: &StreamName, body: &[u8], closes: bool) {
    let append = AppendRequest {
        body: body.to_vec().into(),
        content_type: Some(text()),
        closes,
        ..AppendRequest::default()
    };
    app.engine.append(name, append).await.expect("appended");
}

/// What comes without waiting for anybody. In memory that is all there is.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
    match polled {
        Poll::Ready(came) => Some(came),
        Poll::Pending => None,
    }
}

/// Takes frames until the subscriber waits or ends; their text, which has no line ends, and whether it has ended.
/// There are no more of them than `frames_max`.
async fn take(subscriber: &mut Subscriber, frames_max: usize) -> (String, bool) {
    let mut shown = String::new();
    for _ in 0..=frames_max {
        let Some(events) = at_once(subscriber.next_events()).await else {
            return (shown, false);
        };
        let Some(events) = events else {
            return (shown, true);
        };
        let events = String::from_utf8(events.bytes().to_vec()).expect("UTF-8");
        for event in events
            .split("\n\n")
            .filter(|event| event.starts_with("event: data\n"))
        {
            shown.extend(event.lines().filter_map(|line| line.strip_prefix("data:")));
        }
    }
    panic!("more than {frames_max} frames, behind {} bytes", shown.len());
}

/// Whether anything of a stream's events is kept beside it.
fn keeps_a_frame(subscriber: &Subscriber) -> bool {
    let newest = subscriber.reader.incarnation().attachment::<Arc<NewestFrame>>();
    newest.keeps_any()
}

/// The last frame of each stream that somebody followed stayed in memory as long as the reader did: of ten thousand
/// streams with a reader each, gigabytes that nobody would ask for again.
#[tokio::test]
async fn nothing_is_kept_for_readers_who_have_all_there_is() {
    let app = app();
    let stream = name(&app, "followed");
    create(&app, &stream, None).await;
    let mut reader = subscribe(&app, &stream).await;
    assert!(take(&mut reader, 1).await.0.is_empty());
    for _ in 0..3 {
        append(&app, &stream, &vec![b'x'; 200 << 10], false).await;
        assert_eq!(take(&mut reader, 1).await.0.len(), 200 << 10);
        assert!(!keeps_a_frame(&reader));
    }
    // Who comes later and reads what was there before is no different.
    let mut late = subscribe(&app, &stream).await;
    assert_eq!(take(&mut late, 3).await.0.len(), 600 << 10);
    assert!(!keeps_a_frame(&late));
}

/// Of each closed stream that was read by events the last frame stayed.
#[tokio::test]
async fn nothing_is_kept_once_nobody_is_there() {
    let app = app();
    for closes in [true, false] {
        let stream = name(&app, if closes { "closed" } else { "open" });
        create(&app, &stream, None).await;
        append(&app, &stream, &vec![b'x'; 200 << 10], closes).await;
        let mut reader = subscribe(&app, &stream).await;
        let newest = Arc::clone(reader.reader.incarnation().attachment::<Arc<NewestFrame>>());
        if closes {
            assert!(take(&mut reader, 2).await.1, "it has ended");
        } else {
            assert!(at_once(reader.next_events()).await.flatten().is_some());
        }
        drop(reader);
        assert!(!newest.keeps_any(), "closed: {closes}");
    }
}

#[tokio::test]
async fn a_frame_is_shared_until_all_subscribers_have_it() {
    let app = app();
    let stream = name(&app, "shared");
    create(&app, &stream, None).await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut reader = subscribe(&app, &stream).await;
        take(&mut reader, 1).await;
        readers.push(reader);
    }
    for round in 0..3 {
        append(&app, &stream, format!("append {round}").as_bytes(), false).await;
        let mut chunks = Vec::new();
        for (number, reader) in readers.iter_mut().enumerate() {
            assert_eq!(
                keeps_a_frame(reader),
                number > 0,
                "reader {number} of round {round}"
            );
            let events = at_once(reader.next_events()).await.flatten().expect("an event");
            chunks.push(events.chunk().as_ptr());
            assert!(at_once(reader.next_events()).await.is_none(), "it waits");
        }
        assert_eq!(chunks, [chunks[0]; 3], "one frame for all");
        assert!(!keeps_a_frame(&readers[0]));
    }
    // One goes away without having taken it.
    append(&app, &stream, b"last", false).await;
    for reader in &mut readers[..2] {
        assert!(!take(reader, 1).await.0.is_empty());
    }
    assert!(keeps_a_frame(&readers[0]));
    readers.pop();
    assert!(!keeps_a_frame(&readers[0]));
}

/// Bytes of appends: a few, about a frame, or more than one.
fn append_bytes() -> impl Strategy<Value = usize> {
    let frame = usize::try_from(FRAME_BYTES_MAX).expect("small");
    prop_oneof![1..6_usize, frame - 4..frame + 5, frame..2 * frame]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Readers of texts got stuck where an append that is longer than a frame completes a character.
    #[test]
    fn any_text_comes_whole_however_appends_and_forks_cut_it(
        sizes in proptest::collection::vec(append_bytes(), 1..6),
        begins_at in 0..10_usize,
        forked_before in 0..8_usize,
        joined_behind in 0..6_usize,
    ) {
        let letters = "aé€\u{1f600}".repeat(sizes.iter().sum::<usize>() / 10 + 2).into_bytes();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let app = app();
            let (mut stream, fork) = (name(&app, "text"), name(&app, "fork"));
            create(&app, &stream, None).await;
            let (mut end, mut subscriber, mut shown, mut ended) = (begins_at, None, String::new(), false);
            for (number, size) in sizes.iter().enumerate() {
                if number == forked_before {
                    create(&app, &fork, Some(&stream)).await;
                    stream = fork.clone();
                }
                let is_last = number + 1 == sizes.len();
                append(&app, &stream, &letters[end..end + size], is_last).await;
                end += size;
                let forks_later = (number + 1..sizes.len()).contains(&forked_before);
                if is_last || (number >= joined_behind && !forks_later) {
                    if subscriber.is_none() {
                        subscriber = Some(subscribe(&app, &stream).await);
                    }
                    let subscriber = subscriber.as_mut().expect("it has joined");
                    let more;
                    (more, ended) = take(subscriber, 2 * sizes.len() + 2).await;
                    shown.push_str(&more);
                }
            }
            let expected = String::from_utf8_lossy(&letters[begins_at..end]);
            prop_assert!(shown == expected, "{} bytes of {}", shown.len(), expected.len());
            prop_assert!(ended, "nobody was told of the close");
            Ok(())
        })?;
    }
}
