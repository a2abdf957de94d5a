//! From the name of a stream to the subscriptions that want it: named ones by a hash, patterns by a tree of their
//! segments. What it costs to look a name up does not grow with how many subscriptions there are, only with how many
//! patterns could still match.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tailwater_stream::StreamName;
use tailwater_stream::subscription::{Pattern, PatternSegment};

use super::opened::Opened;
use crate::sync::{AtomicU64, RwLock};

/// Subscriptions of one name or one pattern.
type Row = Vec<Arc<Opened>>;

#[derive(Default)]
struct Node {
    literals: HashMap<Box<str>, Self, RandomState>,
    one: Option<Box<Self>>,
    any: Option<Box<Self>>,
    /// Those whose pattern ends here.
    here: Row,
}

impl Node {
    fn child(&mut self, segment: &PatternSegment) -> &mut Self {
        match segment {
            PatternSegment::Literal(literal) => self.literals.entry(literal.clone()).or_default(),
            PatternSegment::One => self.one.get_or_insert_default(),
            PatternSegment::Any => self.any.get_or_insert_default(),
        }
    }

    #[cfg(test)]
    fn entries(&self) -> usize {
        let below = self
            .literals
            .values()
            .chain(self.one.as_deref())
            .chain(self.any.as_deref());
        self.here.len() + below.map(Self::entries).sum::<usize>()
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.one.is_none() && self.any.is_none() && self.here.is_empty()
    }

    /// Takes a subscription out, and the nodes that were there for it alone.
    fn remove(&mut self, segments: &[PatternSegment], opened: &Arc<Opened>) {
        let Some((segment, rest)) = segments.split_first() else {
            self.here.retain(|other| !Arc::ptr_eq(other, opened));
            return;
        };
        match segment {
            PatternSegment::Literal(literal) => {
                if let Some(child) = self.literals.get_mut(literal) {
                    child.remove(rest, opened);
                    if child.is_empty() {
                        self.literals.remove(literal);
                    }
                }
            }
            PatternSegment::One => remove_below(&mut self.one, rest, opened),
            PatternSegment::Any => remove_below(&mut self.any, rest, opened),
        }
    }
}

fn remove_below(child: &mut Option<Box<Node>>, rest: &[PatternSegment], opened: &Arc<Opened>) {
    if let Some(node) = child {
        node.remove(rest, opened);
        if node.is_empty() {
            *child = None;
        }
    }
}

/// The nodes that a name may have led to so far. Each is there once, so their number is bounded by that of the tree's.
#[derive(Default)]
struct Front<'t> {
    nodes: Vec<(&'t Node, bool)>,
}

impl<'t> Front<'t> {
    /// Adds a node, and what follows it without a segment. `stays` is whether it takes any segment and is still there.
    fn add(&mut self, node: &'t Node, stays: bool) {
        let is_known =
            |(other, other_stays): &(&Node, bool)| std::ptr::eq(*other, node) && *other_stays == stays;
        if self.nodes.iter().any(is_known) {
            return;
        }
        self.nodes.push((node, stays));
        if let Some(any) = &node.any {
            self.add(any, true);
        }
    }

    fn step(&self, segment: &str) -> Self {
        let mut next = Self::default();
        for (node, stays) in &self.nodes {
            if *stays {
                next.add(node, true);
            }
            if let Some(child) = node.literals.get(segment) {
                next.add(child, false);
            }
            if let Some(child) = &node.one {
                next.add(child, false);
            }
        }
        next
    }
}

#[derive(Default)]
struct Rows {
    named: HashMap<StreamName, Row, RandomState>,
    patterns: Node,
}

impl Rows {
    /// Visits those who want a stream, and answers how many nodes of the tree were looked at for that.
    fn visit(&self, name: &StreamName, mut visit: impl FnMut(&Arc<Opened>)) -> usize {
        for opened in self.named.get(name).into_iter().flatten() {
            visit(opened);
        }
        let mut front = Front::default();
        front.add(&self.patterns, false);
        let mut looked_at = front.nodes.len();
        for segment in name.as_str().split('/') {
            front = front.step(segment);
            looked_at += front.nodes.len();
            if front.nodes.is_empty() {
                break;
            }
        }
        for (node, _) in front.nodes {
            node.here.iter().for_each(&mut visit);
        }
        looked_at
    }
}

/// Who wants which streams.
#[derive(Default)]
pub(crate) struct Index {
    rows: RwLock<Rows>,
    /// Grows with each change, so that what was looked up before is known to be old.
    version: AtomicU64,
}

