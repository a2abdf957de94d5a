//! An idempotent producer, which goes on after a crash with what it was about to send.

use std::collections::VecDeque;
use std::sync::Arc;

use tailwater_e2e::Request;

use crate::content::Batch;
use crate::link::{Link, Run, Token};
use crate::log::{Log, Ticket, Verdict};
use crate::pen::Pen;

/// A request of a producer.
#[derive(Clone, Debug)]
struct Numbered {
    epoch: u64,
    seq: u64,
    batch: Batch,
}

/// An idempotent producer.
#[derive(Debug)]
pub(crate) struct Producer {
    pen: Pen,
    /// Of the next new request.
    epoch: u64,
    seq: u64,
    /// What is to be sent before anything new.
    unsent: VecDeque<Numbered>,
    /// What was sent since the last look, in order.
    sent: Vec<(Numbered, Ticket)>,
    /// The last request that is known to be in the log, and the place behind it, whose position is known at least.
    last: Option<(Numbered, u64, Option<Token>)>,
}

impl Producer {
    pub(crate) fn new(name: String, seed: u64, log: Arc<Log>) -> Self {
        Self {
            pen: Pen::new(name, seed, log),
            epoch: 0,
            seq: 0,
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
                Verdict::Present(end) => {
                    assert!(
                        absent.is_empty(),
                        "{}: {} is there and what it sent before is not",
                        self.pen.name,
                        numbered.seq
                    );
                    let known = self.last.take().filter(|(last, ..)| last.is(&numbered));
                    self.last = Some((numbered, end, known.and_then(|(.., token)| token)));
                }
            }
        }
        if absent.front().is_some_and(|absent| {
            self.last
                .as_ref()
                .is_some_and(|(last, ..)| !last.is_before(absent))
        }) {
            // What was acknowledged last was lost with the power, and is sent again below.
            self.last = None;
        }
        while let Some(numbered) = absent.pop_back() {
            self.unsent.push_front(numbered);
        }
        if self.pen.turn_to(log) {
            (self.epoch, self.seq, self.last) = (0, 0, None);
            self.unsent.clear();
        }
    }

    /// Writes until the server goes away.
    pub(crate) fn write(&mut self, run: &Run) {
        let mut link = Link::new(run);
        if self.retry(&mut link).is_none() || self.come_too_late(&mut link).is_none() {
            return;
        }
        if self.unsent.is_empty() && self.pen.rng.u32(..3) == 0 {
            (self.epoch, self.seq) = (self.epoch + 1, 0);
        }
        while self.go_on(&mut link).is_some() {
            if self.pen.rng.u32(..16) == 0 && self.retry(&mut link).is_none() {
                return;
            }
        }
    }

    /// Sends what is due.
    #[track_caller]
    fn go_on(&mut self, link: &mut Link<'_>) -> Option<()> {
        let numbered = self.unsent.pop_front().unwrap_or_else(|| {
            let seq = self.seq;
            self.seq += 1;
            Numbered {
                epoch: self.epoch,
                seq,
                batch: self.pen.batch(),
            }
        });
        let request = self.request(link.run, &numbered);
        let (ticket, tail) = self.pen.append(link, &numbered.batch, &request, 200);
        self.sent.push((numbered.clone(), ticket));
        let tail = tail?;
        self.last = Some((numbered, tail.position, Some(tail)));
        Some(())
    }

    /// The last request that is in the log is a duplicate, with the answer that it had.
    #[track_caller]
    fn retry(&mut self, link: &mut Link<'_>) -> Option<()> {
        let Some((numbered, end, token)) = &self.last else {
            return Some(());
        };
        let answer = link.send(&self.request(link.run, numbered)).given()?.expect(204);
        let tail = Token::next(&answer);
        let name = &self.pen.name;
        assert_eq!(tail.position, *end, "{name}: the place behind {}", numbered.seq);
        if let Some(token) = token {
            assert_eq!(&tail, token, "{name}: the place behind {}", numbered.seq);
        }
        assert_eq!(
            answer.expect_header("producer-seq"),
            numbered.seq.to_string(),
            "{name}"
        );
        assert_eq!(
            answer.expect_header("producer-epoch"),
            numbered.epoch.to_string(),
            "{name}"
        );
        Some(())
    }

    /// What comes in an older epoch than the last one is fenced off.
    #[track_caller]
    fn come_too_late(&mut self, link: &mut Link<'_>) -> Option<()> {
        let Some((numbered, ..)) = self.last.as_ref().filter(|(last, ..)| last.epoch > 0) else {
            return Some(());
        };
        let older = Numbered {
            epoch: numbered.epoch - 1,
            ..numbered.clone()
        };
        let answer = link.send(&self.request(link.run, &older)).given()?.expect(403);
        assert_eq!(answer.problem(), "producer_fenced");
        Some(())
    }

    fn request(&self, run: &Run, numbered: &Numbered) -> Request {
        self.pen
            .request(run, &numbered.batch)
            .header("Producer-Id", &self.pen.name)
            .header("Producer-Epoch", &numbered.epoch.to_string())
            .header("Producer-Seq", &numbered.seq.to_string())
    }
}

impl Numbered {
    fn is(&self, other: &Self) -> bool {
        (self.epoch, self.seq) == (other.epoch, other.seq)
    }

    fn is_before(&self, other: &Self) -> bool {
        (self.epoch, self.seq) < (other.epoch, other.seq)
    }
}
