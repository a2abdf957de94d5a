//! Which incarnation owns which positions of a stream, and where their bytes are stored.
//!
//! A stream that is no fork has one span. A fork carries its ancestors' spans up to the fork point and its own
//! behind them, so its offsets equal its source's up to there and sort after them from there on.

use std::sync::Arc;

use crate::offset::{OffsetToken, Position, StreamId};

/// A run of positions with one owner, from `from` to the next span or to the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first position of the span.
    pub from: Position,
    /// The id that tokens of these positions carry.
    pub owner: StreamId,
    /// The stream whose storage holds these bytes, at the same positions. Differs from `owner` after an import
    /// and after positions were lost, when a stream's own storage goes on under a new public id.
    pub stored_in: StreamId,
}

/// The spans of one stream, in order of position; the first begins at 0. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage(Spans);

/// Nearly every stream has one span, which stands right here, so that an append looks nowhere else for it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spans {
    One(Span),
    /// Two or more.
    Several(Arc<[Span]>),
}

/// Why an offset names no place in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OffsetRefusal {
    /// It was never a place in this stream, or lies beyond its tail.
    #[error("the offset is not known to this stream")]
    Unknown,
    /// The stream no longer keeps what follows it.
    #[error("the stream no longer keeps what follows this offset")]
    Trimmed {
        /// The oldest place that can still be read from.
        oldest: OffsetToken,
    },
}

impl Lineage {
    /// The lineage of a stream that is no fork.
    pub fn root(id: StreamId) -> Self {
        Self(Spans::One(Span {
            from: Position::ZERO,
            owner: id,
            stored_in: id,
        }))
    }

    /// The lineage of a fork `id` that branches off this one at `point`.
    pub fn fork(&self, id: StreamId, point: Position) -> Self {
        let inherited = self.spans().iter().copied().filter(|span| span.from < point);
        let own = Span {
            from: point,
            owner: id,
            stored_in: id,
        };
        Self::of(inherited.chain([own]).collect())
    }

    /// The lineage after positions from `from` on may have been given out and lost in a crash: what is appended
    /// there has a new owner, so that a token of a lost position is never taken for one of a later append.
    pub fn renewed(&self, from: Position, owner: StreamId) -> Self {
        let stored_in = self.spans().last().expect("a lineage has a span").stored_in;
        let kept = self.spans().iter().copied().filter(|span| span.from < from);
        let lost = Span {
            from,
            owner,
            stored_in,
        };
        Self::of(kept.chain([lost]).collect())
    }

    /// A lineage from stored spans; none if they are not in order from 0.
    pub fn from_spans(spans: Vec<Span>) -> Option<Self> {
        let starts_at_zero = spans.first().is_some_and(|span| span.from == Position::ZERO);
        let in_order = spans.windows(2).all(|pair| pair[0].from < pair[1].from);
        (starts_at_zero && in_order).then(|| Self::of(spans))
    }

    /// The lineage of spans that are in order from 0.
    fn of(spans: Vec<Span>) -> Self {
        Self(match spans[..] {
            [one] => Spans::One(one),
            _ => Spans::Several(spans.into()),
        })
    }

    /// The spans, in order.
    pub fn spans(&self) -> &[Span] {
        match &self.0 {
            Spans::One(one) => std::slice::from_ref(one),
            Spans::Several(several) => several,
        }
    }

    /// The token that this stream gives out for `position`.
    pub fn token(&self, position: Position) -> OffsetToken {
        if position == Position::ZERO {
            return OffsetToken::START;
        }
        let spans = self.spans();
        let after = spans.partition_point(|span| span.from < position);
        OffsetToken::new(spans[after - 1].owner, position)
    }

    /// The position that `token` names in a stream with this lineage.
    ///
    /// # Errors
    /// [`OffsetRefusal::Unknown`] unless this stream would itself give out that token, and
    /// [`OffsetRefusal::Trimmed`] for a place before `oldest`.
    pub fn resolve(
        &self,
        token: OffsetToken,
        oldest: Position,
        tail: Position,
    ) -> Result<Position, OffsetRefusal> {
        let position = token.position();
        if position > tail || self.token(position) != token {
            return Err(OffsetRefusal::Unknown);
        }
        if position < oldest {
            return Err(OffsetRefusal::Trimmed {
                oldest: self.token(oldest),
            });
        }
        Ok(position)
    }