impl Index {
    /// The version of what is looked up from now on; 0 if there has never been anything.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    fn change(&self, change: impl FnOnce(&mut Rows)) {
        change(&mut self.rows.write());
        self.version.fetch_add(1, Ordering::SeqCst);
        // Whoever looks up tails does so behind this fence: an append that did not see the new version has shown its
        // tail before.
        fence(Ordering::SeqCst);
    }

    pub(super) fn add_pattern(&self, pattern: &Pattern, opened: &Arc<Opened>) {
        self.change(|rows| {
            let segments = pattern.segments().iter();
            let end = segments.fold(&mut rows.patterns, |node, segment| node.child(segment));
            end.here.push(Arc::clone(opened));
        });
    }

    pub(super) fn remove_pattern(&self, pattern: &Pattern, opened: &Arc<Opened>) {
        self.change(|rows| rows.patterns.remove(pattern.segments(), opened));
    }

    pub(super) fn add_streams<'a>(
        &self,
        streams: impl IntoIterator<Item = &'a StreamName>,
        opened: &Arc<Opened>,
    ) {
        self.change(|rows| {
            for stream in streams {
                let row = rows.named.entry_ref(stream).or_default();
                if !row.iter().any(|other| Arc::ptr_eq(other, opened)) {
                    row.push(Arc::clone(opened));
                }
            }
        });
    }

    pub(super) fn remove_streams<'a>(
        &self,
        streams: impl IntoIterator<Item = &'a StreamName>,
        opened: &Arc<Opened>,
    ) {
        self.change(|rows| {
            for stream in streams {
                if let Some(row) = rows.named.get_mut(stream) {
                    row.retain(|other| !Arc::ptr_eq(other, opened));
                    if row.is_empty() {
                        rows.named.remove(stream);
                    }
                }
            }
        });
    }

    /// The streams that a subscription names. Looks through all names.
    pub(super) fn names_of(&self, opened: &Arc<Opened>) -> Vec<StreamName> {
        let rows = self.rows.read();
        let named = rows.named.iter();
        let of_it = named.filter(|(_, row)| row.iter().any(|other| Arc::ptr_eq(other, opened)));
        of_it.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn is_wanted(&self, name: &StreamName) -> bool {
        let mut is_wanted = false;
        self.rows.read().visit(name, |_| is_wanted = true);
        is_wanted
    }

    /// Visits those who want a stream; one that wants it twice may be visited twice.
    pub(super) fn visit(&self, name: &StreamName, visit: impl FnMut(&Arc<Opened>)) {
        self.rows.read().visit(name, visit);
    }

    /// Entries of subscriptions.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        let rows = self.rows.read();
        rows.named.values().map(Vec::len).sum::<usize>() + rows.patterns.entries()
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tailwater_stream::{NameLimits, SubscriptionId};

    fn opened(id: &str) -> Arc<Opened> {
        Arc::new(Opened::new(SubscriptionId::parse(id).expect("an id")))
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text, NameLimits::default()).expect("a name")
    }

    fn found(index: &Index, text: &str) -> Vec<String> {
        let mut ids = Vec::new();
        index.visit(&name(text), |opened| ids.push(opened.id.to_string()));
        ids.sort();
        ids.dedup();
        ids
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind() {
        let index = Index::default();
        let (one, other) = (opened("one"), opened("other"));
        let pattern = Pattern::parse("a/**/b/*").expect("a pattern");
        let streams = [name("x"), name("y")];
        index.add_pattern(&pattern, &one);
        index.add_pattern(&pattern, &other);
        index.add_streams(&streams, &one);
        assert_eq!(found(&index, "a/b/c"), ["one", "other"]);
        assert_eq!(found(&index, "x"), ["one"]);
        index.remove_pattern(&pattern, &one);
        index.remove_streams(&streams, &one);
        assert_eq!(found(&index, "a/b/c"), ["other"]);
        index.remove_pattern(&pattern, &other);
        let rows = index.rows.read();
        assert!(rows.named.is_empty() && rows.patterns.is_empty());
    }

    /// Ten thousand subscriptions: by name, and by patterns of other prefixes in each shape. A name leads past those that it
    /// cannot mean, however many there are.
    #[test]
    fn a_name_is_looked_up_among_few_nodes_however_many_subscriptions_there_are() {
        let looked_at = |subscriptions: usize| {
            let index = Index::default();
            for number in 0..subscriptions {
                let opened = opened(&format!("{number:05}"));
                let pattern = match number % 4 {
                    0 => {
                        index.add_streams(&[name(&format!("named/{number}"))], &opened);
                        continue;
                    }
                    1 => format!("tenant-{number}/**"),
                    2 => format!("tenant-{number}/*/events"),
                    _ => format!("shared/group-{number}/*"),
                };
                index.add_pattern(&Pattern::parse(&pattern).expect("a pattern"), &opened);
            }
            let mut found = 0;
            let names = [
                "tenant-5/a/events",
                "shared/group-7/x",
                "named/8",
                "other/a/b/c/d",
            ];
            let looked_at = names.map(|text| index.rows.read().visit(&name(text), |_| found += 1));
            assert_eq!(found, 3);
            looked_at
        };
        let few = looked_at(12);
        assert!(few.iter().all(|count| *count <= 8), "{few:?}");
        assert_eq!(looked_at(10_000), few);
    }

    proptest! {
        #[test]
        fn a_name_finds_exactly_the_patterns_that_match_it(
            patterns in prop::collection::vec(
                prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..6),
                1..12,
            ),
            names in prop::collection::vec(
                prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..6),
                1..12,
            ),
        ) {
            let index = Index::default();
            let mut all = Vec::new();
            for (number, pattern) in patterns.iter().enumerate() {
                let pattern = Pattern::parse(&pattern.join("/")).expect("a pattern");
                let id = format!("{number:02}");
                index.add_pattern(&pattern, &opened(&id));
                all.push((id, pattern));
            }
            for text in names.iter().map(|name| name.join("/")) {
                let matching = all.iter().filter(|(_, pattern)| pattern.matches(&text));
                let expected: Vec<_> = matching.map(|(id, _)| id.clone()).collect();
                prop_assert_eq!(index.is_wanted(&name(&text)), !expected.is_empty());
                prop_assert_eq!(found(&index, &text), expected, "{}", text);
            }
        }
    }
}
