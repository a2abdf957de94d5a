//! stdin, line by line, read ahead of the server within bounds.

use std::io::{self, BufRead, Read as _};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::cli::error::CommandError;

/// Lines that wait for the server. Beyond that stdin is not read, and who writes to it has to wait.
const LINES_WAITING_MAX: usize = 1024;
/// Bytes in them, likewise; but for one line, which may be longer.
const BYTES_WAITING_MAX: usize = 4 << 20;
/// A longer line is not kept in memory. By default servers take 10 MiB.
const LINE_BYTES_MAX: usize = 64 << 20;

/// A line of stdin.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1 on.
    pub(super) number: u64,
    /// With its line break.
    pub(super) text: Vec<u8>,
    /// Others are read once this one is done with.
    _room: OwnedSemaphorePermit,
}

/// The lines of stdin, until one cannot be read. They are read on a thread of its own, which ends with stdin or with the
/// process: a blocked read of a pipe cannot be called off.
pub(super) fn read_lines() -> mpsc::Receiver<Result<Line, CommandError>> {
    lines_of(|| io::stdin().lock())
}

fn lines_of<R: BufRead>(
    input: impl FnOnce() -> R + Send + 'static,
) -> mpsc::Receiver<Result<Line, CommandError>> {
    let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
    let runtime = Handle::current();
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let room = Arc::new(Semaphore::new(BYTES_WAITING_MAX));
            let mut input = input();
            for number in 1.. {
                let Some(read) = read_line(&mut input, number).transpose() else {
                    return;
                };
                let line = read.map(|text| Line {
                    number,
                    _room: runtime.block_on(room_for(&room, text.len())),
                    text,
                });
                let is_last = line.is_err();
                if sender.blocking_send(line).is_err() || is_last {
                    return;
                }
            }
        })
        .expect("the system has room for one thread");
    receiver
}

/// Waits until a line may wait beside the others. One that is longer than all of them may be waits for their end.
async fn room_for(room: &Arc<Semaphore>, bytes: usize) -> OwnedSemaphorePermit {
    let bytes = u32::try_from(bytes.min(BYTES_WAITING_MAX)).expect("less than 4 GiB");
    let room = Arc::clone(room).acquire_many_owned(bytes).await;
    room.expect("it is never closed")
}

fn read_line(input: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>, CommandError> {
    let mut text = Vec::new();
    let mut limited = input.take(LINE_BYTES_MAX as u64 + 1);
    limited
        .read_until(b'\n', &mut text)
        .map_err(|source| CommandError::Input { source })?;
    match text.len() {
        0 => Ok(None),
        length if length > LINE_BYTES_MAX => Err(CommandError::LongLine {
            line: number,
            max: LINE_BYTES_MAX,
        }),
        _ => Ok(Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_line_needs_no_line_break_and_a_line_has_a_limit() {
        let mut input = &b"a\nb"[..];
        for expected in [Some(&b"a\n"[..]), Some(b"b"), None] {
            assert_eq!(read_line(&mut input, 1).expect("text").as_deref(), expected);
        }
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(matches!(
            read_line(&mut &long[..], 7),
            Err(CommandError::LongLine { line: 7, .. })
        ));
    }

    /// Lines of a mebibyte, for ever, and how much of them was read.
    struct LongLines(Arc<AtomicUsize>);

    const LONG_BYTES: usize = 1 << 20;

    impl Read for LongLines {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let before = self.0.load(Ordering::SeqCst);
            let count = buffer.len().min(LONG_BYTES - before % LONG_BYTES);
            buffer[..count].fill(b'x');
            if (before + count).is_multiple_of(LONG_BYTES) {
                buffer[count - 1] = b'\n';
            }
            self.0.store(before + count, Ordering::SeqCst);
            Ok(count)
        }
    }

    /// A thousand lines were read ahead, however long they were.
    #[tokio::test]
    async fn long_lines_are_not_read_far_ahead() {
        let read_bytes = Arc::new(AtomicUsize::new(0));
        let input = LongLines(Arc::clone(&read_bytes));
        let mut lines = lines_of(move || BufReader::with_capacity(LONG_BYTES, input));
        for number in 1..=60 {
            let line = lines.recv().await.expect("there is no end").expect("text");
            assert_eq!((line.number, line.text.len()), (number, LONG_BYTES));
            // Time for the thread to go too far.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let passed_bytes = usize::try_from(number - 1).expect("few") * LONG_BYTES;
            // Those that wait, and one that waits for room.
            let most = passed_bytes + BYTES_WAITING_MAX + LONG_BYTES;
            assert!(read_bytes.load(Ordering::SeqCst) <= most, "behind line {number}");
        }
    }

    /// Longer than all lines may be that wait, each of them.
    #[tokio::test]
    async fn a_line_may_be_longer_than_what_may_wait() {
        let text = [vec![b'x'; BYTES_WAITING_MAX + 1], b"\n".to_vec()]
            .concat()
            .repeat(3);
        let mut lines = lines_of(move || io::Cursor::new(text));
        let mut count = 0;
        while let Some(line) = lines.recv().await {
            assert_eq!(line.expect("text").text.len(), BYTES_WAITING_MAX + 2);
            count += 1;
        }
        assert_eq!(count, 3);
    }
}
