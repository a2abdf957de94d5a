//! A store, and clients that use it while its server is ended again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tailwater_e2e::{Request, Server, eventually};

use crate::content::Form;
use crate::keeper::Keeper;
use crate::link::{Link, Run};
use crate::log::{Log, Losses, Tally};
use crate::pen::Plain;
use crate::producer::Producer;
use crate::readers::{Manner, Reader};
use crate::sequenced::Sequenced;

/// A log that holds this much is deleted, and another one takes its place.
const LOG_BYTES_MAX: usize = 8 << 20;
const LOGS: [(&str, Form); 5] = [
    ("crowded", Form::Text),
    ("quiet", Form::Text),
    ("json", Form::Json),
    ("sequenced", Form::Text),
    ("trimmed", Form::Text),
];

/// What all rounds have in common.
pub(crate) struct Campaign {
    pub(crate) rng: fastrand::Rng,
    mode: &'static str,
    data_dir: String,
    /// What a crash that is no end by SIGTERM may take.
    losses: Losses,
    /// Whether it ends with the power of its machine.
    loses_power: bool,
    tally: Tally,
    logs: Vec<Arc<Log>>,
    retired: Vec<String>,
    producers: Vec<(usize, Producer)>,
    plain: Vec<(usize, Plain)>,
    sequenced: (usize, Sequenced),
    readers: Vec<(usize, Reader)>,
    keepers: Vec<Keeper>,
}

impl Campaign {
    pub(crate) fn new(seed: u64, mode: &'static str, data_dir: String, losses: Losses) -> Self {
        let logs: Vec<_> = LOGS
            .map(|(name, form)| Arc::new(Log::new(format!("logs/{name}/0"), form)))
            .into();
        let mut rng = fastrand::Rng::with_seed(seed);
        let of = |slot: usize| Arc::clone(&logs[slot]);
        Self {
            mode,
            data_dir,
            losses,
            loses_power: false,
            tally: Tally::default(),
            retired: Vec::new(),
            producers: [0, 0, 1, 2, 2]
                .into_iter()
                .enumerate()
                .map(|(index, slot)| {
                    (
                        slot,
                        Producer::new(format!("producer-{index}"), rng.u64(..), of(slot)),
                    )
                })
                .collect(),
            plain: [0, 1, 2, 4]
                .into_iter()
                .map(|slot| {
                    (
                        slot,
                        Plain::new(format!("plain-{slot}"), rng.u64(..), of(slot), slot == 4),
                    )
                })
                .collect(),
            sequenced: (3, Sequenced::new("sequenced".to_owned(), rng.u64(..), of(3))),
            readers: [0, 2, 3]
                .into_iter()
                .flat_map(|slot| [Manner::Events, Manner::LongPoll].map(|manner| (slot, manner)))
                .map(|(slot, manner)| (slot, Reader::new(manner, of(slot))))
                .collect(),
            keepers: ["ann", "bob"].map(|name| Keeper::new(name, rng.u64(..))).into(),
            logs,
            rng,
        }
    }

    /// The same of a store whose machine loses its power.
    pub(crate) fn losing_power(self) -> Self {
        Self {
            loses_power: true,
            ..self
        }
    }

    /// Starts a server on the store, with small files so that all that is done in the background happens often.
    #[track_caller]
    pub(crate) fn start(&mut self) -> Server {
        let settings = self.settings();
        let settings: Vec<_> = settings
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        Server::start_with(&settings)
    }

    fn settings(&mut self) -> Vec<(&'static str, String)> {
        let journal = self.rng.u32(1..=2);
        let fold = journal * self.rng.u32(1..=3);
        let open = self.rng.choice([4, 100_000]).expect("there are two");
        vec![
            ("DS_STORAGE__MODE", self.mode.to_owned()),
            ("DS_STORAGE__DATA_DIR", self.data_dir.clone()),
            ("DS_STORAGE__JOURNAL_BYTES", format!("{journal}MiB")),
            ("DS_STORAGE__FOLD_BYTES", format!("{fold}MiB")),
            ("DS_STORAGE__FAST_SYNC_MS", self.rng.u32(20..200).to_string()),
            ("DS_STORAGE__ACID_SHARD_COUNT", "4".to_owned()),
            ("DS_STORAGE__ACID_QUICK_REPAIR", self.rng.bool().to_string()),
            // Few streams are held ready, so that most are loaded from the store again and again.
            ("DS_LIMITS__MAX_OPEN_STREAMS", open.to_string()),
        ]
    }

