//! The threads of a store: one makes journals ahead, two compact, and in `file-fast` one syncs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::options::Durability;
use super::store::Store;
use crate::backend::BackendError;

/// How often conditions that nobody signals are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How much nicer threads that compact are than the others.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
const COMPACTION_NICENESS: i32 = 5;
/// Writing of segments pauses for this long at the most.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Starts the threads that a store wants.
pub(super) fn start(store: &Arc<Store>) -> Vec<JoinHandle<()>> {
    let mut threads = Vec::new();
    if store.options.compacts_by_itself {
        threads.push(spawn("fold", store, |store| {
            give_way();
            fold(store);
        }));
        threads.push(spawn("merge", store, |store| {
            give_way();
            merge(store);
        }));
        threads.push(spawn("journals", store, prepare_journals));
        if let Durability::Fast { .. } = store.options.durability {
            threads.push(spawn("journal-sync", store, sync_journals));
        }
    }
    threads
}

/// Runs a thread of the store to its end. If it panics, the store has failed.
pub(super) fn spawn(name: &str, store: &Arc<Store>, run: fn(&Store)) -> JoinHandle<()> {
    let store = Arc::clone(store);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Whoever waits for what it does would wait for ever.
            if catch_unwind(AssertUnwindSafe(|| run(&store))).is_err() {
                store.fail(&BackendError::Panicked);
            }
        })
        .expect("a thread can be made")
}

/// Lets the threads that answer go before this one where they want the same core. It still gets its share: one that
/// got nothing would let the journals grow until commits had to wait for it.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn give_way() {
    let given_way = rustix::process::getpriority_process(None)
        .and_then(|niceness| rustix::process::setpriority_process(None, niceness + COMPACTION_NICENESS));
    if let Err(error) = given_way {
        tracing::debug!(%error, "compaction has the priority of all else");
    }
}

/// On Linux alone a niceness is that of one thread. Elsewhere it is that of the process, which must not give way.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
fn give_way() {}

fn fold(store: &Store) {
    let interval = Duration::from_millis(store.options.fold_interval_ms);
    loop {
        let signals = store
            .signals
            .wait(LOOK_INTERVAL, |signals| signals.fold || signals.stopping);
        if signals.stopping || store.failure().is_some() {
            return;
        }
        if !(signals.fold || signals.full || store.has_waited(interval)) {
            continue;
        }
        let folded = {
            let _compacting = store.compaction.lock();
            store.fold()
        };
        if folded.is_err() {
            // Without space it is tried again after a while; any other error has stopped the store.
            store.signals.wait(LOOK_INTERVAL, |signals| signals.stopping);
        }
    }
}

fn merge(store: &Store) {
    loop {
        let signals = store.signals.wait(LOOK_INTERVAL, |signals| signals.stopping);
        if signals.stopping || store.failure().is_some() {
            return;
        }
        if store.merge().is_err() {
            return;
        }
    }
}

fn prepare_journals(store: &Store) {
    let mut seen = 0;
    loop {
        if let Err(error) = store.spares.prepare(store) {
            store.fail(&error);
            return;
        }
        let signals = store.signals.wait(LOOK_INTERVAL, |signals| {
            signals.stopping || signals.rotations != seen
        });
        if signals.stopping {
            return;
        }
        seen = signals.rotations;
    }
}

/// Syncs what was written at the latest when it is `sync_interval_ms` old, as far as the disk keeps up.
fn sync_journals(store: &Store) {
    let Durability::Fast { sync_interval_ms } = store.options.durability else {
        return;
    };
    // What is written while a sync runs waits for that one and for the next.
    let interval = Duration::from_millis(sync_interval_ms.div_ceil(2));
    loop {
        let signals = store.signals.wait(interval, |signals| signals.stopping);
        if signals.stopping || store.sync_log().is_err() {
            return;
        }
    }
}

impl Store {
    /// Whether something has waited for a fold for so long: a batch, or space to be given back.
    pub(super) fn has_waited(&self, interval: Duration) -> bool {
        let written_at = self.log.lock().began_at;
        let given_back_at = self.generations.read().active.given_back_at();
        let mut began_at = written_at.into_iter().chain(given_back_at);
        began_at.any(|began_at| began_at.elapsed() >= interval)
    }

    /// Called by compaction between two writes: while there are commits, it leaves the disk to them for as long
    /// as it has used it.
    pub(super) fn yield_to_commits(&self, used_since: &mut Instant) {
        let is_committing = self.log.try_lock().is_none();
        if self.options.compacts_by_itself && is_committing {
            let pause = used_since.elapsed().min(PAUSE_MAX);
            self.signals.wait(pause, |signals| signals.stopping);
        }
        *used_since = Instant::now();
    }
}

#[cfg(all(test, target_os = "linux", not(feature = "portable")))]
mod tests {
    use rustix::process::{getpriority_process, setpriority_process};

    /// A server that was started with more priority than others let its compaction have less than those.
    #[test]
    fn compaction_gives_way_to_its_own_server_and_not_to_all_others() {
        let of_thread = std::thread::spawn(|| {
            let nicer = (getpriority_process(None).expect("it can be asked") + 3).min(19);
            setpriority_process(None, nicer).expect("whoever may be nice may be nicer");
            super::give_way();
            (nicer, getpriority_process(None))
        });
        let (nicer, now) = of_thread.join().expect("no panic");
        assert_eq!(now, Ok((nicer + super::COMPACTION_NICENESS).min(19)));
    }
}
