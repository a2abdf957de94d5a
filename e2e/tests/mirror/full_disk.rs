//! A PostgreSQL whose disk is full: the mirror waits until there is room, and appends go on.

use tailwater_e2e::{Postgres, Volume, eventually};

use crate::faults::{check, name};
use crate::rig::Rig;

const VOLUME_MEBIBYTES: u64 = 256;
const STREAMS: usize = 5;
/// So much of each event is noise, which takes as much room as it says.
const NOISE_BYTES: usize = 20_000;

#[test]
#[ignore = "mounts a tmpfs, for which one must be root; `make test` runs it"]
fn a_tmpfs_of_postgresql_that_is_full_is_waited_for_and_each_event_becomes_one_row() {
    let volume = Volume::tmpfs(VOLUME_MEBIBYTES);
    let postgres = Postgres::start_at(&volume.path().join("data"), &["autovacuum=off"]);
    let mut rig = Rig::around(postgres, "file-durable", &[], &[]);
    for stream in 0..STREAMS {
        rig.server.stream(&name(stream)).create();
    }
    let mirror = rig.mirror();
    let (server, postgres) = (&rig.server, &mut rig.postgres);
    let (mut appended, mut random) = (0, fastrand::Rng::with_seed(4));
    let mut append = || {
        for stream in 0..STREAMS {
            let noise: String = std::iter::repeat_with(|| random.alphanumeric())
                .take(NOISE_BYTES)
                .collect();
            let event = format!(r#"{{"n":{appended},"noise":"{noise}"}}"#);
            server.stream(&name(stream)).append(event);
        }
        appended += 1;
    };
    append();
    eventually("the first events are there", || {
        (mirror.metric("tailwater_sync_rows_total") == Some(5.0)).then_some(())
    });

    let foreign = volume.fill("foreign");
    let refusals = || mirror.stderr().matches("kind=\"disk_full\"").count();
    // A server that has no room for its own journal ends.
    let has_ended = eventually("PostgreSQL has no room, and is asked again", || {
        append();
        let has_ended = postgres.has_ended();
        (refusals() >= 2 || has_ended).then_some(has_ended)
    });
    assert!(refusals() > 0, "a full disk is told as one:\n{}", mirror.stderr());
    assert_eq!(mirror.get("/readyz").status(), 503);
    assert!(mirror.metric("tailwater_sync_retries_total{what=\"postgres\"}") >= Some(1.0));
    std::fs::remove_file(foreign).expect("it can be deleted");
    if has_ended || postgres.has_ended() {
        postgres.kill();
        postgres.restart();
    }
    append();
    check(&rig, &mirror, &[appended; STREAMS]);
}
