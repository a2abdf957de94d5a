//! Three mirrors, their server and their PostgreSQL live through everything at once while events are appended: each is
//! killed, connections are cut, one mirror stands still past its lease and goes on, and one never comes back. The
//! oracle is that of `faults`.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use tailwater_e2e::eventually;
use tailwater_e2e::mirror::Mirror;
use tailwater_e2e::proxy::CuttingProxy;

use crate::faults::{self, Stopping};
use crate::instances::{SHARES, metric};
use crate::rig::{DATABASE, Rig, root};

const ROUNDS: usize = 12;
/// For one of `TAILWATER_CRASH_ROUNDS`, which is meant for those who have one fault a round.
const ROUNDS_OF_ONE: usize = 4;
const STREAMS: usize = 16;
const LEASE_MS: &str = "1000";
/// How long all live together until something happens, at most.
const LIFE_MS: u64 = 500;
/// Of so many answers one is cut off, with the connection that it came by.
const SOURCE_ANSWERS: usize = 50;
const POSTGRES_ANSWERS: usize = 150;

const ROUTES: &str = r#"
[sync]
create_tables = true
[[route]]
streams = "runs/1*"
table = "app.newest"
mode = "upsert"
key = ["stream"]
columns = { stream = { field = "stream" }, n = { pointer = "/n", type = "bigint", required = true } }
"#;

/// What happens in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillMirror,
    KillPostgres,
    KillServer,
    /// A mirror stands still.
    Pause,
    /// It goes on, once the others have its share.
    Wake,
    /// A mirror is killed and never started again.
    Bury,
}

/// Everything that lives.
struct World {
    rig: Rig,
    source: String,
    database: String,
    /// Those that were not buried.
    mirrors: Vec<(&'static str, Mirror)>,
    /// The name of the one that stands still.
    paused: Option<&'static str>,
}

impl World {
    fn start(&self, name: &str) -> Mirror {
        self.rig.mirror_with(&[
            ("DS_SYNC__SOURCE_URL", &self.source),
            ("DS_SYNC__POSTGRES_URL", &self.database),
            ("DS_SYNC__LEASE_MS", LEASE_MS),
            ("DS_SYNC__INSTANCE_NAME", name),
        ])
    }

    fn suffer(mut self, fault: Fault, rng: &mut Rng) -> Self {
        let pause = Duration::from_millis(rng.u64(..LIFE_MS / 2));
        match fault {
            Fault::KillMirror => {
                let (name, mirror) = self.take_running(rng);
                mirror.kill();
                std::thread::sleep(pause);
                let mirror = self.start(name);
                self.mirrors.push((name, mirror));
            }
            Fault::KillPostgres => {
                self.rig.postgres.kill();
                std::thread::sleep(pause);
                self.rig.postgres.restart();
            }
            Fault::KillServer => self.rig = self.rig.restart_server(),
            Fault::Pause if self.paused.is_none() => {
                let (name, mirror) = self.take_running(rng);
                mirror.signal(Signal::STOP);
                self.mirrors.push((name, mirror));
                self.paused = Some(name);
            }
            Fault::Wake => self.wake(),
            Fault::Bury if self.mirrors.len() == 3 => self.take_running(rng).1.kill(),
            Fault::Pause | Fault::Bury => {}
        }
        self
    }

    /// One that does not stand still.
    fn take_running(&mut self, rng: &mut Rng) -> (&'static str, Mirror) {
        let running = (0..self.mirrors.len()).filter(|at| Some(self.mirrors[*at].0) != self.paused);
        let running: Vec<_> = running.collect();
        self.mirrors.swap_remove(running[rng.usize(..running.len())])
    }

