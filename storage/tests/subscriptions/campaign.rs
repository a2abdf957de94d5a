//! Crash campaigns: subscriptions live through faults of a disk and crashes, life after life. What happens is chosen by a
//! seed; `TAILWATER_CRASH_SEED` is the first one and `TAILWATER_CRASH_SEEDS` how many there are. A failure prints its seed
//! and what was done. Commits fall together as threads meet, so another run of a seed may differ in what a fault hits.
//!
//! | file | what stands there |
//! |---|---|
//! | `promises.rs` | what was promised of subscriptions, as far as anybody was told |
//! | `steps.rs` | what clients, workers and receivers do, by chance |
//! | `judge.rs` | compares what is there with what was promised |

mod judge;
mod promises;
mod steps;

use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::Backend;
use tailwater_storage::subscriptions::SubscriptionStats;

use super::scene::{Scene, acid_store, fast_store, file_store};
use crate::support::ask::run;
use crate::support::faulty_disk::FaultyDisk;
use crate::support::seeds::seeds;
use promises::Promises;

/// So many seeds reach everything that matters.
const MANY_SEEDS: u64 = 20;

type OpenStore = fn(&Arc<FaultyDisk>) -> Arc<dyn Backend>;

/// What happens to the disk in one life, beside the crash that ends it.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    Cut,
    FailedSync,
    FailedWrite,
    /// The disk is full for a while.
    Full,
}

const FAULTS: [Fault; 6] = [
    Fault::None,
    Fault::Cut,
    Fault::Cut,
    Fault::FailedSync,
    Fault::FailedWrite,
    Fault::Full,
];

/// What was done, printed when the test fails.
struct History {
    seed: u64,
    steps: Vec<String>,
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}:\n{}", self.seed, self.steps.join("\n"));
        }
    }
}

/// How often what matters has happened, in all lives together.
#[derive(Debug, Default)]
struct Reached {
    wakes: u64,
    send_failures: u64,
    acks: u64,
    fenced: u64,
    expired_leases: u64,
}

impl Reached {
    fn add(&mut self, stats: &SubscriptionStats) {
        self.wakes += stats.wakes.get();
        self.send_failures += stats.send_failures.get();
        self.acks += stats.acks.get();
        self.fenced += stats.fenced.get();
        self.expired_leases += stats.expired_leases.get();
    }

    /// A campaign in which something never happens would say nothing of it.
    fn check(&self) {
        let counts = [
            self.wakes,
            self.send_failures,
            self.acks,
            self.fenced,
            self.expired_leases,
        ];
        assert!(counts.into_iter().all(|count| count > 0), "{self:?}");
    }
}

/// Subscriptions over a store on a faulty disk, and what was promised of them.
struct Life {
    history: History,
    rng: Rng,
    disk: Arc<FaultyDisk>,
    /// The disk may be full, so that what fails may go on.
    is_full: bool,
    open: OpenStore,
    scene: Scene,
    promises: Promises,
    reached: Reached,
}

impl Life {
    async fn begin(seed: u64, open: OpenStore, reached: Reached) -> Self {
        let mut rng = Rng::with_seed(seed);
        let disk = FaultyDisk::new(rng.u64(..));
        let scene = Scene::over(open(&disk)).await;
        scene.rig.create_json("wakes").await;
        let steps = Vec::new();
        Self {
            history: History { seed, steps },
            rng,
            disk,
            is_full: false,
            open,
            scene,
            promises: Promises::new(),
            reached,
        }
    }

    fn note(&mut self, step: impl std::fmt::Display) {
        let step = format!("{step} [{}]", self.disk.operations());
        self.history.steps.push(step);
    }

    /// Lives with one fault, as long as the storage works.
    async fn live(&mut self) {
        let fault = *self.rng.choice(&FAULTS).expect("some");
        self.note(format!("{fault:?}"));
        match fault {
            Fault::None => {}
            Fault::Cut => {
                let operation = self.disk.operations() + self.rng.u64(1..200);
                self.disk.cut_at(operation);
            }
            Fault::FailedSync => self.disk.fail_sync(self.rng.u64(1..40)),
            Fault::FailedWrite => self.disk.fail_write(self.rng.u64(1..80)),
            Fault::Full => {
                let bytes = self.rng.u64(..20_000);
                self.set_free_bytes(Some(bytes));
            }
        }
        for _ in 0..self.rng.u32(10..60) {
            if self.step().await.is_err() {
                return;
            }
        }
        self.set_free_bytes(None);
        // What has no space is tried again after a while.
        self.pass_ms(2_000);
        let _ends_with_the_storage = self.judge().await;
    }

    /// Ends a life, and begins the next one. Now and then that is cut off itself, if it may be.
    async fn crash(&mut self, may_lose: bool, may_be_cut: bool) {
        loop {
            let of_machine = self.rng.bool();
            self.note(if of_machine { "the power is gone" } else { "killed" });
            self.reached.add(self.scene.subscriptions.stats());
            self.scene.subscriptions.stop();
            self.disk = if of_machine {
                self.disk.crash_machine()
            } else {
                self.disk.crash_process()
            };
            self.set_free_bytes(None);
            if of_machine && may_lose {
                self.promises.take_back();
            }
            let store = (self.open)(&self.disk);
            if may_be_cut && self.rng.u8(..4) == 0 {
                let operation = self.disk.operations() + self.rng.u64(1..20);
                self.disk.cut_at(operation);
            }
            // What has failed to be read may be read when it is tried again.
            let read_fails = may_be_cut && self.rng.u8(..3) == 0;
            if read_fails {
                self.note("a read fails");
                self.disk.fail_read(self.rng.u64(1..30));
            }
            if let Ok(scene) = self.scene.try_again_over(store).await {
                self.scene = scene;
                if self.judge().await.is_ok() {
                    return;
                }
            }
            assert!(
                read_fails || self.disk.has_stopped(),
                "a start fails on a disk that works"
            );
        }
    }

    fn set_free_bytes(&mut self, bytes: Option<u64>) {
        self.is_full = bytes.is_some();
        self.disk.set_free_bytes(bytes);
    }
}

async fn live_on(seed: u64, open: OpenStore, may_lose: bool, reached: Reached) -> Reached {
    let mut life = Life::begin(seed, open, reached).await;
    for _ in 0..life.rng.u32(2..6) {
        life.live().await;
        life.crash(may_lose, true).await;
    }
    life.crash(may_lose, false).await;
    assert!(life.drain().await.is_ok(), "a disk that works fails");
    life.scene.subscriptions.stop();
    life.reached.add(life.scene.subscriptions.stats());
    life.reached
}

fn campaign(count: u64, open: OpenStore, may_lose: bool) {
    let seeds = seeds(count);
    let mut reached = Reached::default();
    for seed in seeds.clone() {
        run(async { reached = live_on(seed, open, may_lose, std::mem::take(&mut reached)).await });
    }
    // A few seeds need not reach everything.
    if seeds.end - seeds.start >= MANY_SEEDS {
        reached.check();
    }
}

#[test]
fn over_journals_no_ack_is_taken_back_and_nothing_is_forgotten_through_any_lives() {
    campaign(80, file_store, false);
}

#[test]
fn over_shards_no_ack_is_taken_back_and_nothing_is_forgotten_through_any_lives() {
    campaign(80, acid_store, false);
}

/// What was not synced may be lost with the machine. Then streams and cursors are those of one moment all the same.
#[test]
fn over_journals_that_are_synced_later_cursors_fit_their_streams_through_any_lives() {
    campaign(80, fast_store, true);
}
