//! The only writer of a log, which numbers its appends with `Stream-Seq`.

use std::collections::VecDeque;
use std::sync::Arc;

use tailwater_e2e::Request;

use crate::content::Batch;
use crate::link::{Link, Run, Token};
use crate::log::{Log, Ticket, Verdict};
use crate::pen::Pen;

#[derive(Clone, Debug)]
struct Numbered {
    number: u64,
    batch: Batch,
}

/// Nobody else appends, so at times it also says which tail it expects.
#[derive(Debug)]
pub(crate) struct Sequenced {
    pen: Pen,
    /// The number of the next new append.
    number: u64,
    /// What is to be sent before anything new.
    unsent: VecDeque<Numbered>,
    /// What was sent since the last look, in order.
    sent: Vec<(Numbered, Ticket)>,
    /// The last one that was found at a look.
    last: Option<Numbered>,
}

impl Sequenced {
    pub(crate) fn new(name: String, seed: u64, log: Arc<Log>) -> Self {
        Self {
            pen: Pen::new(name, seed, log),
            number: 0,
            unsent: VecDeque::new(),
            sent: Vec::new(),
            last: None,
        }
    }

    /// Learns what the last look found, and which log is written to from now on.
    pub(crate) fn turn_to(&mut self, log: &Arc<Log>) {
        let mut absent = VecDeque::new();
        for (numbered, ticket) in std::mem::take(&mut self.sent) {
            match self.pen.log.verdict(ticket) {
                Verdict::Absent => absent.push_back(numbered),
                Verdict::Present(_) => {
                    assert!(
                        absent.is_empty(),
                        "{} is there and not what came before",
                        numbered.number
                    );
                    self.last = Some(numbered);
                }
            }
        }
        absent.append(&mut self.unsent);
        self.unsent = absent;
        if self.pen.turn_to(log) {
            self.last = None;
            self.unsent.clear();
        }
    }

    /// Writes until the server goes away.
    pub(crate) fn write(&mut self, run: &Run) {
        let mut link = Link::new(run);
        let Some(mut tail) = self.repeat(&mut link) else {
            return;
        };
        loop {
            let numbered = self.unsent.pop_front().unwrap_or_else(|| self.next());
            let mut request = self.request(run, &numbered);
            if self.pen.rng.bool() {
                request = request.header("If-Match", &format!("\"{}\"", tail.text));
            }
            let (ticket, answered) = self.pen.append(&mut link, &numbered.batch, &request, 204);
            self.sent.push((numbered, ticket));
            let Some(answered) = answered else { return };
            tail = answered;
        }
    }

    /// What is in the log is refused a second time. Answers the tail.
    #[track_caller]
    fn repeat(&self, link: &mut Link<'_>) -> Option<Token> {
        let tail = self.pen.log.tail();
        let Some(last) = &self.last else { return Some(tail) };
        let answer = link.send(&self.request(link.run, last)).given()?.expect(409);
        assert_eq!(answer.problem(), "stream_seq_regression");
        Some(tail)
    }

    fn next(&mut self) -> Numbered {
        self.number += 1;
        Numbered {
            number: self.number,
            batch: self.pen.batch(),
        }
    }

    fn request(&self, run: &Run, numbered: &Numbered) -> Request {
        let seq = format!("{:010}", numbered.number);
        self.pen.request(run, &numbered.batch).header("Stream-Seq", &seq)
    }
}