    fn wake(&mut self) {
        let Some(name) = self.paused.take() else {
            return;
        };
        self.rig.expect(
            &format!("SELECT count(*) FROM tailwater.instances WHERE name = '{name}'"),
            "0",
        );
        let paused = self.mirrors.iter().find(|(other, _)| *other == name);
        let (_, mirror) = paused.expect("whoever stands still is not killed");
        mirror.signal(Signal::CONT);
    }
}

#[test]
fn three_mirrors_live_through_everything_at_once_and_each_event_becomes_one_row() {
    let seed = faults::seed();
    println!("TAILWATER_CRASH_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    // An answer that is much longer than what passes between two cuts would never arrive.
    let rig = Rig::with("file-durable", &[("DS_LIMITS__READ_CHUNK_BYTES", "64KiB")], &[]);
    let rig = rig.configured(ROUTES);
    for stream in 0..STREAMS {
        rig.server.stream(&faults::name(stream)).create();
    }
    let source = CuttingProxy::before(rig.server.address(), SOURCE_ANSWERS);
    let postgres = CuttingProxy::before(rig.postgres.address(), POSTGRES_ANSWERS);
    let mut world = World {
        source: root(source.address()),
        database: format!("postgres://postgres@{}/{DATABASE}", postgres.address()),
        rig,
        mirrors: Vec::new(),
        paused: None,
    };
    for name in ["a", "b", "c"] {
        let mirror = world.start(name);
        world.mirrors.push((name, mirror));
    }
    world.rig.expect(SHARES, "3|21|22");

    let faults = schedule(&mut rng);
    let (stop, appended) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; STREAMS]);
    let address = world.rig.server.address();
    let mut world = std::thread::scope(|scope| {
        let stopping = Stopping(&stop);
        for (stream, appended) in appended.iter().enumerate() {
            let (stop, mut rng) = (&stop, rng.fork());
            scope.spawn(move || faults::append(address, stream, stop, appended, &mut rng));
        }
        for fault in &faults {
            std::thread::sleep(Duration::from_millis(rng.u64(..LIFE_MS)));
            world = world.suffer(*fault, &mut rng);
        }
        eventually("connections of both sides are cut", || {
            (source.cuts() > 0 && postgres.cuts() > 0).then_some(())
        });
        drop(stopping);
        world
    });
    world.wake();
    for proxy in [&source, &postgres] {
        proxy.cut_no_more();
    }
    let appended = appended.map(AtomicU64::into_inner);
    world.rig.expect(SHARES, "2|32|32");
    let (_, mirror) = &world.mirrors[0];
    faults::check(&world.rig, mirror, &appended);
    for (stream, count) in appended.iter().enumerate() {
        let name = faults::name(stream);
        if name.starts_with("runs/1") {
            let newest = format!("SELECT n + 1 FROM app.newest WHERE stream = '{name}'");
            assert_eq!(world.rig.ask(&newest), count.to_string(), "{name}");
        }
    }
    let total: u64 = appended.iter().sum();
    let (cuts, rounds) = ((source.cuts(), postgres.cuts()), faults.len());
    println!("{total} events, {rounds} faults, connections cut at the source and at PostgreSQL: {cuts:?}");
    for (name, mirror) in world.mirrors {
        eventually("both hold their share", || {
            (metric(&mirror, "partitions") == 32.0).then_some(())
        });
        println!("{name}: {} chunks fenced", metric(&mirror, "fenced_total"));
        mirror.stop();
    }
}

/// What happens, in which order: everything at least once, a mirror is woken after it was paused, and one of the three
/// is buried in the middle.
fn schedule(rng: &mut Rng) -> Vec<Fault> {
    let rounds = faults::rounds_asked_for().map_or(ROUNDS, |rounds| rounds * ROUNDS_OF_ONE);
    let mut faults = vec![
        Fault::KillMirror,
        Fault::KillPostgres,
        Fault::KillServer,
        Fault::Pause,
    ];
    while faults.len() + 2 < rounds {
        faults.push(match rng.u32(..8) {
            0..3 => Fault::KillMirror,
            3 => Fault::KillPostgres,
            4 => Fault::KillServer,
            5 => Fault::Pause,
            _ => Fault::Wake,
        });
    }
    rng.shuffle(&mut faults);
    faults.insert(faults.len() / 2, Fault::Bury);
    faults.push(Fault::Wake);
    faults
}
