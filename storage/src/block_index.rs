//! The index of a block: where its appends and their messages end, and when they came. FORMAT.md describes it.
//!
//! Appends that follow each other and are alike, as one writer's often are, are one *group*: equally long, with
//! their messages in the same places, and each as much later than the one before it.

use tailwater_stream::{MessageEnds, Timestamp};

use crate::codec::{Decoder, Encode as _, Malformed};

/// The ends of several messages follow.
const HAS_ENDS: u64 = 1;
/// A difference of times follows; without it the times are equal.
const HAS_STEP: u64 = 2;
/// How many more appends are alike, above the flags.
const COUNT_SHIFT: u32 = 2;

/// Appends that are alike.
#[derive(Debug, PartialEq, Eq)]
struct Alike {
    count: u64,
    bytes: u32,
    /// Milliseconds from each append to the next, and from the one before the group to the first.
    step: u64,
    ends: MessageEnds,
}

/// Encodes the indices of a run's blocks, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct IndexWriter {
    bytes: Vec<u8>,
    open: Option<Alike>,
    last_at: u64,
}

impl IndexWriter {
    /// Goes on with the index of a block, as if it had not been ended.
    pub(crate) fn resume(mut groups: Groups<'_>) -> Result<Self, Malformed> {
        let index = groups.index.rest();
        let mut last = None;
        loop {
            let begins = index.len() - groups.index.rest().len();
            match groups.next()? {
                Some(group) => last = Some((begins, group)),
                None => break,
            }
        }
        let what = "the index of a block";
        let (begins, group) = last.ok_or(Malformed { what })?;
        Ok(Self {
            bytes: index[..begins].to_vec(),
            open: Some(Alike {
                count: group.count,
                bytes: u32::try_from(group.bytes).map_err(|_too_long| Malformed { what })?,
                step: group.step,
                ends: group.ends()?,
            }),
            last_at: groups.last_at,
        })
    }

    /// What is encoded so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds an append. It has at least one byte.
    pub(crate) fn push(&mut self, bytes: u32, at: Timestamp, ends: &MessageEnds) {
        let step = at.as_millis().wrapping_sub(self.last_at);
        self.last_at = at.as_millis();
        if let Some(open) = &mut self.open
            && (open.bytes, open.step) == (bytes, step)
            && open.ends == *ends
        {
            open.count += 1;
            return;
        }
        self.flush();
        self.open = Some(Alike {
            count: 1,
            bytes,
            step,
            ends: ends.clone(),
        });
    }

    /// Ends the block; what follows is the index of the next one.
    pub(crate) fn end_block(&mut self) {
        self.flush();
        self.last_at = 0;
    }

    fn flush(&mut self) {
        let Some(group) = self.open.take() else { return };
        let has_ends = matches!(group.ends, MessageEnds::Many(_));
        let flags = if has_ends { HAS_ENDS } else { 0 } | if group.step == 0 { 0 } else { HAS_STEP };
        self.bytes.put_varint((group.count - 1) << COUNT_SHIFT | flags);
        self.bytes.put_varint(u64::from(group.bytes));
        if group.step != 0 {
            self.bytes.put_varint(zigzag(group.step));
        }
        if has_ends {
            let mut ends = Vec::new();
            ends.put_message_ends(&group.ends);
            self.bytes.put_bytes(&ends);
        }
    }
}

/// Where a block is, as its row and the row before it say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) appends: u32,
    pub(crate) first_message: u64,
}

/// One or several appends of a block that are alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'a> {
    /// How many appends there are; at least one.
    pub(crate) count: u64,
    /// The position of the first append's first byte.
    start: u64,
    /// The length of each; at least one.
    bytes: u64,
    /// The first append's time.
    at: u64,
    step: u64,
    first_message: u64,
    messages_each: u64,
    /// Where the messages of each append end; none if it is one message.
    ends: Option<&'a [u8]>,
}

/// One append of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Indexed {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) at: Timestamp,
    pub(crate) first_message: u64,
}

