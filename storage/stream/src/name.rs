//! The name of a stream: its path below the stream root, validated once.
//!
//! A name never becomes a file name and never needs escaping inside this crate.

use std::fmt;

use smol_str::SmolStr;

use crate::schedule::ScheduleId;
use crate::subscription::SubscriptionId;

/// The first segment that belongs to the server's own control paths (PROTOCOL.md §6).
pub const RESERVED_SEGMENT: &str = "__ds";
/// What the names of hidden streams begin with.
pub const RESERVED_PREFIX: &str = "__ds/";
/// What the names of the hidden streams of subscriptions begin with; their ids follow.
pub const SUBSCRIPTIONS_PREFIX: &str = "__ds/subscriptions/";
/// What the names of the hidden streams of schedules begin with; their ids follow.
pub const SCHEDULES_PREFIX: &str = "__ds/schedules/";
/// What the names of the hidden streams that tell of queues begin with; the names of the queues' own streams follow.
pub const QUEUES_PREFIX: &str = "__ds/queues/";

/// How long a name may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameLimits {
    /// The most bytes in a name, slashes included.
    pub bytes_max: usize,
    /// The most segments between slashes.
    pub segments_max: usize,
}

impl NameLimits {
    /// For names that were allowed once: they stay names, whatever the limits are now.
    pub const NONE: Self = Self {
        bytes_max: usize::MAX,
        segments_max: usize::MAX,
    };
}

impl Default for NameLimits {
    fn default() -> Self {
        Self {
            bytes_max: 1024,
            segments_max: 16,
        }
    }
}

/// A stream's name, such as `runs/2026/42`. Cheap to clone; ordered byte by byte. One of up to 23 bytes stands where its
/// owner does, so that looking at it fetches nothing else from memory.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(SmolStr);

impl StreamName {
    /// Checks a decoded path (no leading slash) and makes it a name.
    ///
    /// # Errors
    /// A [`NameRefusal`] that says which rule the path breaks.
    pub fn parse(path: &str, limits: NameLimits) -> Result<Self, NameRefusal> {
        if path.is_empty() {
            return Err(NameRefusal::Empty);
        }
        if path.len() > limits.bytes_max {
            return Err(NameRefusal::TooLong {
                bytes: path.len(),
                bytes_max: limits.bytes_max,
            });
        }
        // Bytes from space on that are ASCII and not DEL need no decoding, and most names have no others.
        let is_plain = path.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_plain && let Some(character) = path.chars().find(|c| c.is_control()) {
            return Err(NameRefusal::ControlCharacter {
                code: u32::from(character),
            });
        }
        let mut segments = 0;
        for segment in path.split('/') {
            segments += 1;
            match segment {
                "" => return Err(NameRefusal::EmptySegment),
                "." | ".." => return Err(NameRefusal::DotSegment),
                RESERVED_SEGMENT if segments == 1 => return Err(NameRefusal::Reserved),
                _ => {}
            }
        }
        if segments > limits.segments_max {
            return Err(NameRefusal::TooManySegments {
                segments,
                segments_max: limits.segments_max,
            });
        }
        Ok(Self(path.into()))
    }

    /// A name that was stored: as [`StreamName::parse`], and also that of a hidden stream.
    ///
    /// # Errors
    /// As [`StreamName::parse`].
    pub fn parse_stored(path: &str, limits: NameLimits) -> Result<Self, NameRefusal> {
        let subscription = || SubscriptionId::parse(path.strip_prefix(SUBSCRIPTIONS_PREFIX)?).ok();
        let schedule = || ScheduleId::parse(path.strip_prefix(SCHEDULES_PREFIX)?).ok();
        if subscription().is_some() || schedule().is_some() {
            return Ok(Self(path.into()));
        }
        if let Some(queue) = path.strip_prefix(QUEUES_PREFIX) {
            return Self::parse(queue, limits).map(|queue| Self::of_queue(&queue));
        }
        Self::parse(path, limits)
    }

    /// The hidden stream of a subscription.
    pub fn of_subscription(id: &SubscriptionId) -> Self {
        Self(format!("{SUBSCRIPTIONS_PREFIX}{id}").into())
    }

    /// The subscription whose hidden stream this is.
    pub fn subscription(&self) -> Option<SubscriptionId> {
        let id = self.0.strip_prefix(SUBSCRIPTIONS_PREFIX)?;
        SubscriptionId::parse(id).ok()
    }

    /// The hidden stream of a schedule.
    pub fn of_schedule(id: &ScheduleId) -> Self {
        Self(format!("{SCHEDULES_PREFIX}{id}").into())
    }

    /// The schedule whose hidden stream this is.
    pub fn schedule(&self) -> Option<ScheduleId> {
        let id = self.0.strip_prefix(SCHEDULES_PREFIX)?;
        ScheduleId::parse(id).ok()
    }

    /// The hidden stream that tells of a queue.
    pub fn of_queue(queue: &Self) -> Self {
        Self(format!("{QUEUES_PREFIX}{queue}").into())
    }

