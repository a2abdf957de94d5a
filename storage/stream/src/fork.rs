//! Where a fork may branch off (PROTOCOL.md §4.2).

use crate::content_type::ContentKind;
use crate::lineage::Lineage;
use crate::name::StreamName;
use crate::offset::{OffsetToken, Position, StreamId};

/// What a client asks for when it creates a fork. Kept as asked, to know a repeated request by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkRequest {
    /// The stream to branch off from.
    pub source: StreamName,
    /// The place; none means the source's tail at the time of the request.
    pub offset: Option<OffsetToken>,
    /// How much further than that: messages of a JSON stream, bytes of any other.
    pub sub_offset: u64,
}

/// What a stream was forked from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkSource {
    /// The source's incarnation.
    pub id: StreamId,
    /// The source's name.
    pub name: StreamName,
    /// Where the fork branches off: the first position of its own.
    pub point: Position,
}

/// Where a fork branches off, and how many messages it inherits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkPoint {
    /// The first position of the fork's own.
    pub position: Position,
    /// Messages before it, counted from the stream's beginning.
    pub messages: u64,
}

/// One append as a backend's index knows it: enough to find messages without reading bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendExtent {
    /// Its first position.
    pub start: Position,
    /// Where it ends, or where a fork cuts it off.
    pub end: Position,
    /// When it was accepted.
    pub at: crate::expiry::Timestamp,
    /// The index of its first message in the stream.
    pub first_message: u64,
    /// Where its messages end, counted from `start`; those beyond `end` are cut off.
    pub ends: crate::transition::MessageEnds,
}

impl AppendExtent {
    /// Where its messages end, in positions of the stream, in order. A message that is cut off ends at the cut.
    pub fn message_ends(&self) -> impl Iterator<Item = Position> + '_ {
        let bytes = usize::try_from(self.end.since(self.start)).expect("an append is below 4 GiB");
        self.ends
            .relative(bytes)
            .map(|end| self.start.advance(u64::from(end)).expect("within the stream"))
            .take_while(|end| *end <= self.end)
    }

    /// Messages of the stream that end at or before `position`, which lies behind the first byte of this append.
    /// A message cut off by a fork counts.
    pub fn messages_before(&self, position: Position) -> u64 {
        let whole = self.message_ends().take_while(|end| *end <= position).count() as u64;
        let cut_off = self.message_ends().all(|end| end != position);
        self.first_message + whole + u64::from(cut_off)
    }
}

/// Why a fork cannot branch off where the client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForkRefusal {
    /// The offset is no place that the source gives out, or lies beyond its tail.
    #[error("Stream-Fork-Offset is no offset of the source stream, or lies beyond its tail")]
    Offset,
    /// The source no longer keeps what follows the offset.
    #[error("the source stream no longer keeps what follows Stream-Fork-Offset")]
    Trimmed,
    /// The sub-offset points past the append that follows the offset.
    #[error("Stream-Fork-Sub-Offset points past the append that follows the offset")]
    SubOffset,
}

/// The position that the request's offset names in the source.
///
/// # Errors
/// [`ForkRefusal`] if the source would not give out that offset.
pub fn anchor(
    request: &ForkRequest,
    lineage: &Lineage,
    oldest: Position,
    tail: Position,
) -> Result<Position, ForkRefusal> {
    use crate::lineage::OffsetRefusal;
    let Some(token) = request.offset else {
        return Ok(tail);
    };
    lineage
        .resolve(token, oldest, tail)
        .map_err(|refusal| match refusal {
            OffsetRefusal::Unknown => ForkRefusal::Offset,
            OffsetRefusal::Trimmed { .. } => ForkRefusal::Trimmed,
        })
}

/// The position `sub_offset` further than `anchor`, which must lie within `append`, the one that holds the byte
/// at `anchor`.
///
/// # Errors
/// [`ForkRefusal::SubOffset`] if that is past the append, or there is none.
pub fn refine(
    kind: ContentKind,
    anchor: Position,
    sub_offset: u64,
    append: Option<&AppendExtent>,
) -> Result<Position, ForkRefusal> {
    if sub_offset == 0 {
        return Ok(anchor);
    }
    let append = append.ok_or(ForkRefusal::SubOffset)?;
    match kind {
        ContentKind::Json => usize::try_from(sub_offset)
            .ok()
            .and_then(|nth| append.message_ends().filter(|end| *end > anchor).nth(nth - 1))
            .ok_or(ForkRefusal::SubOffset),
        ContentKind::Text | ContentKind::Binary => anchor
            .advance(sub_offset)
            .filter(|position| *position <= append.end)
            .ok_or(ForkRefusal::SubOffset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::Timestamp;
    use crate::transition::MessageEnds;

    fn at(number: u64) -> Position {
        Position::new(number).expect("a position")
    }

    fn extent(start: u64, end: u64, ends: MessageEnds) -> AppendExtent {
        AppendExtent {
            start: at(start),
            end: at(end),
            at: Timestamp::from_millis(0),
            first_message: 7,
            ends,
        }
    }

    #[test]
    fn a_sub_offset_stays_within_the_append_that_follows() {
        let append = extent(10, 15, MessageEnds::One);
        let refine = |sub| refine(ContentKind::Binary, at(10), sub, Some(&append));
        assert_eq!(refine(0), Ok(at(10)));
        assert_eq!(refine(5), Ok(at(15)));
        assert_eq!(refine(6), Err(ForkRefusal::SubOffset));
        assert_eq!(refine(u64::MAX), Err(ForkRefusal::SubOffset));
    }

    #[test]
    fn a_json_sub_offset_counts_messages_from_the_anchor() {
        let append = extent(10, 22, MessageEnds::from_ends(vec![3, 6, 12]));
        let refine = |anchor, sub| refine(ContentKind::Json, at(anchor), sub, Some(&append));
        assert_eq!(refine(10, 2), Ok(at(16)));
        assert_eq!(refine(13, 2), Ok(at(22)));
        assert_eq!(refine(13, 3), Err(ForkRefusal::SubOffset));
    }

    #[test]
    fn at_the_tail_there_is_nothing_to_refine() {
        assert_eq!(
            refine(ContentKind::Text, at(9), 1, None),
            Err(ForkRefusal::SubOffset)
        );
        assert_eq!(refine(ContentKind::Text, at(9), 0, None), Ok(at(9)));
    }

    #[test]
    fn a_message_cut_off_by_a_fork_counts() {
        let append = extent(10, 15, MessageEnds::One);
        assert_eq!(append.messages_before(at(15)), 8);
        assert_eq!(append.messages_before(at(13)), 8);
        let cut = extent(10, 13, MessageEnds::One);
        assert_eq!(cut.message_ends().collect::<Vec<_>>(), [at(13)]);
        let json = extent(10, 22, MessageEnds::from_ends(vec![3, 6, 12]));
        assert_eq!(json.messages_before(at(16)), 9);
    }
}
