//! Where the kernel sends from files: how much of them, what it means that they cannot be read, and how long the queue is.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use tailwater_storage::disk::{Disk as _, RealDisk, SealedPlace};
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

use super::super::{ClearSocket, FROM_FILE_BYTES_MAX, FROM_FILE_BYTES_MIN, SockRef, UNSENT_BYTES_MAX};
use super::{FILE_BYTES, PATIENCE, content, pair, received, runtime, sent, stored, write};

/// Compaction unlinks segments that somebody still reads, and their memory is used for other files then.
#[test]
fn what_stands_in_an_unlinked_file_arrives_though_its_map_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = content(1, FILE_BYTES);
    runtime().block_on(async {
        let (mut ours, theirs) = pair().await;
        let map = stored(&dir, "first", &bytes);
        let mut left = map.bytes(0..bytes.len() as u64);
        std::fs::remove_file(dir.path().join("first")).expect("unlinked");
        let taken = loop {
            let at_once = std::future::poll_fn(|context| {
                std::task::Poll::Ready(Pin::new(&mut ours).poll_write(context, &left))
            })
            .await;
            match at_once {
                std::task::Poll::Ready(written) => left = left.slice(written.expect("sent")..),
                std::task::Poll::Pending => break bytes.len() - left.len(),
            }
        };
        assert!(taken > 0 && ours.metrics.bytes_from_files() == taken as u64);
        // What the socket holds now belongs to nobody else.
        drop(left);
        let others: Vec<_> = (0..8)
            .map(|other| stored(&dir, &other.to_string(), &content(2, FILE_BYTES)))
            .collect();
        drop(ours);
        let received = thread::spawn(move || received(theirs))
            .join()
            .expect("a reader")
            .expect("an end");
        assert!(
            received == bytes[..taken],
            "{} bytes came of {taken}",
            received.len()
        );
        drop(others);
    });
}

#[test]
fn a_file_that_is_shorter_than_its_map_ends_the_answer_with_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = content(1, FILE_BYTES);
    let map = stored(&dir, "cut", &bytes);
    let kept = FILE_BYTES / 2 + 11;
    RealDisk
        .open(&dir.path().join("cut"))
        .and_then(|file| file.set_len(kept as u64))
        .expect("cut off");
    let pieces = [Bytes::from_static(b"head"), map.bytes(100..FILE_BYTES as u64)];
    let (written, received, from_files) = sent(&pieces);
    assert_eq!(
        written.expect_err("bytes are missing").kind(),
        io::ErrorKind::UnexpectedEof
    );
    assert!(
        received == [b"head", &bytes[100..kept]].concat(),
        "{} bytes",
        received.len()
    );
    assert_eq!(from_files, kept as u64 - 100);
}

#[tokio::test]
async fn bytes_that_cannot_be_read_any_more_count_as_refused_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut ours, _theirs) = pair().await;
    write(&dir.path().join("empty"), b"");
    let place = SealedPlace {
        file: Arc::new(File::open(dir.path().join("empty")).expect("opened")),
        offset: 0,
    };
    let bytes = content(1, FROM_FILE_BYTES_MIN);
    let sent = std::future::poll_fn(|context| ours.poll_send(context, &place, &bytes)).await;
    assert_eq!(
        sent.expect_err("nothing is there").kind(),
        io::ErrorKind::UnexpectedEof
    );
    assert_eq!(ours.metrics.refusals("storage_failed"), 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_sent_from_is_written_from_then_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut ours, theirs) = pair().await;
    // Nothing can be sent from a directory, as nothing can from files of some file systems.
    let place = SealedPlace {
        file: Arc::new(File::open(dir.path()).expect("opened")),
        offset: 0,
    };
    let bytes = content(1, FROM_FILE_BYTES_MIN);
    let map = stored(&dir, "file", &bytes);
    let kept = map.bytes(0..bytes.len() as u64);
    assert!(ours.place_of(&kept).is_some());
    let sent = std::future::poll_fn(|context| ours.poll_send(context, &place, &bytes))
        .await
        .expect("it is written instead");
    assert!(ours.place_of(&kept).is_none(), "it is not tried again");
    assert_eq!(ours.metrics.bytes_from_files(), 0);
    assert_eq!(ours.metrics.refusals("storage_failed"), 0);
    drop(ours);
    let received = thread::spawn(move || received(theirs))
        .join()
        .expect("a reader")
        .expect("an end");
    assert!(received == bytes[..sent]);
}

#[tokio::test]
async fn no_call_sends_so_much_that_others_wait_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = content(1, 3 * FROM_FILE_BYTES_MAX);
    let map = stored(&dir, "long", &bytes);
    let (mut ours, theirs) = pair().await;
    let reader = thread::spawn(move || received(theirs));
    let mut left = map.bytes(0..bytes.len() as u64);
    // One deadline for all of it: at its own each call would be made once more, and find that there is room.
    let all_sent = tokio::time::timeout(PATIENCE, async {
        while !left.is_empty() {
            let sent = ours.write(&left).await.expect("sent");
            assert!((1..=FROM_FILE_BYTES_MAX).contains(&sent), "{sent}");
            left = left.slice(sent..);
        }
    });
    all_sent.await.expect("what the other end reads is sent");
    drop(ours);
    let received = reader.join().expect("a reader").expect("an end");
    assert!(received == bytes);
}

/// A long queue of what is not sent yet makes sending from files cost more than a copy, and a short one makes copies
/// cost more.
#[tokio::test]
async fn the_queue_is_short_only_while_it_is_filled_from_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = content(1, FROM_FILE_BYTES_MIN);
    let map = stored(&dir, "file", &bytes);
    let (mut ours, theirs) = pair().await;
    let reader = thread::spawn(move || received(theirs));
    let from_file = map.bytes(0..bytes.len() as u64);
    let queue = |socket: &ClearSocket| {
        SockRef::from(&socket.stream)
            .tcp_notsent_lowat()
            .expect("it is told")
    };
    let of_system = queue(&ours);
    for _ in 0..2 {
        let sent = tokio::time::timeout(PATIENCE, ours.write_all(&from_file)).await;
        sent.expect("it is taken").expect("sent");
        ours.write_all(b"short").await.expect("written");
        assert_eq!(queue(&ours), UNSENT_BYTES_MAX);
        ours.write_all(&bytes).await.expect("written");
        assert_eq!(queue(&ours), of_system);
    }
    drop(ours);
    let received = reader.join().expect("a reader").expect("an end");
    let once = [&bytes[..], b"short", &bytes[..]].concat();
    assert!(received == once.repeat(2));
}
