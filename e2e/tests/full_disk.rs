//! A full disk refuses what needs space, and nothing else: what is there can be read, nothing acknowledged is lost,
//! deleting makes room, and writing goes on by itself once there is some.
//!
//! The disks are small file systems of their own. To mount them takes a right that not everybody has, so these tests
//! are ignored unless asked for; `make test` asks for those on tmpfs and `make soak` for all of them.

use std::collections::BTreeMap;

use tailwater_e2e::{Request, Response, Server, Volume, eventually};

const VOLUME_MEBIBYTES: u64 = 64;
const STREAMS: usize = 8;
/// So many refusals in a row make a disk full; until then a fold may have made room.
const REFUSALS: usize = 40;
const MODES: [&str; 3] = ["file-durable", "file-fast", "acid"];

/// A store on a small disk, and what its streams hold.
struct Site {
    volume: Volume,
    mode: &'static str,
    streams: BTreeMap<String, String>,
    /// How many appends were sent.
    sent: usize,
}

impl Site {
    fn new(volume: Volume, mode: &'static str) -> Self {
        Self {
            volume,
            mode,
            streams: (0..STREAMS)
                .map(|number| (format!("full/{number}"), String::new()))
                .collect(),
            sent: 0,
        }
    }

    #[track_caller]
    fn start(&self) -> Server {
        Server::start_with(&[
            ("DS_STORAGE__MODE", self.mode),
            ("DS_STORAGE__DATA_DIR", &self.volume.place("streams")),
            ("DS_STORAGE__JOURNAL_BYTES", "1MiB"),
            ("DS_STORAGE__FOLD_BYTES", "4MiB"),
        ])
    }

    #[track_caller]
    fn create(&self, server: &Server) {
        for name in self.streams.keys() {
            let _ = server.stream(name).of_type("text/plain").create();
        }
    }

    /// Appends to one stream after the other; whether the last one was accepted.
    #[track_caller]
    fn append(&mut self, server: &Server, bytes: usize) -> bool {
        self.sent += 1;
        let name = self
            .streams
            .keys()
            .nth(self.sent % self.streams.len())
            .expect("there are streams")
            .clone();
        let letter = char::from(b'a' + u8::try_from(self.sent % 26).expect("below 26"));
        let body = format!("<{} {}>", self.sent, letter.to_string().repeat(bytes));
        let answer = append(server, &name, &body);
        let is_accepted = answer.status() == 204;
        if is_accepted {
            self.streams
                .get_mut(&name)
                .expect("it is one of them")
                .push_str(&body);
        } else {
            assert_eq!(answer.expect(507).problem(), "storage_full");
        }
        is_accepted
    }

    /// Appends until nothing is accepted any more, then with ever smaller ones.
    #[track_caller]
    fn fill(&mut self, server: &Server) {
        for bytes in [100_000, 10_000, 100] {
            let mut refusals = 0;
            while refusals < REFUSALS {
                refusals = if self.append(server, bytes) {
                    0
                } else {
                    refusals + 1
                };
            }
        }
    }

    /// What the server says of a full disk, in the mode in which nothing makes room in the background.
    #[track_caller]
    fn check_metric(&self, server: &Server, is_full: u8) {
        let metrics = server.get("/metrics");
        let line = format!("\ntailwater_store_full {is_full}\n");
        assert!(
            self.mode != "acid" || metrics.text().contains(&line),
            "{}: not{line}",
            self.mode
        );
    }

    #[track_caller]
    fn check(&self, server: &Server) {
        for (name, expected) in &self.streams {
            let (mut text, mut offset) = (String::new(), "-1".to_owned());
            loop {
                let answer = server.stream(name).read(&offset).expect(200);
                text.push_str(answer.text());
                answer.expect_header("stream-next-offset").clone_into(&mut offset);
                if answer.header("stream-up-to-date") == Some("true") {
                    break;
                }
            }
            assert!(
                text == *expected,
                "{}: {name} has {} bytes, acknowledged are {}",
                self.mode,
                text.len(),
                expected.len()
            );
        }
        server.assert_well("a full disk");
        server.get("/readyz").expect(200);
    }

