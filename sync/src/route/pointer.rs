//! JSON pointers (RFC 6901), and all those of a route looked up in one pass over an event's text. Parses nothing that
//! no pointer leads to, and keeps every value's very text.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Steps of one pointer: each may go through all of the text once more.
const STEPS_MAX: usize = 64;

/// A place in a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    steps: Vec<String>,
}

/// A text that is no pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointerFault {
    /// It does not begin with a slash.
    #[error("a pointer is empty, which is the whole event, or begins with `/`, as in `/run/id`")]
    NoSlash,
    /// `~` is followed by something else than `0` or `1`.
    #[error("`~` is written as `~0`, and `/` inside of a name as `~1`")]
    Tilde,
    /// It is too deep.
    #[error("a pointer has {STEPS_MAX} steps at most")]
    TooDeep,
}

impl FromStr for Pointer {
    type Err = PointerFault;

    fn from_str(text: &str) -> Result<Self, PointerFault> {
        if text.is_empty() {
            return Ok(Self { steps: Vec::new() });
        }
        let steps = text.strip_prefix('/').ok_or(PointerFault::NoSlash)?.split('/');
        let steps: Vec<_> = steps.map(unescaped).collect::<Result<_, _>>()?;
        if steps.len() > STEPS_MAX {
            return Err(PointerFault::TooDeep);
        }
        Ok(Self { steps })
    }
}

fn unescaped(step: &str) -> Result<String, PointerFault> {
    let mut pieces = step.split('~');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.try_fold(first, |mut step, piece| {
        let (character, rest) = match piece.split_at_checked(1) {
            Some(("0", rest)) => ('~', rest),
            Some(("1", rest)) => ('/', rest),
            _ => return Err(PointerFault::Tilde),
        };
        step.push(character);
        step.push_str(rest);
        Ok(step)
    })
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            write!(f, "/{}", step.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

/// Several pointers that are looked up together. Those that begin alike share the way.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    root: Node,
    pointers: usize,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// The numbers of the pointers that end here.
    ends: Vec<usize>,
    children: Vec<Child>,
}

#[derive(Debug, Clone)]
struct Child {
    step: String,
    /// What the step is in an array: a number as RFC 6901 writes it, without zeros before it.
    index: Option<usize>,
    node: Node,
}

/// What is at the places of pointers, by their numbers.
type Found<'a> = Vec<Option<&'a RawValue>>;

impl Search {
    pub(super) fn new<'p>(pointers: impl Iterator<Item = &'p Pointer>) -> Self {
        let mut search = Self::default();
        for pointer in pointers {
            let node = pointer.steps.iter().fold(&mut search.root, Node::child);
            node.ends.push(search.pointers);
            search.pointers += 1;
        }
        search
    }

    /// What a JSON text has at each pointer. Of a key that is there several times the last one counts, as in `jsonb`.
    pub(super) fn find<'a>(&self, text: &'a str) -> Result<Found<'a>, serde_json::Error> {
        let mut found = vec![None; self.pointers];
        if found.is_empty() {
            return Ok(found);
        }
        self.root.gather(serde_json::from_str(text)?, &mut found)?;
        Ok(found)
    }
}

impl Node {
    fn child(&mut self, step: &String) -> &mut Self {
        let at = self.children.iter().position(|child| child.step == *step);
        let at = at.unwrap_or_else(|| {
            let index = step
                .parse()
                .ok()
                .filter(|index: &usize| index.to_string() == *step);
            self.children.push(Child {
                step: step.clone(),
                index,
                node: Self::default(),
            });
            self.children.len() - 1
        });
        &mut self.children[at].node
    }

    /// Finds what is here and below. It goes down no further than pointers do.
    fn gather<'a>(&self, here: &'a RawValue, found: &mut Found<'a>) -> Result<(), serde_json::Error> {
        for end in &self.ends {
            found[*end] = Some(here);
        }
        if self.children.is_empty() {
            return Ok(());
        }
        let mut inner = serde_json::Deserializer::from_str(here.get());
        let below = Below { node: self, found };
        match here.get().as_bytes().first() {
            Some(b'{') => inner.deserialize_map(below),
            Some(b'[') => inner.deserialize_seq(below),
            _ => Ok(()),
        }
    }

    fn forget(&self, found: &mut Found<'_>) {
        for end in &self.ends {
            found[*end] = None;
        }
        for child in &self.children {
            child.node.forget(found);
        }
    }
}

struct Below<'n, 'f, 'a> {
    node: &'n Node,
    found: &'f mut Found<'a>,
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Visitor<'a> for Below<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            match self.node.children.iter().find(|child| child.step == key) {
                Some(child) => {
                    child.node.forget(self.found);
                    let gathered = child.node.gather(map.next_value()?, self.found);
                    gathered.map_err(A::Error::custom)?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            match self.node.children.iter().find(|child| child.index == Some(index)) {
                Some(child) => {
                    let Some(item) = items.next_element()? else {
                        return Ok(());
                    };
                    child.node.gather(item, self.found).map_err(A::Error::custom)?;
                }
                None => {
                    if items.next_element::<IgnoredAny>()?.is_none() {
                        return Ok(());
                    }
                }
            }
            index += 1;
        }
    }
}

#[cfg(test)]
#[path = "pointer_tests.rs"]
mod tests;