    /// The queue that this hidden stream tells of.
    pub fn queue(&self) -> Option<Self> {
        let queue = self.0.strip_prefix(QUEUES_PREFIX)?;
        Self::parse(queue, NameLimits::NONE).ok()
    }

    /// Whether it is a hidden stream's: no client can ask for it, and none is told of it.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Why a path is no stream name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameRefusal {
    /// Nothing follows the stream root.
    #[error("the stream name is empty; put a name after the stream root")]
    Empty,
    /// More bytes than allowed.
    #[error("the stream name has {bytes} bytes; at most {bytes_max} are allowed")]
    TooLong {
        /// Bytes in the name.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// More segments than allowed.
    #[error("the stream name has {segments} segments; at most {segments_max} are allowed")]
    TooManySegments {
        /// Segments in the name.
        segments: usize,
        /// Segments allowed.
        segments_max: usize,
    },
    /// Two slashes in a row, or one at an end.
    #[error("the stream name has an empty segment; remove the doubled, leading or trailing slash")]
    EmptySegment,
    /// `.` or `..` as a segment.
    #[error("the stream name has a `.` or `..` segment; write the path out")]
    DotSegment,
    /// A control character, such as a line break or NUL.
    #[error("the stream name has the control character U+{code:04X}; remove it")]
    ControlCharacter {
        /// The character's code point.
        code: u32,
    },
    /// The first segment is the server's own.
    #[error("names whose first segment is `__ds` belong to the server; choose another first segment")]
    Reserved,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str) -> NameRefusal {
        StreamName::parse(
            path,
            NameLimits {
                bytes_max: 20,
                segments_max: 3,
            },
        )
        .expect_err("a refusal")
    }

    #[test]
    fn a_path_with_slashes_and_any_letters_is_a_name() {
        for path in ["a", "runs/42", "jobs/é-mail", "a/__ds", "a b/c", "..a/b.."] {
            assert_eq!(
                StreamName::parse(path, NameLimits::default())
                    .expect("a name")
                    .as_str(),
                path
            );
        }
    }

    #[test]
    fn a_hidden_stream_has_a_name_that_only_the_store_may_read() {
        let id = SubscriptionId::parse("emails").expect("an id");
        let name = id.stream();
        assert_eq!(name.as_str(), "__ds/subscriptions/emails");
        assert!(name.is_reserved());
        assert_eq!(name.subscription(), Some(id));
        assert_eq!(
            StreamName::parse_stored(name.as_str(), NameLimits::default()),
            Ok(name)
        );
        let nightly = ScheduleId::parse("nightly").expect("an id").stream();
        assert_eq!(nightly.as_str(), "__ds/schedules/nightly");
        assert_eq!(nightly.schedule().expect("one").as_str(), "nightly");
        assert_eq!(nightly.subscription(), None);
        assert_eq!(
            StreamName::parse_stored(nightly.as_str(), NameLimits::default()),
            Ok(nightly)
        );
        for path in [
            "__ds/x",
            "__ds/subscriptions/",
            "__ds/subscriptions/a/b",
            "__ds/schedules/",
            "__ds/schedules/a/b",
        ] {
            let refused = StreamName::parse_stored(path, NameLimits::default());
            assert_eq!(refused, Err(NameRefusal::Reserved), "{path}");
        }
    }

    #[test]
    fn a_queue_is_told_of_by_a_hidden_stream_of_its_name() {
        let queue = StreamName::parse("jobs/mail", NameLimits::default()).expect("a name");
        let name = StreamName::of_queue(&queue);
        assert!(name.is_reserved());
        assert_eq!(name.queue(), Some(queue));
        assert_eq!(
            StreamName::parse_stored(name.as_str(), NameLimits::default()),
            Ok(name)
        );
        assert!(StreamName::parse_stored("__ds/queues/", NameLimits::default()).is_err());
    }

    #[test]
    fn each_rule_refuses_with_its_own_reason() {
        assert_eq!(refusal(""), NameRefusal::Empty);
        assert_eq!(
            refusal(&"x".repeat(21)),
            NameRefusal::TooLong {
                bytes: 21,
                bytes_max: 20
            }
        );
        assert_eq!(
            refusal("a/b/c/d"),
            NameRefusal::TooManySegments {
                segments: 4,
                segments_max: 3
            }
        );
        for path in ["/a", "a/", "a//b", "/"] {
            assert_eq!(refusal(path), NameRefusal::EmptySegment, "{path}");
        }
        for path in [".", "..", "a/../b", "./a"] {
            assert_eq!(refusal(path), NameRefusal::DotSegment, "{path}");
        }
        assert_eq!(refusal("a\nb"), NameRefusal::ControlCharacter { code: 10 });
        assert_eq!(refusal("a\u{85}b"), NameRefusal::ControlCharacter { code: 0x85 });
        assert_eq!(refusal("__ds/x"), NameRefusal::Reserved);
        assert_eq!(refusal("__ds/subscriptions/x"), NameRefusal::Reserved);
    }
}
