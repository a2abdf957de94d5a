//! What one client has of the server: requests, connections, live reads and bytes in flight, each with its limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::bucket::{Bucket, Rate};

/// What each client may have. None means that there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClientLimits {
    pub(crate) reads: Option<Rate>,
    pub(crate) writes: Option<Rate>,
    pub(crate) requests_max: Option<usize>,
    pub(crate) connections_max: Option<usize>,
    pub(crate) live_readers_max: Option<usize>,
    pub(crate) in_flight_bytes_max: Option<usize>,
}

impl ClientLimits {
    /// Whether there is any.
    pub(crate) fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

/// What a request does with its stream. Each kind has a bucket of its own, so that a client's reads leave room for its
/// writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// A client that is known.
#[derive(Debug)]
pub(crate) struct Client {
    limits: ClientLimits,
    reads: Bucket,
    writes: Bucket,
    requests: AtomicUsize,
    connections: AtomicUsize,
    live_readers: AtomicUsize,
    in_flight_bytes: AtomicUsize,
}

/// What is left of a client's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Requests that a client may make at once after a pause.
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
}

/// A client has too much of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Excess {
    pub(crate) limit: u64,
    /// When there is room again, if that is known.
    pub(crate) wait: Option<Duration>,
}

impl Excess {
    fn of(limit: usize) -> Self {
        Self {
            limit: limit as u64,
            wait: None,
        }
    }
}

impl Client {
    pub(super) fn new(limits: ClientLimits) -> Self {
        Self {
            limits,
            reads: Bucket::default(),
            writes: Bucket::default(),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            live_readers: AtomicUsize::new(0),
            in_flight_bytes: AtomicUsize::new(0),
        }
    }

    /// Counts a request. None if requests are not limited, as mostly; then nobody looks at the clock.
    ///
    /// # Errors
    /// [`Excess`] if there were too many in too short a time.
    pub(super) fn admit_request(
        &self,
        kind: Kind,
        now_ns: impl FnOnce() -> u64,
    ) -> Result<Option<Allowance>, Excess> {
        let (rate, bucket) = match kind {
            Kind::Read => (self.limits.reads, &self.reads),
            Kind::Write => (self.limits.writes, &self.writes),
        };
        let Some(rate) = rate else { return Ok(None) };
        let limit = rate.burst;
        match bucket.take(rate, now_ns()) {
            Ok(remaining) => Ok(Some(Allowance { limit, remaining })),
            Err(wait) => Err(Excess {
                limit,
                wait: Some(wait),
            }),
        }
    }

    /// Counts a request that is being answered for as long as the place is held.
    ///
    /// # Errors
    /// [`Excess`] if there are too many.
    pub(crate) fn hold_request(self: &Arc<Self>) -> Result<Held, Excess> {
        self.hold(|client| &client.requests, self.limits.requests_max)
    }

    /// Counts an open connection for as long as the place is held.
    ///
    /// # Errors
    /// [`Excess`] if there are too many.
    pub(crate) fn admit_connection(self: &Arc<Self>) -> Result<Held, Excess> {
        self.hold(|client| &client.connections, self.limits.connections_max)
    }

    /// Counts a live read for as long as the place is held.
    ///
    /// # Errors
    /// [`Excess`] if there are too many.
    pub(crate) fn admit_live_reader(self: &Arc<Self>) -> Result<Held, Excess> {
        self.hold(|client| &client.live_readers, self.limits.live_readers_max)
    }

    fn hold(self: &Arc<Self>, count: Count, max: Option<usize>) -> Result<Held, Excess> {
        let before = count(self).fetch_add(1, Ordering::Relaxed);
        let held = Held {
            client: Arc::clone(self),
            count,
        };
        match max.filter(|max| before >= *max) {
            Some(max) => Err(Excess::of(max)),
            None => Ok(held),
        }
    }

    /// Counts so many more bytes in flight for a body that has `held` of them. They are to be given back whatever the
    /// answer is.
    ///
    /// # Errors
    /// [`Excess`] if these are too many. One body alone never is: what a body may have is another limit.
    pub(crate) fn take_bytes(&self, bytes: usize, held: usize) -> Result<(), Excess> {
        let before = self.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_alone = before <= held;
        let max = self.limits.in_flight_bytes_max;
        match max.filter(|max| before + bytes > *max && !is_alone) {
            Some(max) => Err(Excess::of(max)),
            None => Ok(()),
        }
    }

    /// Gives back bytes that were taken.
    pub(crate) fn give_back_bytes(&self, bytes: usize) {
        self.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a new client would be the same. What is counted for it is held by those who hold the client.
    pub(super) fn is_idle(&self, now_ns: u64) -> bool {
        self.reads.is_full(now_ns) && self.writes.is_full(now_ns)
    }
}

type Count = fn(&Client) -> &AtomicUsize;

/// A place that a client has, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    client: Arc<Client>,
    count: Count,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.count)(&self.client).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Client, ClientLimits, Excess, Kind};
    use crate::limits::bucket::Rate;

    fn client(limits: ClientLimits) -> Arc<Client> {
        Arc::new(Client::new(limits))
    }

    #[test]
    fn places_are_given_back_also_by_those_who_were_refused() {
        let client = client(ClientLimits {
            connections_max: Some(2),
            live_readers_max: Some(1),
            ..ClientLimits::default()
        });
        let first = client.admit_connection().expect("a place");
        let _second = client.admit_connection().expect("a place");
        let excess = Excess { limit: 2, wait: None };
        for _ in 0..3 {
            assert_eq!(client.admit_connection().expect_err("none is left"), excess);
        }
        let _reader = client
            .admit_live_reader()
            .expect("connections do not count as readers");
        assert!(client.admit_live_reader().is_err());
        drop(first);
        client.admit_connection().expect("the place of the first");
    }

    #[test]
    fn bytes_are_counted_together() {
        let client = client(ClientLimits {
            in_flight_bytes_max: Some(10),
            ..ClientLimits::default()
        });
        client.take_bytes(6, 0).expect("room");
        assert!(client.take_bytes(5, 0).is_err());
        client.give_back_bytes(5);
        client.take_bytes(4, 0).expect("room up to the limit");
        assert!(client.take_bytes(1, 4).is_err(), "the other body has six");
        client.give_back_bytes(1);
        client.give_back_bytes(6);
        client.take_bytes(100, 4).expect("it is alone now");
    }

    #[test]
    fn reads_and_writes_have_buckets_of_their_own() {
        let client = client(ClientLimits {
            reads: Rate::new(1, 1),
            writes: Rate::new(1, 2),
            ..ClientLimits::default()
        });
        let remaining = |kind| {
            let allowance = client.admit_request(kind, || 5)?;
            Ok(allowance.expect("a limit").remaining)
        };
        assert_eq!(remaining(Kind::Read), Ok(0));
        let excess: Excess = remaining(Kind::Read).expect_err("the only read was made");
        assert_eq!((excess.limit, excess.wait.expect("known").as_secs()), (1, 1));
        assert_eq!(remaining(Kind::Write), Ok(1));
        assert!(!client.is_idle(5));
        assert!(client.is_idle(1_000_000_006));
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_count_down() {
        let client = client(ClientLimits::default());
        assert_eq!(client.admit_request(Kind::Read, || 0), Ok(None));
        for _ in 0..3 {
            client.take_bytes(usize::MAX / 8, 0).expect("no limit");
        }
    }
}