    /// Deletes all but two streams.
    #[track_caller]
    fn delete_most(&mut self, server: &Server) {
        while self.streams.len() > 2 {
            let (name, _) = self.streams.pop_first().expect("there are streams");
            server.stream(&name).delete();
            server.get(&server.path(&name)).expect(404);
        }
    }

    /// Writing goes on by itself; what there is after it is as it should be, and survives.
    #[track_caller]
    fn resume(&mut self, server: Server) {
        eventually("there is room again", || {
            self.append(&server, 100_000).then_some(())
        });
        for _ in 0..50 {
            // Room is made in the background, and it may not be as fast as this.
            eventually("there is room for more", || {
                self.append(&server, 20_000).then_some(())
            });
        }
        self.check(&server);
        server.stop();
        let server = self.start();
        self.check(&server);
        server.kill();
        let server = self.start();
        self.check(&server);
        server.stop();
    }
}

fn append(server: &Server, name: &str, body: &str) -> Response {
    let request = Request::new("POST", &server.path(name)).header("Content-Type", "text/plain");
    server.send(&request.body(body))
}

fn a_disk_full_of_streams(volume: impl Fn(u64) -> Volume) {
    for mode in MODES {
        let mut site = Site::new(volume(VOLUME_MEBIBYTES), mode);
        let server = site.start();
        site.create(&server);
        site.fill(&server);
        let stored: usize = site.streams.values().map(String::len).sum();
        println!("{mode}: {} MiB of {VOLUME_MEBIBYTES} are streams", stored >> 20);
        site.check_metric(&server, 1);
        site.check(&server);
        server.kill();

        let server = site.start();
        site.check(&server);
        site.fill(&server);
        site.delete_most(&server);
        server.kill();

        let server = site.start();
        assert_eq!(
            server.get(&server.path("full/0")).status(),
            404,
            "{mode}: it was deleted"
        );
        site.check(&server);
        site.resume(server);
    }
}

fn a_disk_that_others_fill(volume: impl Fn(u64) -> Volume) {
    for mode in MODES {
        let mut site = Site::new(volume(VOLUME_MEBIBYTES), mode);
        let server = site.start();
        site.create(&server);
        // So much that journals are folded while the disk becomes full.
        for _ in 0..100 {
            assert!(site.append(&server, 100_000), "{mode}: there is room");
        }
        let foreign = std::thread::scope(|scope| {
            let filling = scope.spawn(|| site.volume.fill("foreign"));
            filling.join().expect("filled")
        });
        site.fill(&server);
        site.check(&server);
        site.check_metric(&server, 1);
        std::fs::remove_file(&foreign).expect("it was there");
        eventually("there is room again", || {
            site.append(&server, 100_000).then_some(())
        });
        site.check_metric(&server, 0);
        site.check(&server);
        site.volume.fill("foreign");
        site.fill(&server);
        site.check(&server);
        server.kill();
        std::fs::remove_file(&foreign).expect("it was there");

        let server = site.start();
        site.check(&server);
        site.resume(server);
    }
}

#[test]
#[ignore = "mounts a tmpfs, which takes a right that not everybody has; `make test` runs it"]
fn a_tmpfs_full_of_streams_refuses_appends_and_keeps_all_there_is() {
    a_disk_full_of_streams(Volume::tmpfs);
}

#[test]
#[ignore = "mounts a tmpfs, which takes a right that not everybody has; `make test` runs it"]
fn a_tmpfs_that_others_fill_refuses_appends_and_keeps_all_there_is() {
    a_disk_that_others_fill(Volume::tmpfs);
}

#[test]
#[ignore = "mounts ext4 on a loop device, for which one must be root; `make soak` runs it"]
fn an_ext4_full_of_streams_refuses_appends_and_keeps_all_there_is() {
    a_disk_full_of_streams(Volume::ext4);
}

#[test]
#[ignore = "mounts ext4 on a loop device, for which one must be root; `make soak` runs it"]
fn an_ext4_that_others_fill_refuses_appends_and_keeps_all_there_is() {
    a_disk_that_others_fill(Volume::ext4);
}