impl Group<'_> {
    /// The position behind the last append.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.count * self.bytes
    }

    /// How many whole appends end at or before a position.
    pub(crate) fn ended_at(&self, position: u64) -> u64 {
        (position.saturating_sub(self.start) / self.bytes).min(self.count)
    }

    /// The append so many appends behind the first.
    pub(crate) fn append(&self, number: u64) -> Indexed {
        debug_assert!(number < self.count);
        let start = self.start + number * self.bytes;
        Indexed {
            start,
            end: start + self.bytes,
            at: Timestamp::from_millis(self.at.wrapping_add(self.step.wrapping_mul(number))),
            first_message: self.first_message + number * self.messages_each,
        }
    }

    /// Where the messages of each append end, counted from its start.
    pub(crate) fn ends(&self) -> Result<MessageEnds, Malformed> {
        let Some(bytes) = self.ends else {
            return Ok(MessageEnds::One);
        };
        let mut from = Decoder::new(bytes);
        let ends = from.message_ends(self.bytes)?;
        from.end("the ends of messages")?;
        Ok(ends)
    }
}

/// Decodes the index of a block, group by group.
#[derive(Debug, Clone)]
pub(crate) struct Groups<'a> {
    bounds: Bounds,
    index: Decoder<'a>,
    /// Where the next group starts.
    start: u64,
    appends: u64,
    next_message: u64,
    last_at: u64,
}

impl<'a> Groups<'a> {
    pub(crate) fn new(bounds: Bounds, index: &'a [u8]) -> Self {
        Self {
            bounds,
            index: Decoder::new(index),
            start: bounds.from,
            appends: 0,
            next_message: bounds.first_message,
            last_at: 0,
        }
    }

    /// Where the block is.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The next group; none behind the last one, if the groups were all that the block should have.
    pub(crate) fn next(&mut self) -> Result<Option<Group<'a>>, Malformed> {
        let what = "the index of a block";
        let malformed = Malformed { what };
        let is_whole = self.start == self.bounds.until && self.appends == u64::from(self.bounds.appends);
        if self.index.rest().is_empty() {
            return if is_whole { Ok(None) } else { Err(malformed) };
        }
        let head = self.index.varint(what)?;
        let bytes = self.index.varint(what)?;
        let step = if head & HAS_STEP == 0 {
            0
        } else {
            from_zigzag(self.index.varint(what)?)
        };
        let ends = if head & HAS_ENDS == 0 {
            None
        } else {
            Some(self.index.bytes(what)?)
        };
        let messages_each = ends.map_or(Ok(1), |ends| Decoder::new(ends).varint(what))?;
        let group = Group {
            count: (head >> COUNT_SHIFT) + 1,
            start: self.start,
            bytes,
            at: self.last_at.wrapping_add(step),
            step,
            first_message: self.next_message,
            messages_each,
            ends,
        };
        let end = group
            .count
            .checked_mul(bytes)
            .and_then(|bytes| bytes.checked_add(self.start))
            .filter(|end| *end <= self.bounds.until);
        let next_message = group
            .count
            .checked_mul(messages_each)
            .and_then(|messages| messages.checked_add(self.next_message));
        if bytes == 0 || bytes > u64::from(u32::MAX) || messages_each == 0 {
            return Err(malformed);
        }
        self.start = end.ok_or(malformed)?;
        self.next_message = next_message.ok_or(malformed)?;
        self.appends += group.count;
        self.last_at = self.last_at.wrapping_add(step.wrapping_mul(group.count));
        Ok(Some(group))
    }
}

/// How many messages the appends of a block have. Reads all of its index.
pub(crate) fn count_messages(mut groups: Groups<'_>) -> Result<u64, Malformed> {
    while let Some(group) = groups.next()? {
        group.ends()?;
    }
    Ok(groups.next_message - groups.bounds.first_message)
}

