//! Streams that live short lives: what each name should stand for, deed by deed. Knows no server.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::{Batch, Form, beginning};
use crate::link::Token;

/// A stream that holds this much is not appended to any more.
const LIFE_BYTES_MAX: usize = 100_000;
/// The place at the beginning of every stream.
const BEGINNING: &str = "0000000000000000_0000000000000000";

/// A place of a stream, and how many messages are before it. Its text is known if it was ever answered.
#[derive(Clone, Debug)]
struct Place {
    position: u64,
    messages: u64,
    text: Option<String>,
}

/// A stream.
#[derive(Clone, Debug)]
struct Life {
    form: Form,
    ttl_secs: Option<u64>,
    closed: bool,
    oldest: u64,
    /// From position 0 on, what is trimmed or inherited included.
    bytes: Arc<Vec<u8>>,
    /// The beginning, and the places behind its appends in order; the last one is the tail.
    places: Vec<Place>,
    source: Option<String>,
    /// Where what is its own begins.
    own_from: u64,
    /// Deleted, and held by its forks.
    is_held: bool,
}

/// What is found at a name that is not free.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Held,
    Alive(Seen),
}

/// What is found of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) content_type: String,
    pub(crate) ttl_secs: Option<u64>,
    pub(crate) closed: bool,
    pub(crate) oldest: u64,
    pub(crate) tail: Token,
    pub(crate) messages: u64,
    pub(crate) source: Option<String>,
    /// From `oldest` on.
    pub(crate) kept: Vec<u8>,
}

/// Something that a client does to the stream of a name.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    pub(crate) name: String,
    pub(crate) kind: DeedKind,
}

/// What it does.
#[derive(Clone, Debug)]
pub(crate) enum DeedKind {
    Create {
        form: Form,
        ttl_secs: Option<u64>,
        batch: Option<Batch>,
        closed: bool,
    },
    Fork {
        source: String,
        at: Option<Token>,
    },
    Append {
        form: Form,
        batch: Option<Batch>,
        closes: bool,
    },
    Trim {
        before: Token,
    },
    Delete,
}

/// What names stand for; those that are not there are free.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    lives: BTreeMap<String, Life>,
}

impl Life {
    fn tail(&self) -> &Place {
        self.places.last().expect("a stream has a beginning")
    }

    fn push(&mut self, batch: &Batch) {
        let messages = self.tail().messages + batch.messages;
        Arc::make_mut(&mut self.bytes).extend_from_slice(&batch.kept);
        self.places.push(Place {
            position: self.bytes.len() as u64,
            messages,
            text: None,
        });
    }

    /// How it differs from what was found.
    fn difference(&self, found: Option<&Found>) -> Option<String> {
        let seen = match (self.is_held, found) {
            (true, Some(Found::Held)) => return None,
            (false, Some(Found::Alive(seen))) => seen,
            (true, Some(Found::Alive(_))) => return Some("was deleted, and is there".to_owned()),
            (false, Some(Found::Held)) => return Some("should be there, and is deleted".to_owned()),
            (_, None) => return Some("is not there".to_owned()),
        };
        let tail = self.tail();
        let text = tail.text.as_ref().unwrap_or(&seen.tail.text);
        let expected = (
            (self.form.content_type(), self.ttl_secs, self.closed, &self.source),
            (self.oldest, tail.position, text, tail.messages),
        );
        let there = (
            (
                seen.content_type.as_str(),
                seen.ttl_secs,
                seen.closed,
                &seen.source,
            ),
            (seen.oldest, seen.tail.position, &seen.tail.text, seen.messages),
        );
        if expected != there {
            return Some(format!("should be {expected:?} and is {there:?}"));
        }
        let kept = &self.bytes[usize::try_from(self.oldest).expect("fits")..];
        let differing = kept
            .iter()
            .zip(&seen.kept)
            .position(|(expected, there)| expected != there);
        (kept != seen.kept).then(|| {
            let at = differing.unwrap_or(0);
            format!("differs from byte {at} on: {:?}", beginning(&seen.kept[at..]))
        })
    }
}

impl World {
    /// What a deed that is done makes of the world.
    pub(crate) fn after(&self, deed: &Deed) -> Self {
        let mut world = self.clone();
        let name = &deed.name;
        match &deed.kind {
            DeedKind::Create {
                form,
                ttl_secs,
                batch,
                closed,
            } => {
                let mut life = Life {
                    form: *form,
                    ttl_secs: *ttl_secs,
                    closed: *closed,
                    oldest: 0,
                    bytes: Arc::default(),
                    places: vec![Place {
                        position: 0,
                        messages: 0,
                        text: Some(BEGINNING.to_owned()),
                    }],
                    source: None,
                    own_from: 0,
                    is_held: false,
                };
                if let Some(batch) = batch {
                    life.push(batch);
                }
                // The one that is there already stays when its request is repeated.
                world.lives.entry(name.clone()).or_insert(life);
            }
            DeedKind::Fork { source, at } => {
                let life = world.fork(source, at.as_ref());
                world.lives.insert(name.clone(), life);
            }
            DeedKind::Append { batch, closes, .. } => {
                let life = world.life(name);
                if let Some(batch) = batch {
                    life.push(batch);
                }
                life.closed = *closes;
            }
            DeedKind::Trim { before } => world.life(name).oldest = before.position,
            DeedKind::Delete => world.delete(name),
        }
        world
    }

