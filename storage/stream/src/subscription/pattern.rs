//! Patterns over names of streams: `*` is one segment, `**` any number of them (PROTOCOL.md §6.2).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::name::RESERVED_SEGMENT;

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PatternSegment {
    /// This very segment.
    Literal(Box<str>),
    /// Any one segment.
    One,
    /// Any number of segments, none included.
    Any,
}

/// A pattern such as `events/*/log` or `runs/**`. Cheap to clone.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    segments: Arc<[PatternSegment]>,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternRefusal {
    /// More bytes than allowed.
    #[error("the pattern has {bytes} bytes; at most {} are allowed", Pattern::BYTES_MAX)]
    TooLong {
        /// Bytes in the pattern.
        bytes: usize,
    },
    /// More segments than allowed.
    #[error(
        "the pattern has {segments} segments; at most {} are allowed",
        Pattern::SEGMENTS_MAX
    )]
    TooManySegments {
        /// Segments in the pattern.
        segments: usize,
    },
    /// Two slashes in a row, or nothing at all.
    #[error("the pattern has an empty segment; remove the doubled slash")]
    EmptySegment,
    /// `.` or `..` as a segment.
    #[error("the pattern has a `.` or `..` segment, which no stream has; write the path out")]
    DotSegment,
    /// A star beside other letters.
    #[error(
        "the segment {segment:?} has a star beside other letters; `*` and `**` stand for whole segments, and `%2A` for a star itself"
    )]
    PartialStar {
        /// The segment.
        segment: Box<str>,
    },
    /// A control character.
    #[error("the pattern has the control character U+{code:04X}, which no stream has; remove it")]
    ControlCharacter {
        /// The character's code point.
        code: u32,
    },
    /// The first segment is the server's own.
    #[error("no pattern reaches into `__ds`, which belongs to the server; choose another first segment")]
    Reserved,
}

impl Pattern {
    /// The most bytes in a pattern.
    pub const BYTES_MAX: usize = 1024;
    /// The most segments in a pattern.
    pub const SEGMENTS_MAX: usize = 64;

    /// Reads a pattern. Slashes at its ends mean nothing.
    ///
    /// # Errors
    /// A [`PatternRefusal`] that says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, PatternRefusal> {
        let text = text.trim_matches('/');
        if text.len() > Self::BYTES_MAX {
            return Err(PatternRefusal::TooLong { bytes: text.len() });
        }
        if let Some(character) = text.chars().find(|c| c.is_control()) {
            return Err(PatternRefusal::ControlCharacter {
                code: u32::from(character),
            });
        }
        let mut segments = Vec::new();
        for (place, segment) in text.split('/').enumerate() {
            let segment = match segment {
                "" => return Err(PatternRefusal::EmptySegment),
                "." | ".." => return Err(PatternRefusal::DotSegment),
                RESERVED_SEGMENT if place == 0 => return Err(PatternRefusal::Reserved),
                "*" => PatternSegment::One,
                "**" => PatternSegment::Any,
                _ if segment.contains('*') => {
                    return Err(PatternRefusal::PartialStar {
                        segment: segment.into(),
                    });
                }
                _ => PatternSegment::Literal(with_stars(segment).into()),
            };
            // Any number of segments twice is any number of them.
            if segment != PatternSegment::Any || segments.last() != Some(&PatternSegment::Any) {
                segments.push(segment);
            }
        }
        if segments.len() > Self::SEGMENTS_MAX {
            return Err(PatternRefusal::TooManySegments {
                segments: segments.len(),
            });
        }
        Ok(Self {
            text: text.into(),
            segments: segments.into(),
        })
    }

    /// The pattern as it was given, without slashes at its ends.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments. `**` never follows `**`.
    pub fn segments(&self) -> &[PatternSegment] {
        &self.segments
    }

    /// What every name that matches begins with.
    pub fn literal_prefix(&self) -> String {
        let mut prefix = String::new();
        for (place, segment) in self.segments.iter().enumerate() {
            let PatternSegment::Literal(literal) = segment else {
                break;
            };
            // What follows may be no segment at all, and then no slash follows either.
            if place > 0 {
                prefix.push('/');
            }
            prefix.push_str(literal);
        }
        prefix
    }

    /// Whether a stream of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let names: Vec<&str> = name.split('/').collect();
        let (mut place, mut at) = (0, 0);
        // Where to go on if what follows the last `**` does not match: that one takes one segment more.
        let mut again: Option<(usize, usize)> = None;
        while at < names.len() {
            let goes_on = match self.segments.get(place) {
                Some(PatternSegment::Any) => {
                    again = Some((place + 1, at));
                    place += 1;
                    continue;
                }
                Some(PatternSegment::One) => true,
                Some(PatternSegment::Literal(literal)) => **literal == *names[at],
                None => false,
            };
            if goes_on {
                place += 1;
                at += 1;
            } else if let Some((behind, from)) = again {
                again = Some((behind, from + 1));
                place = behind;
                at = from + 1;
            } else {
                return false;
            }
        }
        self.segments[place..]
            .iter()
            .all(|segment| *segment == PatternSegment::Any)
    }
}

