use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream};

use super::{Activity, JOINED_BYTES_MAX, Overdue, Protocol, Timeouts, Watched};

const PATIENCE: Duration = Duration::from_secs(60);
const TIMEOUTS: Timeouts = Timeouts {
    header: PATIENCE,
    idle: PATIENCE,
    write: Duration::from_millis(100),
};

/// Over TLS the last bytes of an answer may have been accepted and not be sent, so that no write tells of a client
/// that takes nothing.
#[tokio::test]
async fn a_client_that_does_not_take_what_is_flushed_stalls_and_one_that_takes_it_late_does_not() {
    let (ours, mut theirs) = tokio::io::duplex(4);
    let activity = Arc::new(Activity::new(Protocol::Http1));
    let _busy = activity.begin_request();
    let mut watched = Watched::new(BufStream::new(ours), Arc::clone(&activity));
    watched.write_all(b"the end").await.expect("it is kept");

    tokio::select! {
        overdue = activity.watch(TIMEOUTS) => assert_eq!(overdue, Overdue::Rest),
        flushed = watched.flush() => panic!("nobody reads: {flushed:?}"),
        () = tokio::time::sleep(PATIENCE) => panic!("nobody notices"),
    }

    let mut taken = [0; 7];
    let (flushed, read) = tokio::join!(watched.flush(), theirs.read_exact(&mut taken));
    flushed.expect("it is taken");
    assert_eq!(read.expect("all of it comes"), 7);
    assert_eq!(
        activity.stalled_since_ms.load(Ordering::Relaxed),
        0,
        "it is late no more"
    );
}

/// Keeps what is written, each write by itself.
#[derive(Default)]
struct Calls(Vec<(&'static str, Vec<u8>)>);

impl AsyncWrite for Calls {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.push(("one", bytes.to_vec()));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let len = bytes.len();
        self.0.push(("many", bytes));
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn small_slices_are_written_as_one_and_longer_ones_are_not_copied() {
    let activity = Arc::new(Activity::new(Protocol::Http1));
    let mut watched = Watched::new(Calls::default(), activity);
    let (head, long) = ([b'h'; 300], [b'b'; JOINED_BYTES_MAX - 299]);
    for parts in [
        vec![&head[..]],
        vec![&head[..], b"", b"body"],
        vec![&head[..], &long[..JOINED_BYTES_MAX - 300]],
        vec![&head[..], &long[..]],
        vec![&long[..], &long[..], &head[..]],
    ] {
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let written = watched.write_vectored(&slices).await.expect("it takes all");
        let whole = parts.concat();
        assert_eq!(written, whole.len());
        let is_one = parts.len() == 1 || whole.len() <= JOINED_BYTES_MAX;
        let how = if is_one { "one" } else { "many" };
        assert_eq!(watched.stream.0.pop(), Some((how, whole)));
    }
}