    fn life(&mut self, name: &str) -> &mut Life {
        self.lives.get_mut(name).expect("deeds are done to what is there")
    }

    fn fork(&self, source: &str, at: Option<&Token>) -> Life {
        let from = &self.lives[source];
        let point = at.map_or(from.tail().position, |at| at.position);
        let within = from.places.iter().filter(|place| place.position <= point);
        Life {
            closed: false,
            bytes: Arc::new(from.bytes[..usize::try_from(point).expect("fits")].to_vec()),
            places: within.cloned().collect(),
            source: Some(source.to_owned()),
            own_from: point,
            ..from.clone()
        }
    }

    /// A stream with forks is held; the last fork's end is also that of a source that was held.
    fn delete(&mut self, name: &str) {
        let has_forks = |lives: &BTreeMap<String, Life>, name: &str| {
            lives.values().any(|life| life.source.as_deref() == Some(name))
        };
        if has_forks(&self.lives, name) {
            self.life(name).is_held = true;
            return;
        }
        let mut ended = self.lives.remove(name);
        while let Some(source) = ended.and_then(|life| life.source) {
            if !self.lives[&source].is_held || has_forks(&self.lives, &source) {
                return;
            }
            ended = self.lives.remove(&source);
        }
    }

    /// Learns how the server names the tail of a stream.
    pub(crate) fn learn(&mut self, name: &str, tail: &Token) {
        let place = self
            .life(name)
            .places
            .last_mut()
            .expect("a stream has a beginning");
        assert_eq!(place.position, tail.position, "{name}: its tail is {}", tail.text);
        place.text = Some(tail.text.clone());
    }

    /// The tail of a stream, if it is known and a place of no other stream.
    pub(crate) fn own_tail(&self, name: &str) -> Option<Token> {
        let life = self.lives.get(name)?;
        let place = life.tail();
        let text = place.text.clone().filter(|_| place.position > life.own_from)?;
        Some(Token {
            text,
            position: place.position,
        })
    }

    /// How it differs from what was found.
    pub(crate) fn difference(&self, found: &BTreeMap<String, Found>) -> Option<String> {
        let unknown = found.keys().find(|name| !self.lives.contains_key(*name));
        if let Some(name) = unknown {
            let is_held = matches!(found[name], Found::Held);
            return Some(format!(
                "{name}: should be free, and is {}",
                if is_held { "deleted" } else { "there" }
            ));
        }
        self.lives.iter().find_map(|(name, life)| {
            let difference = life.difference(found.get(name))?;
            Some(format!("{name}: {difference}"))
        })
    }

    /// Something that may be done now, to one of these names.
    pub(crate) fn choose(
        &self,
        names: &[String],
        writer: &str,
        number: u64,
        rng: &mut fastrand::Rng,
    ) -> Deed {
        let name = rng.choice(names).expect("there are names").clone();
        let kind = match self.lives.get(&name) {
            None => self.choose_birth(writer, number, rng),
            Some(life) if life.is_held => return self.choose(names, writer, number, rng),
            Some(life) => life.choose(writer, number, rng),
        };
        Deed { name, kind }
    }

    fn choose_birth(&self, writer: &str, number: u64, rng: &mut fastrand::Rng) -> DeedKind {
        let can_fork = |(_, life): &(&String, &Life)| !life.is_held && life.ttl_secs.is_none();
        let sources: Vec<_> = self.lives.iter().filter(can_fork).collect();
        if let (Some((source, life)), true) = (rng.choice(sources), rng.bool()) {
            return DeedKind::Fork {
                source: source.clone(),
                at: if rng.bool() {
                    life.choose_place(0, rng)
                } else {
                    None
                },
            };
        }
        let form = if rng.bool() { Form::Text } else { Form::Json };
        DeedKind::Create {
            form,
            ttl_secs: (rng.u32(..4) == 0).then_some(3600),
            batch: rng.bool().then(|| form.batch(writer, number, rng)),
            closed: rng.u32(..8) == 0,
        }
    }
}

impl Life {
    fn choose(&self, writer: &str, number: u64, rng: &mut fastrand::Rng) -> DeedKind {
        match rng.u32(..20) {
            0..15 if !self.closed && self.bytes.len() < LIFE_BYTES_MAX => DeedKind::Append {
                form: self.form,
                batch: Some(self.form.batch(writer, number, rng)),
                closes: rng.u32(..12) == 0,
            },
            15 if !self.closed => DeedKind::Append {
                form: self.form,
                batch: None,
                closes: true,
            },
            16..18 => match self.choose_place(1, rng) {
                Some(before) => DeedKind::Trim { before },
                None => DeedKind::Delete,
            },
            _ => DeedKind::Delete,
        }
    }

    /// A place whose text is known, so far behind the oldest one at least.
    fn choose_place(&self, distance: u64, rng: &mut fastrand::Rng) -> Option<Token> {
        let known = self
            .places
            .iter()
            .filter(|place| place.position >= self.oldest + distance);
        let known: Vec<Token> = known
            .filter_map(|place| {
                Some(Token {
                    text: place.text.clone()?,
                    position: place.position,
                })
            })
            .collect();
        rng.choice(known)
    }
}