/// The end of the last message that ends at or before `limit`, which lies in the block and behind its first byte;
/// or where the block begins.
pub(crate) fn last_message_end(mut groups: Groups<'_>, limit: u64) -> Result<u64, Malformed> {
    if limit == groups.bounds().until {
        return Ok(limit);
    }
    let group = group_at(&mut groups, limit)?;
    let append = group.append(group.ended_at(limit));
    let ends = group.ends()?;
    let MessageEnds::Many(ends) = &ends else {
        return Ok(append.start);
    };
    let fitting = ends.partition_point(|end| append.start + u64::from(*end) <= limit);
    let last = fitting.checked_sub(1).map_or(0, |last| ends[last]);
    Ok(append.start + u64::from(last))
}

/// The end of the first message that ends behind `from`, which lies in the block.
pub(crate) fn first_message_end(mut groups: Groups<'_>, from: u64) -> Result<u64, Malformed> {
    let group = group_at(&mut groups, from)?;
    let append = group.append(group.ended_at(from));
    let ends = group.ends()?;
    let MessageEnds::Many(ends) = &ends else {
        return Ok(append.end);
    };
    let ended = ends.partition_point(|end| append.start + u64::from(*end) <= from);
    // The last one ends with the append, which ends behind `from`.
    Ok(append.start + u64::from(ends[ended]))
}

/// The group that holds the byte at a position of the block.
fn group_at<'a>(groups: &mut Groups<'a>, position: u64) -> Result<Group<'a>, Malformed> {
    while let Some(group) = groups.next()? {
        if group.end() > position {
            return Ok(group);
        }
    }
    let what = "the index of a block";
    Err(Malformed { what })
}

/// Differences of either sign, the small ones to small numbers.
fn zigzag(difference: u64) -> u64 {
    let signed = difference as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

fn from_zigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends of few lengths, times and kinds, so that many are alike.
    fn some_appends(rng: &mut fastrand::Rng) -> Vec<(u32, Timestamp, MessageEnds)> {
        let mut at = rng.u64(..1 << 40);
        let appends = (0..rng.usize(1..40)).map(|_| {
            let bytes = rng.u32(2..5);
            at = at.wrapping_add(rng.u64(..2)).wrapping_sub(rng.u64(..2));
            let ends = if rng.bool() { vec![bytes] } else { vec![1, bytes] };
            (bytes, Timestamp::from_millis(at), MessageEnds::from_ends(ends))
        });
        appends.collect()
    }

    #[test]
    fn an_index_that_was_gone_on_with_is_as_if_it_had_not_been_ended() {
        for seed in 0..500 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let appends = some_appends(&mut rng);
            let (mut whole, mut resumed) = (IndexWriter::default(), IndexWriter::default());
            let mut bounds = Bounds {
                from: 7,
                until: 7,
                appends: 0,
                first_message: 3,
            };
            for (bytes, at, ends) in &appends {
                whole.push(*bytes, *at, ends);
                resumed.push(*bytes, *at, ends);
                bounds.until += u64::from(*bytes);
                bounds.appends += 1;
                if rng.bool() {
                    resumed.end_block();
                    let index = resumed.bytes().to_vec();
                    resumed = IndexWriter::resume(Groups::new(bounds, &index)).expect("it was just written");
                }
            }
            whole.end_block();
            resumed.end_block();
            assert_eq!(resumed.bytes(), whole.bytes(), "seed {seed}");
        }
    }

    #[test]
    fn an_index_that_is_not_that_of_its_block_is_not_gone_on_with() {
        let mut index = IndexWriter::default();
        index.push(5, Timestamp::from_millis(1), &MessageEnds::One);
        index.end_block();
        let bounds = |until, appends| Bounds {
            from: 0,
            until,
            appends,
            first_message: 0,
        };
        for bounds in [bounds(4, 1), bounds(6, 1), bounds(5, 2)] {
            assert!(IndexWriter::resume(Groups::new(bounds, index.bytes())).is_err());
        }
        assert!(IndexWriter::resume(Groups::new(bounds(0, 0), &[])).is_err());
    }
}
