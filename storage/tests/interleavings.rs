//! The engine under a model checker: threads are scheduled at random at every lock, so that what two of them do
//! at once meets in every way. Run with `--features shuttle`; a failure prints its seed and its schedule.
#![cfg(feature = "shuttle")]

mod support;

mod interleavings {
    mod appends;
    mod forks;
    mod residency;
    mod together;
    mod waiters;
}

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::scheduler::RandomScheduler;
use shuttle::thread::{self, JoinHandle};
use support::ask::Rig;
use support::gated::Gated;
use tailwater_storage::{Backend, EngineLimits, Memory};

/// Nothing is held that is not in use, so that every sweep evicts.
const NONE_HELD: EngineLimits = EngineLimits {
    stream_bytes_max: 1 << 20,
    producers_max: 100,
    open_streams_max: 0,
    changes_max: 100,
};

/// An engine that several threads of a model share.
type Shared = Arc<Rig>;

/// Checks a model in `iterations` random schedules. Says the seed that they come from, to be set in `SHUTTLE_SEED`
/// for the same ones again.
fn check(iterations: usize, model: impl Fn() + Send + Sync + 'static) {
    let seed = match std::env::var("SHUTTLE_SEED") {
        Ok(seed) => seed.parse().expect("SHUTTLE_SEED is a number"),
        Err(_) => RandomState::new().hash_one("seed"),
    };
    println!("SHUTTLE_SEED={seed}");
    let mut config = shuttle::Config::new();
    config.stack_size = 256 * 1024;
    let scheduler = RandomScheduler::new_from_seed(seed, iterations);
    shuttle::Runner::new(scheduler, config).run(model);
}

/// Checks a model over a backend that commits inline and over one with committer threads.
fn check_each(iterations: usize, model: impl Fn(Shared) + Send + Sync + Copy + 'static) {
    check(iterations, move || {
        let memory: Arc<dyn Backend> = Arc::new(Memory::new(1 << 30));
        model(Arc::new(Rig::limited(memory, NONE_HELD)));
    });
    check_gated(iterations, move |rig, _| model(rig));
}

/// Checks a model over a backend with committer threads.
fn check_gated(iterations: usize, model: impl Fn(Shared, Arc<Gated>) + Send + Sync + 'static) {
    check(iterations, move || {
        let gated = Gated::new(1 << 30);
        let rig = Arc::new(Rig::limited(Arc::<Gated>::clone(&gated), NONE_HELD));
        model(Arc::clone(&rig), gated);
        rig.engine.stop();
    });
}

/// Runs a task on a thread of the model.
fn spawn<T: Send + 'static>(
    rig: &Shared,
    task: impl AsyncFnOnce(&Rig) -> T + Send + 'static,
) -> JoinHandle<T> {
    let rig = Arc::clone(rig);
    thread::spawn(move || block_on_local(task, &rig))
}

fn block_on_local<T>(task: impl AsyncFnOnce(&Rig) -> T, rig: &Rig) -> T {
    block_on(task(rig))
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("the thread is content")
}
