//! The real server under load from many clients, killed at random moments and started again, many times over. What it
//! has acknowledged is there, as it was and where it was; what it has not acknowledged is there as a whole or not at
//! all; and what anybody has seen stays.
//!
//! `TAILWATER_CRASH_ROUNDS` says how often a server is ended, `TAILWATER_CRASH_SEED` what is done; a failure prints the
//! seed and leaves the store. Moments are not from the seed, so that the same seed may need a few attempts.

mod campaign;
mod content;
mod keeper;
mod link;
mod log;
mod pen;
mod producer;
mod readers;
mod sequenced;
mod world;

use campaign::Campaign;
use log::Losses;
use tailwater_e2e::Volume;
use tempfile::TempDir;

const ROUNDS: u64 = 5;
/// Enough for all that the logs of a campaign hold, twice.
const VOLUME_MEBIBYTES: u64 = 1024;

#[test]
fn what_file_durable_has_acknowledged_survives_the_death_of_the_process() {
    kill_again_and_again("file-durable");
}

#[test]
fn what_file_fast_has_acknowledged_survives_the_death_of_the_process() {
    kill_again_and_again("file-fast");
}

#[test]
fn what_acid_has_acknowledged_survives_the_death_of_the_process() {
    kill_again_and_again("acid");
}

#[test]
#[ignore = "mounts ext4 on a loop device, for which one must be root; `make soak` runs it"]
fn what_acid_has_acknowledged_survives_a_power_loss() {
    take_the_power_again_and_again("acid", Losses::None);
}

#[test]
#[ignore = "mounts ext4 on a loop device, for which one must be root; `make soak` runs it"]
fn what_file_durable_has_acknowledged_survives_a_power_loss() {
    take_the_power_again_and_again("file-durable", Losses::None);
}

#[test]
#[ignore = "mounts ext4 on a loop device, for which one must be root; `make soak` runs it"]
fn file_fast_loses_only_the_last_moments_in_a_power_loss_and_never_gives_their_places_away() {
    take_the_power_again_and_again("file-fast", Losses::TheLast);
}

fn kill_again_and_again(mode: &'static str) {
    let seed = seed();
    let mut home = Home::new(seed);
    let data_dir = home.dir.path().join("streams");
    let data_dir = data_dir.to_str().expect("a plain path").to_owned();
    let mut campaign = Campaign::new(seed, mode, data_dir, Losses::None);
    let mut server = campaign.start();
    campaign.create(&server);
    for round in 0..rounds() {
        home.round = round;
        let is_stopped = campaign.rng.u32(..4) == 0;
        let duration = campaign.duration();
        campaign.load(server, duration, |server| {
            drop(if is_stopped { server.stop() } else { server.kill() });
        });
        campaign.start_in_vain();
        server = campaign.start();
        campaign.look(&server, Losses::None);
        campaign.go_on(&server);
    }
    campaign.finish(server);
}

fn take_the_power_again_and_again(mode: &'static str, losses: Losses) {
    let seed = seed();
    let mut home = Home::new(seed);
    let mut volume = Volume::ext4(VOLUME_MEBIBYTES);
    let mut campaign = Campaign::new(seed, mode, volume.place("streams"), losses).losing_power();
    let server = campaign.start();
    campaign.create(&server);
    // From here on everything that is acknowledged is of a run that is judged.
    server.stop();
    let mut server = campaign.start();
    for round in 0..rounds() {
        home.round = round;
        let duration = campaign.duration();
        campaign.load(server, duration, |server| {
            volume.power_down();
            server.end_anyhow();
        });
        volume.power_up();
        campaign.start_in_vain();
        server = campaign.start();
        campaign.look(&server, losses);
        if campaign.go_on(&server) && losses == Losses::TheLast {
            // Then it is on the disk.
            server.stop();
            server = campaign.start();
        }
    }
    campaign.finish(server);
}

/// The place of a store, which stays if the test fails.
struct Home {
    seed: u64,
    round: u64,
    dir: TempDir,
}

impl Home {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { seed, round: 0, dir }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!(
                "--- round {}; again with TAILWATER_CRASH_SEED={}; the store is left in {}",
                self.round,
                self.seed,
                self.dir.path().display()
            );
        }
    }
}

fn seed() -> u64 {
    number("TAILWATER_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..))
}

fn rounds() -> u64 {
    number("TAILWATER_CRASH_ROUNDS").unwrap_or(ROUNDS)
}

/// The number in an environment variable.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|error| panic!("{variable}={text}: {error}")),
    )
}