    /// How long a run of the server lasts, more or less.
    pub(crate) fn duration(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(50..1500))
    }

    /// Begins with empty logs.
    #[track_caller]
    pub(crate) fn create(&mut self, server: &Server) {
        let run = Run::of(server);
        let mut link = Link::new(&run);
        self.logs.iter().for_each(|log| log.create(&mut link));
    }

    /// Everybody writes and reads until the server has been ended, which `end` does.
    pub(crate) fn load(&mut self, server: Server, duration: Duration, end: impl FnOnce(Server)) {
        let run = &if self.loses_power {
            Run::losing_power(&server)
        } else {
            Run::of(&server)
        };
        let losses = self.losses;
        std::thread::scope(|scope| {
            for (_, writer) in &mut self.producers {
                scope.spawn(|| writer.write(run));
            }
            for (_, writer) in &mut self.plain {
                scope.spawn(|| writer.write(run));
            }
            scope.spawn(|| self.sequenced.1.write(run));
            for (_, reader) in &mut self.readers {
                scope.spawn(|| reader.read_along(run));
            }
            for keeper in &mut self.keepers {
                scope.spawn(move || keeper.act(run, losses));
            }
            std::thread::sleep(duration);
            run.end();
            end(server);
        });
    }

    /// Ends the server amid its start, at times more than once.
    #[track_caller]
    pub(crate) fn start_in_vain(&mut self) {
        while self.rng.u32(..3) == 0 {
            let settings = self.settings();
            let settings: Vec<_> = settings
                .iter()
                .map(|(key, value)| (*key, value.as_str()))
                .collect();
            Server::cut_short(&settings, Duration::from_millis(self.rng.u64(..120)));
        }
    }

    /// Compares all that is there with what is known, after an end that may have taken this.
    #[track_caller]
    pub(crate) fn look(&mut self, server: &Server, losses: Losses) {
        let run = Run::of(server);
        let mut link = Link::new(&run);
        let listed = list(&mut link);
        for name in listed.keys() {
            let is_known = self.logs.iter().any(|log| log.name == *name)
                || self.keepers.iter().any(|keeper| keeper.owns(name))
                || Keeper::is_mortal(name);
            assert!(is_known, "nobody has made {name}, or it was deleted");
        }
        for log in &self.logs {
            self.tally += log.look(&mut link, losses, &mut self.rng);
            log.check_listed(&listed[&log.name]);
        }
        for (_, reader) in &mut self.readers {
            reader.check(&mut link, losses);
        }
        for keeper in &mut self.keepers {
            keeper.look(&mut link, &listed, losses);
        }
        for name in &self.retired {
            link.ask(&Request::new("HEAD", &run.path(name))).expect(404);
        }
    }

    /// Prepares the next round. Answers whether logs were deleted and made, which a power loss could take back.
    #[track_caller]
    pub(crate) fn go_on(&mut self, server: &Server) -> bool {
        let retired = self.retired.len();
        self.retire(&mut Link::new(&Run::of(server)));
        for (slot, writer) in &mut self.producers {
            writer.turn_to(&self.logs[*slot]);
        }
        for (slot, writer) in &mut self.plain {
            writer.turn_to(&self.logs[*slot]);
        }
        self.sequenced.1.turn_to(&self.logs[self.sequenced.0]);
        for (slot, reader) in &mut self.readers {
            reader.turn_to(&self.logs[*slot]);
        }
        self.retired.len() > retired
    }

    /// Deletes logs that have become long, so that a long campaign does not take ever longer.
    #[track_caller]
    fn retire(&mut self, link: &mut Link<'_>) {
        for (log, (name, form)) in self.logs.iter_mut().zip(LOGS) {
            if log.len() > LOG_BYTES_MAX {
                link.ask(&Request::new("DELETE", &link.run.path(&log.name)))
                    .expect(204);
                self.retired.push(log.name.clone());
                let new = Log::new(format!("logs/{name}/{}", self.retired.len()), form);
                new.create(link);
                *log = Arc::new(new);
            }
        }
    }

    /// Ends it all: a last clean restart, and what should be gone by itself is gone.
    #[track_caller]
    pub(crate) fn finish(&mut self, server: Server) {
        server.stop();
        let server = self.start();
        self.look(&server, Losses::None);
        let run = Run::of(&server);
        let mut link = Link::new(&run);
        for keeper in &mut self.keepers {
            eventually("what lives for a second is gone", || {
                keeper.look_at_mortals(&mut link).then_some(())
            });
        }
        self.look(&server, Losses::None);
        server.stop();
        println!("{}: {:?}", self.mode, self.tally);
        assert!(
            self.tally.acknowledged > 0,
            "nobody was ever acknowledged anything"
        );
        assert!(
            self.tally.done + self.tally.undone > 0,
            "every request was answered: nothing was ended"
        );
        if self.losses == Losses::TheLast {
            assert!(
                self.tally.lost > 0,
                "nothing was lost with the power: it was not taken"
            );
        }
        if self.mode != "acid" {
            let segments = std::fs::read_dir(format!("{}/segments", self.data_dir));
            assert!(
                segments.expect("it is a store").count() > 0,
                "nothing was ever folded"
            );
        }
    }
}

/// All streams by their names.
#[track_caller]
fn list(link: &mut Link<'_>) -> BTreeMap<String, Value> {
    let (mut listed, mut after) = (BTreeMap::new(), String::new());
    loop {
        let path = link.run.path(&format!("__ds/streams?limit=50{after}"));
        let page = link.ask(&Request::new("GET", &path)).expect(200).json();
        for stream in page["streams"].as_array().expect("an array") {
            let name = stream["name"].as_str().expect("a name").to_owned();
            let twice = listed.insert(name, stream.clone());
            assert_eq!(twice, None, "listed twice");
        }
        match page["after"].as_str() {
            Some(name) => after = format!("&after={name}"),
            None => return listed,
        }
    }
}
