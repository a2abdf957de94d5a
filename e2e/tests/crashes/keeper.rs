//! Creates, appends to, closes, trims, forks and deletes streams of its own, and knows what each has to be.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tailwater_e2e::{PATIENCE, Request};

use crate::content::{Form, read, read_on};
use crate::link::{Answer, Link, Run, Token};
use crate::log::Losses;
use crate::world::{Deed, DeedKind, Found, Seen, World};

const NAMES: [char; 8] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
/// Places of streams that are gone, to be asked for again.
const DEAD_PLACES_MAX: usize = 30;

/// One client, which does one thing after another.
#[derive(Debug)]
pub(crate) struct Keeper {
    name: String,
    names: Vec<String>,
    rng: fastrand::Rng,
    batches: u64,
    world: World,
    /// What the world was before, deed by deed since the last look, if a crash may take it back.
    history: Vec<World>,
    /// What was sent last and not answered.
    unanswered: Option<Deed>,
    dead: Vec<(String, Token)>,
    /// Streams that live for a second, and whether one was found to be gone.
    mortals: BTreeMap<String, bool>,
}

impl Keeper {
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            names: NAMES.map(|letter| format!("lives/{name}/{letter}")).to_vec(),
            rng: fastrand::Rng::with_seed(seed),
            batches: 0,
            world: World::default(),
            history: Vec::new(),
            unanswered: None,
            dead: Vec::new(),
            mortals: BTreeMap::new(),
        }
    }

    /// The streams that are gone soon after they were made begin like this.
    pub(crate) fn is_mortal(name: &str) -> bool {
        name.starts_with("mortal/")
    }

    pub(crate) fn owns(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Does deeds until the server goes away.
    pub(crate) fn act(&mut self, run: &Run, losses: Losses) {
        let mut link = Link::new(run);
        while self.act_once(&mut link, losses).is_some() {
            if self.rng.u32(..40) == 0 && self.make_mortal(&mut link).is_none() {
                return;
            }
        }
    }

    #[track_caller]
    fn act_once(&mut self, link: &mut Link<'_>, losses: Losses) -> Option<()> {
        self.batches += 1;
        let deed = self
            .world
            .choose(&self.names, &self.name, self.batches, &mut self.rng);
        let (request, status) = request(link.run, &deed);
        let answer = match link.send(&request) {
            Answer::Given(answer) => answer.expect(status),
            Answer::Refused => return None,
            Answer::Lost => {
                self.unanswered = Some(deed);
                return None;
            }
        };
        let after = self.world.after(&deed);
        if losses == Losses::TheLast {
            self.history.push(self.world.clone());
        }
        let was = self.world.own_tail(&deed.name);
        self.world = after;
        match deed.kind {
            DeedKind::Delete => self.dead.extend(was.map(|tail| (deed.name, tail))),
            _ => self.world.learn(&deed.name, &Token::next(&answer)),
        }
        Some(())
    }

    #[track_caller]
    fn make_mortal(&mut self, link: &mut Link<'_>) -> Option<()> {
        let name = format!("mortal/{}/{}", self.name, self.mortals.len());
        let request = Request::new("PUT", &link.run.path(&name))
            .header("Content-Type", "text/plain")
            .header("Stream-TTL", "1")
            .body("short");
        self.mortals.insert(name, false);
        link.send(&request).given()?.expect(201);
        Some(())
    }

    /// Looks at all of its streams, and decides whether what was not answered was done.
    #[track_caller]
    pub(crate) fn look(&mut self, link: &mut Link<'_>, listed: &BTreeMap<String, Value>, losses: Losses) {
        let deadline = Instant::now() + PATIENCE;
        let unanswered = self.unanswered.take();
        let found = loop {
            let found = self.find(link, listed);
            let mut possible = vec![self.world.clone()];
            possible.extend(unanswered.as_ref().map(|deed| self.world.after(deed)));
            possible.extend(self.history.iter().rev().cloned());
            let differences: Vec<Option<String>> =
                possible.iter().map(|world| world.difference(&found)).collect();
            if let Some(index) = differences.iter().position(Option::is_none) {
                if index > 1 || unanswered.is_none() && index > 0 {
                    // A deletion may have been taken back.
                    self.dead.clear();
                }
                self.world = possible.swap_remove(index);
                break found;
            }
            // What a deleted fork leaves behind is cleared a moment after the start.
            let may_change = found.values().any(|found| matches!(found, Found::Held));
            assert!(
                may_change && Instant::now() < deadline,
                "the keeper {} finds what was never acknowledged, or misses what was, losses: {losses:?}\n\
                 unanswered: {unanswered:?}\n{:#?}",
                self.name,
                differences.iter().take(2).collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        self.history.clear();
        for (name, found) in &found {
            if let Found::Alive(seen) = found {
                self.world.learn(name, &seen.tail);
            }
        }
        let superfluous = self.dead.len().saturating_sub(DEAD_PLACES_MAX);
        self.dead.drain(..superfluous);
        for (name, token) in &self.dead {
            let answer = read(link, name, &token.text);
            assert!(
                matches!(answer.status(), 404 | 410),
                "{name}: a place of a stream that was deleted: {answer:?}"
            );
        }
        self.look_at_mortals(link);
    }

    #[track_caller]
    fn find(&self, link: &mut Link<'_>, listed: &BTreeMap<String, Value>) -> BTreeMap<String, Found> {
        let find = |name: &String| {
            let head = link.ask(&Request::new("HEAD", &link.run.path(name)));
            assert_eq!(
                head.status() == 200,
                listed.contains_key(name),
                "{name}: HEAD and the listing"
            );
            let found = match head.status() {
                200 => Found::Alive(see(link, name, &listed[name])),
                404 => return None,
                410 => Found::Held,
                _ => panic!("{name}: {head:?}"),
            };
            Some((name.clone(), found))
        };
        self.names.iter().filter_map(find).collect()
    }

    /// Whether all streams that live for a second are gone. None of them comes back.
    #[track_caller]
    pub(crate) fn look_at_mortals(&mut self, link: &mut Link<'_>) -> bool {
        for (name, is_gone) in &mut self.mortals {
            let status = link.ask(&Request::new("HEAD", &link.run.path(name))).status();
            assert!(
                status == 404 || status == 200 && !*is_gone,
                "{name}: {status}, gone before: {is_gone}"
            );
            *is_gone = status == 404;
        }
        self.mortals.values().all(|is_gone| *is_gone)
    }
}

/// The request of a deed, and how it is answered.
fn request(run: &Run, deed: &Deed) -> (Request, u16) {
    let path = run.path(&deed.name);
    match &deed.kind {
        DeedKind::Create {
            form,
            ttl_secs,
            batch,
            closed,
        } => {
            let mut request = Request::new("PUT", &path).header("Content-Type", form.content_type());
            if let Some(ttl_secs) = ttl_secs {
                request = request.header("Stream-TTL", &ttl_secs.to_string());
            }
            if *closed {
                request = request.header("Stream-Closed", "true");
            }
            if let Some(batch) = batch {
                request = request.body(batch.sent.clone());
            }
            (request, 201)
        }
        DeedKind::Fork { source, at } => {
            let request = Request::new("PUT", &path).header("Stream-Forked-From", &run.path(source));
            let at = at.iter();
            let request = at.fold(request, |request, at| {
                request.header("Stream-Fork-Offset", &at.text)
            });
            (request, 201)
        }
        DeedKind::Append { form, batch, closes } => {
            let mut request = Request::new("POST", &path);
            if *closes {
                request = request.header("Stream-Closed", "true");
            }
            if let Some(batch) = batch {
                request = request
                    .header("Content-Type", form.content_type())
                    .body(batch.sent.clone());
            }
            (request, 204)
        }
        DeedKind::Trim { before } => {
            let body = json!({ "stream": deed.name, "before": before.text }).to_string();
            (Request::new("POST", &run.path("__ds/trim")).body(body), 204)
        }
        DeedKind::Delete => (Request::new("DELETE", &path), 204),
    }
}

/// All that can be seen of a stream.
#[track_caller]
fn see(link: &mut Link<'_>, name: &str, listed: &Value) -> Seen {
    let text = |field: &str| listed[field].as_str().map(str::to_owned);
    let content_type = text("content_type").expect("a text");
    let form = if content_type == Form::Json.content_type() {
        Form::Json
    } else {
        Form::Text
    };
    let oldest = text("oldest_offset").expect("a text");
    let tail = Token::parse(&text("next_offset").expect("a text"));
    let (kept, end) = read_on(link, name, form, &oldest);
    assert_eq!(end, tail, "{name}: the end of the read and the listing");
    Seen {
        content_type,
        ttl_secs: listed["ttl_seconds"].as_u64(),
        closed: listed["closed"] == true,
        oldest: Token::parse(&oldest).position,
        tail,
        messages: listed["messages"].as_u64().expect("a number"),
        source: text("forked_from"),
        kept,
    }
}
