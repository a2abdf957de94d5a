//! What all writers of logs have, and the plainest of them.

use std::sync::Arc;

use tailwater_e2e::Request;

use crate::content::Batch;
use crate::link::{Answer, Link, Run, Token};
use crate::log::{Log, Ticket};

/// What all writers have.
#[derive(Debug)]
pub(crate) struct Pen {
    pub(crate) name: String,
    pub(crate) rng: fastrand::Rng,
    /// How many batches were made.
    batches: u64,
    pub(crate) log: Arc<Log>,
}

impl Pen {
    pub(crate) fn new(name: String, seed: u64, log: Arc<Log>) -> Self {
        Self {
            name,
            rng: fastrand::Rng::with_seed(seed),
            batches: 0,
            log,
        }
    }

    /// Writes to another log from now on, if its own was retired. Answers whether that is so.
    pub(crate) fn turn_to(&mut self, log: &Arc<Log>) -> bool {
        let is_another = !Arc::ptr_eq(log, &self.log);
        self.log = Arc::clone(log);
        is_another
    }

    pub(crate) fn batch(&mut self) -> Batch {
        self.batches += 1;
        self.log.form.batch(&self.name, self.batches, &mut self.rng)
    }

    pub(crate) fn request(&self, run: &Run, batch: &Batch) -> Request {
        Request::new("POST", &run.path(&self.log.name))
            .header("Content-Type", self.log.form.content_type())
            .body(batch.sent.clone())
    }

    /// Appends something new, which must be answered with that status. None if the server went away.
    #[track_caller]
    pub(crate) fn append(
        &self,
        link: &mut Link<'_>,
        batch: &Batch,
        request: &Request,
        status: u16,
    ) -> (Ticket, Option<Token>) {
        let ticket = self.log.begin(batch);
        match link.send(request) {
            Answer::Given(answer) => {
                let tail = Token::next(&answer.expect(status));
                self.log.acknowledge(ticket, tail.clone());
                (ticket, Some(tail))
            }
            Answer::Refused => {
                self.log.refuse(ticket);
                (ticket, None)
            }
            Answer::Lost => (ticket, None),
        }
    }
}

/// Appends without any means to repeat, as one of several.
#[derive(Debug)]
pub(crate) struct Plain {
    pen: Pen,
    /// Whether it also trims what it appends to.
    trims: bool,
}

impl Plain {
    pub(crate) fn new(name: String, seed: u64, log: Arc<Log>, trims: bool) -> Self {
        Self {
            pen: Pen::new(name, seed, log),
            trims,
        }
    }

    pub(crate) fn turn_to(&mut self, log: &Arc<Log>) {
        self.pen.turn_to(log);
    }

    /// Writes until the server goes away.
    pub(crate) fn write(&mut self, run: &Run) {
        let mut link = Link::new(run);
        let mut until_trim = self.pen.rng.u32(..60);
        loop {
            let batch = self.pen.batch();
            let request = self.pen.request(run, &batch);
            if self.pen.append(&mut link, &batch, &request, 204).1.is_none() {
                return;
            }
            if self.trims && until_trim == 0 && !self.trim(&mut link) {
                return;
            }
            until_trim = until_trim.wrapping_sub(1);
        }
    }

    /// Whether the server is still there.
    #[track_caller]
    fn trim(&mut self, link: &mut Link<'_>) -> bool {
        let log = &self.pen.log;
        let Some(before) = log.begin_trim(&mut self.pen.rng) else {
            return true;
        };
        let body = serde_json::json!({ "stream": log.name, "before": before.text }).to_string();
        match link.send(&Request::new("POST", &link.run.path("__ds/trim")).body(body)) {
            Answer::Given(answer) => {
                let answer = answer.expect(204);
                assert_eq!(answer.expect_header("stream-oldest-offset"), before.text);
                log.settle_trim(true);
                true
            }
            Answer::Refused => {
                log.settle_trim(false);
                false
            }
            Answer::Lost => false,
        }
    }
}
