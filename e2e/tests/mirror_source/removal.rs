//! What the mirror has can be taken away at the source, and nothing else.

use tailwater_e2e::Server;
use tailwater_sync::event::Offset;
use tailwater_sync::source::Error;

use super::{payloads, read, read_on, source, stream};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_deleted_if_it_is_the_one_that_was_meant() {
    let server = Server::start();
    let source = source(&server);
    let first = server.stream("done").create();
    first.close();
    let old = stream(&source, "done").await;
    source
        .delete(&old.name, old.incarnation)
        .await
        .expect("it is deleted");
    source
        .delete(&old.name, old.incarnation)
        .await
        .expect("it is gone already");
    assert_eq!(source.look(&old.name).await.expect("an answer"), None);

    server.stream("done").create().append("7");
    let new = stream(&source, "done").await;
    let refused = source.delete(&old.name, old.incarnation).await;
    assert!(matches!(&refused, Err(Error::Replaced { incarnation, .. }) if *incarnation == new.incarnation));
    assert_eq!(stream(&source, "done").await, new, "it is untouched");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_trimmed_up_to_what_was_read() {
    let server = Server::start();
    let source = source(&server);
    let open = server.stream("open").create();
    let first: Offset = open.append("[1]").parse().expect("an offset");
    open.append("[2]");
    let seen = stream(&source, "open").await;
    for _ in 0..2 {
        let oldest = source
            .trim(&seen.name, seen.incarnation, first)
            .await
            .expect("it is trimmed");
        assert_eq!(oldest, first, "once more changes nothing");
    }
    let read_of_all = read(&source, &seen, Offset::BEGINNING).await;
    assert!(matches!(read_of_all, Err(Error::OffsetGone { oldest, .. }) if oldest == first));
    assert_eq!(payloads(&read_on(&source, &seen, first).await), [b"2"]);

    let beyond = seen
        .next
        .to_string()
        .replace("_0000000000000004", "_0000000000000099");
    let beyond = beyond.parse().expect("an offset");
    let refused = source.trim(&seen.name, seen.incarnation, beyond).await;
    assert!(matches!(refused, Err(Error::OffsetUnknown { offset, .. }) if offset == beyond));
    open.delete();
    let refused = source.trim(&seen.name, seen.incarnation, first).await;
    assert!(matches!(refused, Err(Error::StreamGone { .. })), "{refused:?}");
    server.stream("open").create();
    let refused = source.trim(&seen.name, seen.incarnation, Offset::BEGINNING).await;
    assert!(matches!(refused, Err(Error::Replaced { .. })), "{refused:?}");
    server.stop();
}
