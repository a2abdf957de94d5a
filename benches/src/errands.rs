//! Requests that are each made once, as fast as some connections can: creates streams and fills them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::channels::{Channels, Handler};
use crate::connection::{Connection, Fault};
use crate::request::Target;
use crate::response::{Head, Piece};

/// A server that answers nothing for this long is broken.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes requests 0 to `count - 1`, one outstanding on each connection, and waits for all answers.
/// `request` gives the bytes of one. Answers how long it took.
pub(crate) fn run(
    target: &Target,
    connections: usize,
    count: u64,
    request: impl FnMut(u64) -> Vec<u8>,
) -> Result<Duration> {
    let mut channels = Channels::new()?;
    let mut errands = Errands {
        request,
        count,
        begun: 0,
        done: 0,
    };
    let started = Instant::now();
    for _ in 0..count.min(connections as u64) {
        let index = channels.open(target.address)?;
        if let Some(request) = errands.next() {
            channels.send(index, &request);
        }
    }
    let (mut done, mut progress_at) = (0, Instant::now());
    while errands.done < count {
        channels.poll(Duration::from_secs(1), &mut errands)?;
        channels.check()?;
        if errands.done > done {
            (done, progress_at) = (errands.done, Instant::now());
        }
        ensure!(
            progress_at.elapsed() < STALL_TIMEOUT,
            "only {done} of {count} requests were answered"
        );
    }
    Ok(started.elapsed())
}

struct Errands<R> {
    request: R,
    count: u64,
    begun: u64,
    /// Always <= `begun`.
    done: u64,
}

impl<R: FnMut(u64) -> Vec<u8>> Errands<R> {
    fn next(&mut self) -> Option<Vec<u8>> {
        let number = self.begun;
        (number < self.count).then(|| {
            self.begun += 1;
            (self.request)(number)
        })
    }
}

impl<R: FnMut(u64) -> Vec<u8>> Handler for Errands<R> {
    fn take(
        &mut self,
        _index: usize,
        piece: &Piece<'_>,
        _head: &Head,
        connection: &mut Connection,
    ) -> Result<(), Fault> {
        if *piece == Piece::End {
            self.done += 1;
            if let Some(request) = self.next() {
                connection.send(&request)?;
            }
        }
        Ok(())
    }
}
