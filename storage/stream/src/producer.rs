//! Idempotent producers: epochs, sequence numbers and duplicates (PROTOCOL.md §5.2.1).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::expiry::Timestamp;
use crate::offset::Position;

/// The greatest epoch and sequence number: 2^53 − 1, which JavaScript still counts exactly.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// A producer's stable identifier, chosen by the client. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerId(Arc<str>);

impl ProducerId {
    /// The most bytes in an identifier.
    pub const BYTES_MAX: usize = 256;

    /// An identifier of 1 to [`Self::BYTES_MAX`] bytes; none otherwise.
    pub fn parse(text: &str) -> Option<Self> {
        (1..=Self::BYTES_MAX)
            .contains(&text.len())
            .then(|| Self(text.into()))
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

macro_rules! producer_number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// The first one.
            pub const ZERO: Self = Self(0);

            /// From a number up to [`NUMBER_MAX`]; none beyond it.
            pub const fn new(number: u64) -> Option<Self> {
                if number <= NUMBER_MAX { Some(Self(number)) } else { None }
            }

            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }
    };
}

producer_number!(
    /// A producer's session. A newer one fences the older ones off.
    Epoch
);
producer_number!(
    /// The number of a request within its producer's epoch, from 0 without gaps.
    Seq
);

/// Which request of which producer: what a client sends along so that a retry is known as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerMark {
    /// Whose request it is.
    pub id: ProducerId,
    /// In which session.
    pub epoch: Epoch,
    /// The how-manieth of that session.
    pub seq: Seq,
}

/// What a stream remembers of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState {
    /// The newest epoch seen.
    pub epoch: Epoch,
    /// The highest sequence number accepted in that epoch.
    pub seq: Seq,
    /// The stream's tail after that request.
    pub end: Position,
    /// When it was accepted.
    pub at: Timestamp,
}

/// What a producer's claim means for the request that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProducerVerdict {
    /// It is the next one: append.
    Next,
    /// It was accepted before: answer as then.
    Duplicate(ProducerState),
}

/// Why a producer's claim is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerRefusal {
    /// A newer session of the same producer has taken over.
    #[error("a newer epoch, {current:?}, has fenced this producer off")]
    Fenced {
        /// The epoch that holds the producer id.
        current: Epoch,
    },
    /// A new epoch must begin at sequence number 0.
    #[error("a new epoch must begin at sequence number 0")]
    EpochStart,
    /// Requests before this one are missing.
    #[error("sequence number {expected:?} is expected next, but {received:?} came")]
    Gap {
        /// The next sequence number that would be accepted.
        expected: Seq,
        /// The one that came.
        received: Seq,
    },
    /// The stream remembers as many producers as it may.
    #[error("the stream already has {producers_max} producers")]
    TooMany {
        /// How many it may have.
        producers_max: usize,
    },
}

/// The producers of one stream. None is ever forgotten while the stream exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producers(HashMap<ProducerId, ProducerState, RandomState>);

impl Producers {
    /// Weighs a claim against what is remembered.
    ///
    /// # Errors
    /// A [`ProducerRefusal`] with the facts that the client needs to go on.
    pub fn judge(
        &self,
        claim: &ProducerMark,
        producers_max: usize,
    ) -> Result<ProducerVerdict, ProducerRefusal> {
        let Some(known) = self.0.get(&claim.id) else {
            if claim.seq != Seq::ZERO {
                return Err(ProducerRefusal::Gap {
                    expected: Seq::ZERO,
                    received: claim.seq,
                });
            }
            if self.0.len() >= producers_max {
                return Err(ProducerRefusal::TooMany { producers_max });
            }
            return Ok(ProducerVerdict::Next);
        };
        if claim.epoch < known.epoch {
            return Err(ProducerRefusal::Fenced { current: known.epoch });
        }
        if claim.epoch > known.epoch {
            return if claim.seq == Seq::ZERO {
                Ok(ProducerVerdict::Next)
            } else {
                Err(ProducerRefusal::EpochStart)
            };
        }
        if claim.seq <= known.seq {
            return Ok(ProducerVerdict::Duplicate(*known));
        }
        let expected = Seq(known.seq.0 + 1);
        if claim.seq == expected {
            Ok(ProducerVerdict::Next)
        } else {
            Err(ProducerRefusal::Gap {
                expected,
                received: claim.seq,
            })
        }
    }

    /// Remembers an accepted request.
    pub fn record(&mut self, mark: &ProducerMark, end: Position, at: Timestamp) {
        let state = ProducerState {
            epoch: mark.epoch,
            seq: mark.seq,
            end,
            at,
        };
        if let Some(known) = self.0.get_mut(&mark.id) {
            *known = state;
        } else {
            self.0.insert(mark.id.clone(), state);
        }
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is remembered of one producer.
    pub fn get(&self, id: &ProducerId) -> Option<&ProducerState> {
        self.0.get(id)
    }

    /// All producers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&ProducerId, &ProducerState)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(epoch: u64, seq: u64) -> ProducerMark {
        ProducerMark {
            id: ProducerId::parse("p").expect("an id"),
            epoch: Epoch::new(epoch).expect("an epoch"),
            seq: Seq::new(seq).expect("a number"),
        }
    }

    fn after(marks: &[(u64, u64)]) -> Producers {
        let mut producers = Producers::default();
        for (end, (epoch, seq)) in marks.iter().enumerate() {
            let end = Position::new(end as u64 + 1).expect("a position");
            producers.record(&claim(*epoch, *seq), end, Timestamp::from_millis(0));
        }
        producers
    }

    #[test]
    fn a_producer_begins_at_zero_in_any_epoch() {
        assert_eq!(after(&[]).judge(&claim(7, 0), 1), Ok(ProducerVerdict::Next));
        assert_eq!(
            after(&[]).judge(&claim(0, 2), 1),
            Err(ProducerRefusal::Gap {
                expected: Seq(0),
                received: Seq(2)
            })
        );
    }

    #[test]
    fn a_duplicate_is_answered_with_the_highest_accepted_request() {
        let producers = after(&[(0, 0), (0, 1), (0, 2)]);
        let Ok(ProducerVerdict::Duplicate(state)) = producers.judge(&claim(0, 0), 1) else {
            panic!("a duplicate")
        };
        assert_eq!((state.seq, state.end.get()), (Seq(2), 3));
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_begins_at_zero() {
        let producers = after(&[(3, 0)]);
        assert_eq!(
            producers.judge(&claim(2, 1), 1),
            Err(ProducerRefusal::Fenced { current: Epoch(3) })
        );
        assert_eq!(producers.judge(&claim(4, 0), 1), Ok(ProducerVerdict::Next));
        assert_eq!(producers.judge(&claim(4, 1), 1), Err(ProducerRefusal::EpochStart));
    }

    #[test]
    fn a_full_table_refuses_a_new_producer_and_keeps_the_old_ones() {
        let producers = after(&[(0, 0)]);
        let stranger = ProducerMark {
            id: ProducerId::parse("q").expect("an id"),
            ..claim(0, 0)
        };
        assert_eq!(
            producers.judge(&stranger, 1),
            Err(ProducerRefusal::TooMany { producers_max: 1 })
        );
        assert_eq!(producers.judge(&claim(0, 1), 1), Ok(ProducerVerdict::Next));
    }

    #[test]
    fn numbers_beyond_what_javascript_counts_are_refused() {
        assert!(Epoch::new(NUMBER_MAX).is_some() && Epoch::new(NUMBER_MAX + 1).is_none());
        assert!(ProducerId::parse("").is_none() && ProducerId::parse(&"x".repeat(257)).is_none());
    }
}