/// A literal segment with its escaped stars as stars.
fn with_stars(segment: &str) -> Cow<'_, str> {
    if segment.contains("%2A") || segment.contains("%2a") {
        Cow::Owned(segment.replace("%2A", "*").replace("%2a", "*"))
    } else {
        Cow::Borrowed(segment)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).expect("a pattern").matches(name)
    }

    #[test]
    fn one_star_is_one_segment_and_two_are_any_number() {
        assert!(matches("events/*", "events/a"));
        assert!(!matches("events/*", "events"));
        assert!(!matches("events/*", "events/a/b"));
        assert!(matches("events/**", "events"));
        assert!(matches("events/**", "events/a/b"));
        assert!(matches("**/log", "log"));
        assert!(matches("**/log", "a/b/log"));
        assert!(!matches("**/log", "a/log/b"));
        assert!(matches("a/**/b/*", "a/x/b/b/c"));
        assert!(matches("/events/*/", "events/a"));
        assert!(matches("a/%2A", "a/*"));
        assert!(!matches("a/%2A", "a/b"));
    }

    #[test]
    fn each_rule_refuses_with_its_own_reason() {
        let refusal = |text: &str| Pattern::parse(text).expect_err("a refusal");
        assert_eq!(refusal(""), PatternRefusal::EmptySegment);
        assert_eq!(refusal("a//b"), PatternRefusal::EmptySegment);
        assert_eq!(refusal("a/../b"), PatternRefusal::DotSegment);
        assert_eq!(
            refusal("a/b*"),
            PatternRefusal::PartialStar { segment: "b*".into() }
        );
        assert_eq!(refusal("a\u{7}"), PatternRefusal::ControlCharacter { code: 7 });
        assert_eq!(refusal("__ds/*"), PatternRefusal::Reserved);
        assert_eq!(
            refusal(&"x".repeat(1025)),
            PatternRefusal::TooLong { bytes: 1025 }
        );
        let many = ["x"; 65].join("/");
        assert_eq!(refusal(&many), PatternRefusal::TooManySegments { segments: 65 });
    }

    #[test]
    fn every_match_begins_with_the_literal_prefix() {
        let prefix = |text: &str| Pattern::parse(text).expect("a pattern").literal_prefix();
        assert_eq!(prefix("a/b/*"), "a/b");
        assert_eq!(prefix("**"), "");
        assert_eq!(prefix("a/b"), "a/b");
    }

    /// By the words of PROTOCOL.md §6.2, without a thought for time.
    fn plainly(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (["**", rest @ ..], _) => (0..=name.len()).any(|taken| plainly(rest, &name[taken..])),
            (["*", rest @ ..], [_, names @ ..]) => plainly(rest, names),
            ([literal, rest @ ..], [first, names @ ..]) => literal == first && plainly(rest, names),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_words_of_the_protocol_say(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..7),
            name in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..7),
        ) {
            let expected = plainly(&pattern, &name);
            prop_assert_eq!(matches(&pattern.join("/"), &name.join("/")), expected);
            if expected {
                let prefix = Pattern::parse(&pattern.join("/")).expect("a pattern").literal_prefix();
                prop_assert!(name.join("/").starts_with(&prefix));
            }
        }
    }
}
