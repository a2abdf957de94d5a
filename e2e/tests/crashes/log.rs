//! A stream that many write to and follow, and what is known of it: what was there at the last look, and what was sent
//! since. What the next look finds must be the one with the other behind it, each append whole and once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use tailwater_e2e::Request;

use crate::content::{Batch, Form, beginning, read, read_on};
use crate::link::{Link, Token};

/// So many places of a log are remembered, to be read from again.
const PLACES_MAX: usize = 200;
/// So many of them are read from at each look.
const SAMPLES: usize = 8;
/// So many places that were lost are asked for again at each look after the next one.
const LOST_MAX: usize = 100;

/// What may be missing after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Losses {
    /// Nothing that was acknowledged.
    None,
    /// What was acknowledged since the last restart, from some moment on.
    TheLast,
}

/// What became of an append, as the next look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is there and ends at this position.
    Present(u64),
    Absent,
}

/// What became of appends, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) acknowledged: usize,
    /// Acknowledged, and taken by a power loss.
    pub(crate) lost: usize,
    /// Not answered, and found to be there.
    pub(crate) done: usize,
    /// Not answered, and found not to be there.
    pub(crate) undone: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.done += other.done;
        self.undone += other.undone;
    }
}

/// Which append of those since the last look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket(usize);

#[derive(Debug)]
struct Attempt {
    batch: Batch,
    fate: Fate,
}

#[derive(Debug)]
enum Fate {
    Unknown,
    Acknowledged(Token),
    Refused,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) name: String,
    pub(crate) form: Form,
    book: Mutex<Book>,
}

/// All positions are those of the stream.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Everything up to the last look, from position 0 on, what is trimmed included.
    bytes: Vec<u8>,
    messages: u64,
    /// The tail at the last look, as the server names it.
    tail: Option<Token>,
    /// Some places of the stream that the server gave out.
    places: Vec<Token>,
    /// Places that were lost with the power. They must never be taken for places of what came later.
    lost: Vec<Token>,
    oldest: u64,
    /// A trim that was sent and not answered.
    trim: Option<u64>,
    attempts: Vec<Attempt>,
    verdicts: Vec<Verdict>,
}

impl Log {
    pub(crate) fn new(name: String, form: Form) -> Self {
        let book = Mutex::default();
        Self { name, form, book }
    }

    #[track_caller]
    pub(crate) fn create(&self, link: &mut Link<'_>) {
        let request = Request::new("PUT", &link.run.path(&self.name));
        let answer = link.ask(&request.header("Content-Type", self.form.content_type()));
        self.book().tail = Some(Token::next(&answer.expect(201)));
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no writer failed")
    }

    /// Takes note of an append before it is sent.
    pub(crate) fn begin(&self, batch: &Batch) -> Ticket {
        let mut book = self.book();
        book.attempts.push(Attempt {
            batch: batch.clone(),
            fate: Fate::Unknown,
        });
        Ticket(book.attempts.len() - 1)
    }

    pub(crate) fn acknowledge(&self, ticket: Ticket, tail: Token) {
        self.book().attempts[ticket.0].fate = Fate::Acknowledged(tail);
    }

    /// The server has said that it does not do it.
    pub(crate) fn refuse(&self, ticket: Ticket) {
        self.book().attempts[ticket.0].fate = Fate::Refused;
    }

    /// What became of an append that was begun before the last look.
    pub(crate) fn verdict(&self, ticket: Ticket) -> Verdict {
        self.book().verdicts[ticket.0]
    }

    /// The tail at the last look.
    pub(crate) fn tail(&self) -> Token {
        self.book().tail.clone().expect("it was created")
    }

    /// A place before which the log may be trimmed; noted as being trimmed there.
    pub(crate) fn begin_trim(&self, rng: &mut fastrand::Rng) -> Option<Token> {
        let mut book = self.book();
        let (from, to) = (book.oldest, book.bytes.len() as u64);
        let within = |place: &&Token| place.position > from && place.position <= to;
        let places: Vec<&Token> = book.places.iter().filter(within).collect();
        let chosen = rng.choice(places)?.clone();
        book.trim = Some(chosen.position);
        Some(chosen)
    }

    /// Whether the trim was done or not; it stays unknown if neither is said.
    pub(crate) fn settle_trim(&self, done: bool) {
        let mut book = self.book();
        let trim = book.trim.take().expect("it was begun");
        if done {
            book.oldest = trim;
        }
    }

