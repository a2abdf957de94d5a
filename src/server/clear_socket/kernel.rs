//! What only Linux can do for a socket that sends from files, and what stands in for it elsewhere: there all bytes are
//! copied. macOS has a `sendfile` too, but neither a way to let bytes wait for those that follow from a file, nor a short
//! queue (`TCP_NOTSENT_LOWAT` by this library), without which it gains nothing.

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod calls {
    use std::fs::File;
    use std::io;
    use std::num::NonZeroUsize;

    use socket2::SockRef;

    /// Whether this system sends from files.
    pub(in crate::server::clear_socket) const SENDS_FILES: bool = true;

    /// Sends a part of a file, so long at the most.
    ///
    /// # Errors
    /// As the system says.
    pub(in crate::server::clear_socket) fn send_file(
        socket: &SockRef<'_>,
        file: &File,
        offset: usize,
        bytes_max: Option<NonZeroUsize>,
    ) -> io::Result<usize> {
        socket.sendfile(file, offset, bytes_max)
    }

    /// Writes slices that wait in the socket for what is written next.
    ///
    /// # Errors
    /// As the system says.
    pub(in crate::server::clear_socket) fn write_before(
        socket: &SockRef<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> io::Result<usize> {
        socket.send_vectored_with_flags(slices, libc::MSG_MORE | libc::MSG_NOSIGNAL)
    }

    /// Lets so much wait in the socket to be sent; 0 leaves it to the system.
    ///
    /// # Errors
    /// As the system says.
    pub(in crate::server::clear_socket) fn limit_unsent(
        socket: &SockRef<'_>,
        bytes_max: u32,
    ) -> io::Result<()> {
        socket.set_tcp_notsent_lowat(bytes_max)
    }
}

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod calls {
    use std::fs::File;
    use std::io;
    use std::num::NonZeroUsize;

    use socket2::SockRef;

    /// Whether this system sends from files.
    pub(in crate::server::clear_socket) const SENDS_FILES: bool = false;

    /// Cannot be done.
    ///
    /// # Errors
    /// Always.
    pub(in crate::server::clear_socket) fn send_file(
        _: &SockRef<'_>,
        _: &File,
        _: usize,
        _: Option<NonZeroUsize>,
    ) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Writes slices.
    ///
    /// # Errors
    /// As the system says.
    pub(in crate::server::clear_socket) fn write_before(
        socket: &SockRef<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> io::Result<usize> {
        socket.send_vectored(slices)
    }

    /// Leaves it to the system.
    ///
    /// # Errors
    /// None.
    pub(in crate::server::clear_socket) fn limit_unsent(_: &SockRef<'_>, _: u32) -> io::Result<()> {
        Ok(())
    }
}

pub(super) use calls::{SENDS_FILES, limit_unsent, send_file, write_before};
