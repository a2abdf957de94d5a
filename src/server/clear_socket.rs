//! The socket of a connection in clear. What stands in sealed files it sends from there, so that it is copied nowhere.
//! Knows no HTTP.
//!
//! hyper writes slices, and some of them lie in a map of a segment. The kernel is asked to send those from the file
//! (`sendfile`): it hands the pages that it has in memory to the network as they are. They are in memory because
//! whoever read them has seen to it; what has been evicted since is read then, as it would be by writing the slice.
//!
//! Little of it is handed over ahead of what can be sent: see [`UNSENT_BYTES_MAX`]. Where the kernel is not Linux
//! (`kernel.rs`) everything is copied.

mod kernel;
#[cfg(test)]
mod tests;

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tailwater_storage::disk::{SealedPlace, sealed_place_of};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::http::Problem;
use crate::metrics::Metrics;

/// Shorter slices are copied: to find the file and to ask for its pages is work too.
const FROM_FILE_BYTES_MIN: usize = 32 << 10;
/// One call sends at most so much, however fast the client takes it: others wait for the same thread.
const FROM_FILE_BYTES_MAX: usize = 1 << 20;
/// The socket takes no more from files once so much waits in it to be sent; what is on its way does not count
/// (`TCP_NOTSENT_LOWAT`). With a long queue `sendfile` was measured to cost two or three times as much as with this one,
/// and as much as a copy; where bytes are copied, a short queue costs more.
const UNSENT_BYTES_MAX: u32 = 64 << 10;
/// Lets the system choose again.
const UNSENT_BYTES_OF_SYSTEM: u32 = 0;

/// A socket in clear.
pub(super) struct ClearSocket {
    stream: TcpStream,
    metrics: Arc<Metrics>,
    /// Until the file system turns out to know nothing of it.
    sends_files: bool,
    /// Whether [`UNSENT_BYTES_MAX`] holds.
    is_short: bool,
}

impl ClearSocket {
    pub(super) fn new(stream: TcpStream, metrics: Arc<Metrics>) -> Self {
        Self {
            stream,
            metrics,
            sends_files: kernel::SENDS_FILES,
            is_short: false,
        }
    }

    /// Where the file is from which to send a slice, if that is better than writing it.
    fn place_of(&self, slice: &[u8]) -> Option<SealedPlace> {
        let is_worth_it = self.sends_files && is_long(slice);
        is_worth_it.then(|| sealed_place_of(slice)).flatten()
    }

    /// Makes the queue of what is not sent short, or as long as the system likes.
    fn shorten(&mut self, is_short: bool) {
        if self.is_short == is_short {
            return;
        }
        self.is_short = is_short;
        let bytes_max = if is_short {
            UNSENT_BYTES_MAX
        } else {
            UNSENT_BYTES_OF_SYSTEM
        };
        if let Err(error) = kernel::limit_unsent(&SockRef::from(&self.stream), bytes_max) {
            tracing::debug!(%error, "the queue of a connection could not be made shorter or longer");
        }
    }

    /// Sends a part of `bytes`, which stand at `place`, and never nothing of them.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        place: &SealedPlace,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shorten(true);
        let offset = usize::try_from(place.offset).map_err(io::Error::other)?;
        let count = NonZeroUsize::new(bytes.len().min(FROM_FILE_BYTES_MAX));
        let sent = ready!(self.poll_call(context, |socket| {
            kernel::send_file(&socket, &place.file, offset, count)
        }));
        match sent {
            // The file has become shorter than its map. To touch the map would end the process.
            Ok(0) => Poll::Ready(Err(self.unreadable(io::ErrorKind::UnexpectedEof.into()))),
            Ok(sent) => {
                self.metrics.sent_from_files(sent);
                Poll::Ready(Ok(sent))
            }
            Err(error) if is_unsupported(&error) => {
                self.sends_files = false;
                self.shorten(false);
                Pin::new(&mut self.stream).poll_write(context, bytes)
            }
            // Sockets give no such error: it is the disk's.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Poll::Ready(Err(self.unreadable(error))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Writes what stands before bytes that are sent from a file, and lets it wait for those: one packet less.
    fn poll_write_before(
        &self,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_call(context, |socket| kernel::write_before(&socket, slices))
    }

    /// Calls the system once the socket can take something; again if it could not after all.
    fn poll_call(
        &self,
        context: &mut Context<'_>,
        mut call: impl FnMut(SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self
                .stream
                .try_io(Interest::WRITABLE, || call(SockRef::from(&self.stream)))
            {
                // It is known now that the socket is full, so that the next look waits for it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                called => return Poll::Ready(called),
            }
        }
    }

    /// An answer that breaks off because of the disk counts as one that was refused for it would.
    fn unreadable(&self, error: io::Error) -> io::Error {
        self.metrics.refused(Problem::storage_failed().code());
        tracing::error!(%error, "an answer broke off: stored bytes cannot be read any more; run `tailwater verify`");
        error
    }
}

/// Whether the file cannot be sent from at all, which not every file system knows how to.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)
    )
}

fn is_long(slice: &[u8]) -> bool {
    slice.len() >= FROM_FILE_BYTES_MIN
}

impl AsyncRead for ClearSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClearSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.place_of(bytes) {
            Some(place) => self.poll_send(context, &place, bytes),
            None => {
                if is_long(bytes) {
                    self.shorten(false);
                }
                Pin::new(&mut self.stream).poll_write(context, bytes)
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let from_file = slices
            .iter()
            .enumerate()
            .find_map(|(index, slice)| Some((index, self.place_of(slice)?)));
        match from_file {
            Some((index, place)) if slices[..index].iter().all(|slice| slice.is_empty()) => {
                self.poll_send(context, &place, &slices[index])
            }
            Some((index, _)) => self.poll_write_before(context, &slices[..index]),
            None => {
                if slices.iter().any(|slice| is_long(slice)) {
                    self.shorten(false);
                }
                Pin::new(&mut self.stream).poll_write_vectored(context, slices)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