    /// The span that holds the byte at `position`, and where it ends (none: at the tail).
    pub fn span_at(&self, position: Position) -> (Span, Option<Position>) {
        let spans = self.spans();
        let after = spans.partition_point(|span| span.from <= position);
        (spans[after - 1], spans.get(after).map(|next| next.from))
    }

    /// Whether the byte before `position` is the stream's own and not inherited.
    pub fn owns_before(&self, id: StreamId, position: Position) -> bool {
        let spans = self.spans();
        let after = spans.partition_point(|span| span.from < position);
        after > 0 && spans[after - 1].stored_in == id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u64) -> StreamId {
        StreamId::new(number).expect("an id")
    }

    fn at(number: u64) -> Position {
        Position::new(number).expect("a position")
    }

    #[test]
    fn a_fork_shares_its_sources_tokens_up_to_the_fork_point() {
        let source = Lineage::root(id(5));
        let fork = source.fork(id(9), at(10));
        for position in 0..=10 {
            assert_eq!(fork.token(at(position)), source.token(at(position)));
        }
        assert_eq!(fork.token(at(11)).owner(), Some(id(9)));
        assert!(fork.token(at(11)) > source.token(at(11)));
    }

    #[test]
    fn a_fork_at_the_beginning_inherits_nothing() {
        assert_eq!(Lineage::root(id(5)).fork(id(9), at(0)), Lineage::root(id(9)));
    }

    #[test]
    fn a_renewed_lineage_keeps_old_tokens_and_gives_lost_positions_a_new_owner() {
        let before = Lineage::root(id(5));
        let after = before.renewed(at(10), id(9));
        assert_eq!(after.token(at(10)), before.token(at(10)));
        assert_eq!(after.token(at(11)), OffsetToken::new(id(9), at(11)));
        let lost = before.token(at(11));
        assert_eq!(after.resolve(lost, at(0), at(20)), Err(OffsetRefusal::Unknown));
        assert_eq!(after.span_at(at(15)).0.stored_in, id(5));
        // Nothing of it was durable: the whole storage goes on under the new owner.
        let empty = before.renewed(at(0), id(9));
        assert_eq!(empty.spans().len(), 1);
        assert_eq!(empty.token(at(3)).owner(), Some(id(9)));
    }

    /// A reader of a deleted and re-created stream held an offset of the old one and was given the new one's
    /// data from the middle.
    #[test]
    fn a_token_of_another_incarnation_is_unknown() {
        let old = Lineage::root(id(5)).token(at(7));
        let new = Lineage::root(id(6));
        assert_eq!(new.resolve(old, at(0), at(100)), Err(OffsetRefusal::Unknown));
        assert_eq!(new.resolve(OffsetToken::START, at(0), at(100)), Ok(at(0)));
    }

    #[test]
    fn a_token_beyond_the_tail_is_unknown_and_one_before_the_oldest_is_trimmed() {
        let lineage = Lineage::root(id(5));
        assert_eq!(
            lineage.resolve(lineage.token(at(8)), at(0), at(7)),
            Err(OffsetRefusal::Unknown)
        );
        assert_eq!(
            lineage.resolve(OffsetToken::START, at(3), at(7)),
            Err(OffsetRefusal::Trimmed {
                oldest: lineage.token(at(3))
            })
        );
        assert_eq!(lineage.resolve(lineage.token(at(3)), at(3), at(7)), Ok(at(3)));
    }

    #[test]
    fn the_source_does_not_know_a_forks_own_tokens() {
        let source = Lineage::root(id(5));
        let fork = source.fork(id(9), at(10));
        assert_eq!(
            source.resolve(fork.token(at(11)), at(0), at(50)),
            Err(OffsetRefusal::Unknown)
        );
        assert_eq!(
            fork.resolve(source.token(at(11)), at(0), at(50)),
            Err(OffsetRefusal::Unknown)
        );
    }

    proptest! {
        #[test]
        fn every_position_of_a_fork_chain_resolves_to_itself_and_tokens_grow(
            points in proptest::collection::vec(0_u64..100, 0..6),
        ) {
            let mut lineage = Lineage::root(id(1));
            for (level, point) in points.iter().enumerate() {
                lineage = lineage.fork(id(level as u64 + 2), at(*point));
            }
            let tail = at(120);
            let mut previous = None;
            for number in 0..=120 {
                let token = lineage.token(at(number));
                prop_assert_eq!(lineage.resolve(token, at(0), tail), Ok(at(number)));
                prop_assert!(previous < Some(token));
                previous = Some(token);
            }
            prop_assert_eq!(Lineage::from_spans(lineage.spans().to_vec()), Some(lineage));
        }
    }
}