    /// How much is stored.
    pub(crate) fn len(&self) -> usize {
        self.book().bytes.len()
    }

    /// Panics unless the stream has these bytes there.
    #[track_caller]
    pub(crate) fn assert_holds(&self, from: u64, seen: &[u8], who: &str) {
        let from = usize::try_from(from).expect("fits");
        let book = self.book();
        let there = book.bytes.get(from..from + seen.len());
        assert!(
            there == Some(seen),
            "{who} saw of {} what is not there now, between {from} and {}; its tail is {}",
            self.name,
            from + seen.len(),
            book.bytes.len()
        );
    }

    /// Looks at the whole stream, and decides what became of each attempt.
    #[track_caller]
    pub(crate) fn look(&self, link: &mut Link<'_>, losses: Losses, rng: &mut fastrand::Rng) -> Tally {
        let name = &self.name;
        let head = link.ask(&Request::new("HEAD", &link.run.path(name))).expect(200);
        assert_eq!(head.header("stream-closed"), None, "nobody closed {name}");
        let tail = Token::next(&head);
        let oldest = head.header("stream-oldest-offset").map(Token::parse);
        let start = oldest.as_ref().map_or("-1", |oldest| &oldest.text);
        let (kept, end) = read_on(link, name, self.form, start);
        assert_eq!(end, tail, "{name}: the end of the read and HEAD");

        let mut book = self.book();
        book.check_oldest(name, oldest.map_or(0, |oldest| oldest.position), losses);
        let trimmed = usize::try_from(book.oldest).expect("fits");
        assert_eq!(
            trimmed + kept.len(),
            usize::try_from(tail.position).expect("fits"),
            "{name}: positions"
        );
        let before = &book.bytes[trimmed..];
        assert!(
            kept.starts_with(before),
            "{name}: what was there at the last look has changed, at {:?} of {}",
            kept.iter()
                .zip(before)
                .position(|(now, then)| now != then)
                .map(|at| at + trimmed),
            book.bytes.len()
        );
        let fresh = kept[before.len()..].to_vec();
        let tally = book.settle(name, &fresh, losses);
        book.tail = Some(tail);
        let places = (0..SAMPLES).filter_map(|_| rng.choice(&book.places)).cloned();
        let places: Vec<Token> = places.filter(|place| place.position >= book.oldest).collect();
        for place in &places {
            book.read_from(link, name, self.form, place);
        }
        if let Some(place) = places.first() {
            book.records_from(link, name, self.form, place);
        }
        for lost in &book.lost {
            let answer = read(link, name, &lost.text).expect(410);
            assert_eq!(answer.problem(), "offset_unknown", "{name}: a lost place");
        }
        rng.shuffle(&mut book.lost);
        book.lost.truncate(LOST_MAX);
        tally
    }

    /// Compares with what a listing says of it.
    #[track_caller]
    pub(crate) fn check_listed(&self, listed: &Value) {
        let book = self.book();
        let expected = json!({
            "content_type": self.form.content_type(),
            "closed": false,
            "next_offset": book.tail.as_ref().map(|tail| &tail.text),
            "bytes": book.bytes.len() as u64 - book.oldest,
            "messages": book.messages,
            "ttl_seconds": null,
            "forked_from": null,
        });
        for (field, value) in expected.as_object().expect("an object") {
            assert_eq!(&listed[field], value, "{}: {field} in {listed}", self.name);
        }
        let oldest = Token::parse(listed["oldest_offset"].as_str().expect("a text"));
        assert_eq!(oldest.position, book.oldest, "{}: {listed}", self.name);
    }
}

impl Book {
    #[track_caller]
    fn check_oldest(&mut self, name: &str, oldest: u64, losses: Losses) {
        let trim = self.trim.take();
        let known = oldest == self.oldest || trim == Some(oldest);
        assert!(
            known || losses == Losses::TheLast && oldest < self.oldest,
            "{name} begins at {oldest} and not at {}; unanswered is a trim at {trim:?}",
            self.oldest
        );
        self.oldest = oldest;
    }

