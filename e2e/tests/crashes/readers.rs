//! Readers that run along: what they saw before a crash must be there after it, and they go on where they were.

use std::sync::Arc;

use tailwater_e2e::Request;

use crate::content::read;
use crate::link::{Answer, Link, Run, Token};
use crate::log::{Log, Losses};

/// How a reader waits for more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    Events,
    LongPoll,
}

/// A reader of one log after another.
#[derive(Debug)]
pub(crate) struct Reader {
    manner: Manner,
    log: Arc<Log>,
    /// The place that it has come to; none at the beginning.
    at: Option<Token>,
    /// Where `seen` begins.
    from: u64,
    seen: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(manner: Manner, log: Arc<Log>) -> Self {
        Self {
            manner,
            log,
            at: None,
            from: 0,
            seen: Vec::new(),
        }
    }

    /// Reads until the server goes away.
    pub(crate) fn read_along(&mut self, run: &Run) {
        while !run.is_ending() {
            match self.manner {
                Manner::Events => self.follow(run),
                Manner::LongPoll => self.poll(run),
            }
        }
    }

    fn target(&self, run: &Run, live: &str) -> Request {
        let offset = self.at.as_ref().map_or("-1", |at| &at.text);
        let path = run.path(&self.log.name);
        Request::new("GET", &format!("{path}?offset={offset}&live={live}"))
    }

    fn follow(&mut self, run: &Run) {
        let request = self.target(run, "sse");
        let mut events = match run
            .connect()
            .and_then(|connection| connection.try_follow(&request))
        {
            Ok(events) => events,
            Err(error) => {
                assert!(
                    run.is_ending(),
                    "a reader of {} was refused: {error}",
                    self.log.name
                );
                return;
            }
        };
        while let Some(event) = events.next_event() {
            if run.is_powerless() {
                return;
            }
            if event.kind == "data" {
                let id = event.id.as_deref().expect("a data event has an id");
                self.take(event.data.as_bytes(), Token::parse(id));
            }
        }
    }

    fn poll(&mut self, run: &Run) {
        let mut link = Link::new(run);
        while let Answer::Given(answer) = link.send(&self.target(run, "long-poll")) {
            match answer.status() {
                200 => self.take(&answer.body, Token::next(&answer)),
                204 => {}
                other => panic!("{other} to a reader of {}: {answer:?}", self.log.name),
            }
        }
    }

    #[track_caller]
    fn take(&mut self, body: &[u8], next: Token) {
        self.seen.extend(self.log.form.kept(body));
        assert_eq!(
            next.position,
            self.from + self.seen.len() as u64,
            "a {:?} reader of {} comes to {}",
            self.manner,
            self.log.name,
            next.text
        );
        self.at = Some(next);
    }

    /// Compares what was seen with what the last look found. A place that was lost is refused.
    #[track_caller]
    pub(crate) fn check(&mut self, link: &mut Link<'_>, losses: Losses) {
        let mut seen = std::mem::take(&mut self.seen);
        let there = self.log.len() as u64;
        let ahead = (self.from + seen.len() as u64).saturating_sub(there);
        if losses == Losses::TheLast && ahead > 0 {
            let at = self.at.take().expect("it has come to somewhere");
            let answer = read(link, &self.log.name, &at.text).expect(410);
            assert_eq!(
                answer.problem(),
                "offset_unknown",
                "{}: a lost place",
                self.log.name
            );
            seen.truncate(seen.len().saturating_sub(usize::try_from(ahead).expect("fits")));
        }
        self.log
            .assert_holds(self.from, &seen, &format!("a {:?} reader", self.manner));
        self.from = self.at.as_ref().map_or(0, |at| at.position);
    }

    /// Goes on with another log if its own was retired.
    pub(crate) fn turn_to(&mut self, log: &Arc<Log>) {
        if !Arc::ptr_eq(&self.log, log) {
            *self = Self::new(self.manner, Arc::clone(log));
        }
    }
}
