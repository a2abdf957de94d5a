//! The table of clients, which never grows beyond its limit. Knows clients by keys, whatever these are.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tailwater_storage::stats::Counter;

use super::client::{Allowance, Client, ClientLimits, Excess, Kind};

/// Parts of the table at the most, each with a lock of its own.
const SHARDS_MAX: usize = 64;
/// A part has at least room for so many clients, if there is room for so many at all.
const SHARD_CLIENTS_MIN: usize = 64;
/// A part in which everybody was busy is looked through again after that.
const RESCAN_NS: u64 = 100_000_000;

/// All clients that are known.
#[derive(Debug)]
pub(crate) struct Clients<K> {
    limits: ClientLimits,
    since: Instant,
    hasher: RandomState,
    /// As many as a power of two. Empty if clients have no limits.
    shards: Vec<Mutex<Shard<K>>>,
    /// In one part.
    shard_clients_max: usize,
    known: AtomicUsize,
    /// Those share it for whom there is no place.
    others: Arc<Client>,
    strangers: Counter,
}

#[derive(Debug)]
struct Shard<K> {
    clients: HashMap<K, Arc<Client>>,
    /// Nobody was idle when it was full, so that it need not be looked through before this.
    scan_after_ns: u64,
}

impl<K> Shard<K> {
    fn empty() -> Self {
        Self {
            clients: HashMap::new(),
            scan_after_ns: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> Clients<K> {
    /// A table of at most `clients_max`, which is at least 1.
    pub(crate) fn new(limits: ClientLimits, clients_max: usize) -> Self {
        let wanted = (clients_max / SHARD_CLIENTS_MIN).clamp(1, SHARDS_MAX);
        // The greatest power of two that is not more.
        let shards = 1 << wanted.ilog2();
        Self {
            limits,
            since: Instant::now(),
            hasher: RandomState::new(),
            shards: if limits.is_any() {
                (0..shards).map(|_| Mutex::new(Shard::empty())).collect()
            } else {
                Vec::new()
            },
            shard_clients_max: clients_max / shards,
            known: AtomicUsize::new(0),
            others: Arc::new(Client::new(limits)),
            strangers: Counter::default(),
        }
    }

    /// The client of that key; none if clients have no limits. For one that is known this takes a short lock and makes
    /// nothing.
    pub(crate) fn find(&self, key: &K) -> Option<Arc<Client>> {
        self.find_at(key, self.now_ns())
    }

    fn find_at(&self, key: &K, now_ns: u64) -> Option<Arc<Client>> {
        let hash = self.hasher.hash_one(key) as usize;
        let shard = self.shards.get(hash & self.shards.len().checked_sub(1)?)?;
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = shard.clients.get(key) {
            return Some(Arc::clone(client));
        }
        if shard.clients.len() >= self.shard_clients_max && !self.make_room(&mut shard, now_ns) {
            self.strangers.add(1);
            return Some(Arc::clone(&self.others));
        }
        let client = Arc::new(Client::new(self.limits));
        shard.clients.insert(key.clone(), Arc::clone(&client));
        self.known.fetch_add(1, Ordering::Relaxed);
        Some(client)
    }

    /// Puts away all who have nothing and have not asked for anything lately; whether there were any.
    fn make_room(&self, shard: &mut Shard<K>, now_ns: u64) -> bool {
        if now_ns < shard.scan_after_ns {
            return false;
        }
        let before = shard.clients.len();
        // Nobody else holds such a client, and nobody can get hold of it: that takes the lock.
        shard
            .clients
            .retain(|_, client| Arc::strong_count(client) > 1 || !client.is_idle(now_ns));
        let gone = before - shard.clients.len();
        self.known.fetch_sub(gone, Ordering::Relaxed);
        if gone == 0 {
            shard.scan_after_ns = now_ns.saturating_add(RESCAN_NS);
        }
        gone > 0
    }

    /// Counts a request of a client. None if its requests are not limited.
    ///
    /// # Errors
    /// [`Excess`] if there were too many in too short a time.
    pub(crate) fn admit_request(&self, client: &Client, kind: Kind) -> Result<Option<Allowance>, Excess> {
        client.admit_request(kind, || self.now_ns())
    }

    /// Clients that are remembered.
    pub(crate) fn known(&self) -> usize {
        self.known.load(Ordering::Relaxed)
    }

    /// How often somebody came for whom there was no place.
    pub(crate) fn strangers(&self) -> u64 {
        self.strangers.get()
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{ClientLimits, Clients, Kind, RESCAN_NS};
    use crate::limits::bucket::Rate;

    const SECOND_NS: u64 = 1_000_000_000;

    fn table(clients_max: usize) -> Clients<u32> {
        let limits = ClientLimits {
            writes: Rate::new(1, 1),
            connections_max: Some(1),
            ..ClientLimits::default()
        };
        Clients::new(limits, clients_max)
    }

    #[test]
    fn without_limits_nobody_is_remembered() {
        let clients = Clients::new(ClientLimits::default(), 10);
        assert!(clients.find(&1).is_none());
        assert_eq!(clients.known(), 0);
    }

    #[test]
    fn the_excess_of_one_client_does_not_touch_another() {
        let clients = table(1_000);
        let find = |number| clients.find_at(&number, 0).expect("a client");
        assert!(find(1).admit_request(Kind::Write, || 0).is_ok());
        assert!(find(1).admit_request(Kind::Write, || 0).is_err());
        assert!(find(2).admit_request(Kind::Write, || 0).is_ok());
    }

    #[test]
    fn who_is_idle_makes_room_and_who_is_not_stays() {
        let clients = table(2);
        let find = |number, now_ns| clients.find_at(&number, now_ns).expect("a client");
        let held = find(1, 0).admit_connection().expect("a place");
        find(2, 0).admit_request(Kind::Write, || 0).expect("a token");
        // The first has a connection, and the bucket of the second is not full yet.
        let stranger = find(3, 1);
        assert_eq!((clients.known(), clients.strangers()), (2, 1));
        assert!(
            Arc::ptr_eq(&stranger, &find(4, 2)),
            "those without a place share one"
        );
        let client = find(3, SECOND_NS + RESCAN_NS);
        assert!(!Arc::ptr_eq(&client, &stranger), "the second has made room");
        assert!(
            find(1, SECOND_NS).admit_connection().is_err(),
            "it is still known"
        );
        drop((held, client));
        find(5, 3 * SECOND_NS);
        assert_eq!(clients.known(), 1, "both others had become idle");
    }

    #[test]
    fn a_full_table_refuses_strangers_together_and_serves_who_is_known() {
        let clients = table(1);
        let known = clients.find_at(&1, 0).expect("a client");
        let others: Vec<_> = (2..100)
            .map(|number| clients.find_at(&number, 0).expect("a client"))
            .collect();
        let admitted = others
            .iter()
            .filter(|other| other.admit_request(Kind::Write, || 0).is_ok());
        assert_eq!(admitted.count(), 1, "they share one bucket");
        assert!(known.admit_request(Kind::Write, || 0).is_ok());
    }

    proptest! {
        /// Whoever comes when and stays for how long: the table keeps its bound, and counts what it has.
        #[test]
        fn the_table_never_grows_beyond_its_bound(
            clients_max in 1_usize..300,
            visits in prop::collection::vec((0_u32..1_000, any::<bool>(), 0_u64..300), 1..600),
        ) {
            let clients = table(clients_max);
            let mut staying = HashMap::new();
            let mut now_ns = 0;
            for (number, stays, pause_ms) in visits {
                now_ns += pause_ms * 1_000_000;
                let client = clients.find_at(&number, now_ns).expect("a client");
                let _ = client.admit_request(Kind::Write, || now_ns);
                if stays {
                    staying.entry(number).or_insert(client);
                } else {
                    staying.remove(&number);
                }
                let known: usize = clients.shards.iter().map(|shard| shard.lock().expect("whole").clients.len()).sum();
                prop_assert_eq!(known, clients.known());
                prop_assert!(known <= clients_max);
                // Whoever stays keeps being the one that it was.
                for (number, client) in &staying {
                    let found = clients.find_at(number, now_ns).expect("a client");
                    prop_assert!(Arc::ptr_eq(&found, client) || Arc::ptr_eq(client, &clients.others));
                }
            }
        }
    }
}