    /// Goes through what is new, append by append.
    #[track_caller]
    fn settle(&mut self, name: &str, fresh: &[u8], losses: Losses) -> Tally {
        let begin = self.bytes.len();
        let attempts = std::mem::take(&mut self.attempts);
        let mut verdicts = vec![Verdict::Absent; attempts.len()];
        let (mut placed, mut unknown) = (HashMap::new(), Vec::new());
        for (index, attempt) in attempts.iter().enumerate() {
            match &attempt.fate {
                Fate::Acknowledged(tail) => {
                    let start = tail.position - attempt.batch.kept.len() as u64;
                    let other = placed.insert(start, index);
                    assert_eq!(other, None, "{name}: two acknowledged appends begin at {start}");
                }
                Fate::Unknown => unknown.push(index),
                Fate::Refused => {}
            }
        }
        let mut at = 0;
        while at < fresh.len() {
            let position = (begin + at) as u64;
            let rest = &fresh[at..];
            let is_there = |index: &usize| {
                verdicts[*index] == Verdict::Absent && rest.starts_with(&attempts[*index].batch.kept)
            };
            let index = match placed.get(&position) {
                Some(acknowledged) => Some(*acknowledged).filter(is_there),
                None => unknown.iter().copied().find(is_there),
            };
            let Some(index) = index else {
                panic!(
                    "{name}: at {position} is nothing that was sent, or not whole, or once too often: {:?}; \
                     acknowledged at this place: {}; {} of {} appends are unanswered",
                    beginning(rest),
                    placed.contains_key(&position),
                    unknown.len(),
                    attempts.len()
                );
            };
            at += attempts[index].batch.kept.len();
            self.messages += attempts[index].batch.messages;
            verdicts[index] = Verdict::Present((begin + at) as u64);
        }
        self.bytes.extend_from_slice(fresh);
        let mut tally = Tally::default();
        for (attempt, verdict) in attempts.into_iter().zip(&verdicts) {
            match (attempt.fate, verdict) {
                (Fate::Acknowledged(tail), Verdict::Present(_)) => {
                    tally.acknowledged += 1;
                    self.places.push(tail);
                }
                (Fate::Acknowledged(tail), Verdict::Absent) => {
                    assert_eq!(
                        losses,
                        Losses::TheLast,
                        "{name}: acknowledged up to {}, and the tail is {}",
                        tail.text,
                        self.bytes.len()
                    );
                    tally.lost += 1;
                    self.lost.push(tail);
                }
                (Fate::Unknown, Verdict::Present(_)) => tally.done += 1,
                (Fate::Unknown, Verdict::Absent) => tally.undone += 1,
                (Fate::Refused, _) => {}
            }
        }
        let superfluous = self.places.len().saturating_sub(PLACES_MAX);
        self.places.drain(..superfluous);
        self.verdicts = verdicts;
        tally
    }

    /// A read from a place begins at just this place.
    #[track_caller]
    fn read_from(&self, link: &mut Link<'_>, name: &str, form: Form, place: &Token) {
        let answer = read(link, name, &place.text).expect(200);
        let kept = form.kept(&answer.body);
        let from = usize::try_from(place.position).expect("fits");
        assert!(
            self.bytes[from..].starts_with(&kept),
            "{name}: a read from {} gives what is not there: {:?}",
            place.text,
            beginning(&kept)
        );
        assert_eq!(
            Token::next(&answer).position,
            place.position + kept.len() as u64,
            "{name}"
        );
    }

    /// Records have the places and numbers that their messages have.
    #[track_caller]
    fn records_from(&self, link: &mut Link<'_>, name: &str, form: Form, place: &Token) {
        let target = format!("{}?offset={}&view=records", link.run.path(name), place.text);
        let answer = link.ask(&Request::new("GET", &target)).expect(200);
        let mut at = usize::try_from(place.position).expect("fits");
        let mut number = None;
        for line in answer.text().lines() {
            let record: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
            let kept = match form {
                Form::Text => record["data"].as_str().expect("text").to_owned(),
                Form::Json => {
                    let (_, data) = line.split_once(r#""data":"#).expect("a record has data");
                    format!("{},", data.strip_suffix('}').expect("data comes last"))
                }
            };
            let end = Token::parse(record["offset"].as_str().expect("an offset"));
            let index = record["index"].as_u64().expect("a number");
            assert!(
                self.bytes[at..].starts_with(kept.as_bytes()),
                "{name}: at {at} is not {line}"
            );
            at += kept.len();
            assert_eq!(end.position, at as u64, "{name}: {line}");
            assert_eq!(
                index,
                number.map_or(index, |number: u64| number + 1),
                "{name}: {line}"
            );
            number = Some(index);
        }
        assert_eq!(Token::next(&answer).position, at as u64, "{name}: records");
        if let (Some(number), true) = (number, at == self.bytes.len()) {
            assert_eq!(number + 1, self.messages, "{name}: the number of the last record");
        }
    }
}
