//! Which streams are meant: exact names and globs, read once from text. Knows nothing of listings.
//!
//! The patterns of subscriptions (PROTOCOL.md §6.2) are another language: they have neither `job-*` nor `{name}`, escape
//! otherwise, and let a `**` at the end stand for no segment at all.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

/// The first segment of the server's own paths, which no stream has.
const RESERVED_SEGMENT: &str = "__ds";

/// A stream's name or a glob over names, segment by segment:
///
/// | Segment | Stands for |
/// |---|---|
/// | `jobs` | itself |
/// | `*`, `job-*` | one segment; an asterisk is any number of its characters |
/// | `{run_id}` | one segment, which [`Pattern::captures`] gives by that name |
/// | `**` | any number of segments, at the end at least one |
///
/// A backslash takes the meaning from the character behind it: `\*` is an asterisk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// What stands between the asterisks: at least two pieces.
    Glob(Vec<String>),
    Capture(String),
    /// Any number of segments, but not fewer than this.
    Depth(usize),
}

/// A text that is no [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} selects no streams: {fault}")]
pub struct BadPattern {
    /// As it was given.
    pub text: String,
    /// What is wrong with it.
    pub fault: PatternFault,
}

/// What is wrong with the text of a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// There is none.
    #[error("there is none; write a stream's name, or a glob such as `jobs/*` or `runs/**`")]
    Missing,
    /// A slash at an end, or two in a row.
    #[error("names have no empty segments; leave out the slash that is first, last or doubled")]
    EmptySegment,
    /// `.` or `..`
    #[error("names have no segments `.` and `..`; write the path out")]
    DotSegment,
    /// `__ds/…`
    #[error("`__ds` is the server's own; streams have other names")]
    Reserved,
    /// A control character.
    #[error("names have no control characters; take out the character U+{code:04X}")]
    ControlCharacter {
        /// Its code point.
        code: u32,
    },
    /// Two asterisks beside other characters.
    #[error("`**` has to be a whole segment; write one asterisk, or `/**`")]
    AsterisksInSegment,
    /// A brace that does not enclose a whole segment.
    #[error("`{{name}}` has to be a whole segment, of letters, digits and `_`; write `\\{{` for a brace")]
    Brace,
    /// The same `{name}` twice.
    #[error("`{{{0}}}` is there twice; give each segment a name of its own")]
    NameTwice(String),
    /// A backslash at the end of a segment.
    #[error("there is nothing behind the last `\\`; write `\\\\` for a backslash")]
    DanglingEscape,
}

impl Pattern {
    /// Whether it stands for the stream of that name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.align(&name.split('/').collect::<Vec<_>>()).is_some()
    }

    /// The segments that stand where `{name}` does, in the pattern's order; none if it does not match.
    #[must_use]
    pub fn captures<'p, 'n>(&'p self, name: &'n str) -> Option<Vec<(&'p str, &'n str)>> {
        let parts: Vec<_> = name.split('/').collect();
        let places = self.align(&parts)?;
        let captured = self.segments.iter().zip(places);
        Some(
            captured
                .filter_map(|(segment, place)| Some((segment.capture()?, parts[place])))
                .collect(),
        )
    }

    /// The names in its braces, in its order.
    pub fn capture_names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::capture)
    }

    /// Whether the segments of a name that stand where these `{name}`s do tell the whole name.
    #[must_use]
    pub fn is_told_by(&self, names: &[&str]) -> bool {
        self.segments.iter().all(|segment| {
            segment.literal().is_some() || segment.capture().is_some_and(|name| names.contains(&name))
        })
    }

    /// The one name that it stands for, unless it is a glob.
    #[must_use]
    pub fn exact(&self) -> Option<String> {
        let literals: Option<Vec<_>> = self.segments.iter().map(Segment::literal).collect();
        Some(literals?.join("/"))
    }

    /// What all names that it stands for begin with.
    #[must_use]
    pub fn prefix(&self) -> String {
        let mut prefix = String::new();
        for (index, segment) in self.segments.iter().enumerate() {
            let is_at_start = index == 0;
            // `a/**/b` also stands for `a/b`: there is a slash behind `a` all the same.
            if !is_at_start {
                prefix.push('/');
            }
            match segment {
                Segment::Literal(text) => prefix.push_str(text),
                Segment::Glob(pieces) => {
                    prefix.push_str(&pieces[0]);
                    break;
                }
                Segment::Capture(_) | Segment::Depth(_) => break,
            }
        }
        prefix
    }

    /// For each segment of the pattern the place of a name's segment that it stands for; what stands at the place of
    /// a `**` means nothing. None if it does not match.
    ///
    /// Only the last `**` has to be tried with more segments: what an earlier one left to it, it can take too.
    fn align(&self, parts: &[&str]) -> Option<Vec<usize>> {
        let mut places = vec![0; self.segments.len()];
        let (mut segment, mut part) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match self.segments.get(segment) {
                None if part == parts.len() => return Some(places),
                Some(Segment::Depth(least)) if part + least <= parts.len() => {
                    segment += 1;
                    part += least;
                    retry = Some((segment, part));
                    continue;
                }
                Some(one) if parts.get(part).is_some_and(|part| one.matches(part)) => {
                    places[segment] = part;
                    segment += 1;
                    part += 1;
                    continue;
                }
                None | Some(_) => {}
            }
            let (after_depth, taken) = retry.filter(|(_, taken)| *taken < parts.len())?;
            retry = Some((after_depth, taken + 1));
            (segment, part) = (after_depth, taken + 1);
        }
    }
}

impl Segment {
    fn matches(&self, part: &str) -> bool {
        match self {
            Self::Literal(text) => text == part,
            Self::Glob(pieces) => glob_matches(pieces, part),
            Self::Capture(_) => true,
            Self::Depth(_) => false,
        }
    }

    fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            _ => None,
        }
    }

    fn capture(&self) -> Option<&str> {
        match self {
            Self::Capture(name) => Some(name),
            _ => None,
        }
    }

    fn parse(text: &str) -> Result<Self, PatternFault> {
        if text.is_empty() {
            return Err(PatternFault::EmptySegment);
        }
        if text == "**" {
            return Ok(Self::Depth(0));
        }
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            return is_name
                .then(|| Self::Capture(name.to_owned()))
                .ok_or(PatternFault::Brace);
        }
        let mut pieces = vec![String::new()];
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let literal = match character {
                '\\' => characters.next().ok_or(PatternFault::DanglingEscape)?,
                '*' if characters.peek() == Some(&'*') => return Err(PatternFault::AsterisksInSegment),
                '*' => {
                    pieces.push(String::new());
                    continue;
                }
                '{' | '}' => return Err(PatternFault::Brace),
                literal => literal,
            };
            if literal.is_control() {
                let code = literal.into();
                return Err(PatternFault::ControlCharacter { code });
            }
            pieces
                .last_mut()
                .expect("there is one piece at least")
                .push(literal);
        }
        if pieces.len() > 1 {
            return Ok(Self::Glob(pieces));
        }
        let literal = pieces.remove(0);
        match literal.as_str() {
            "." | ".." => Err(PatternFault::DotSegment),
            _ => Ok(Self::Literal(literal)),
        }
    }
}

fn glob_matches(pieces: &[String], part: &str) -> bool {
    let [first, between @ .., last] = pieces else {
        return false;
    };
    let Some(mut rest) = part.strip_prefix(first.as_str()) else {
        return false;
    };
    for piece in between {
        match rest.find(piece.as_str()) {
            Some(found) => rest = &rest[found + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last.as_str())
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        parse(text).map_err(|fault| BadPattern {
            text: text.to_owned(),
            fault,
        })
    }
}

fn parse(text: &str) -> Result<Pattern, PatternFault> {
    if text.is_empty() {
        return Err(PatternFault::Missing);
    }
    let mut segments = text
        .split('/')
        .map(Segment::parse)
        .collect::<Result<Vec<_>, _>>()?;
    if segments[0].literal() == Some(RESERVED_SEGMENT) {
        return Err(PatternFault::Reserved);
    }
    let mut names = HashSet::new();
    for name in segments.iter().filter_map(Segment::capture) {
        if !names.insert(name) {
            return Err(PatternFault::NameTwice(name.to_owned()));
        }
    }
    if let Some(Segment::Depth(least)) = segments.last_mut() {
        *least = 1;
    }
    Ok(Pattern {
        text: text.to_owned(),
        segments,
    })
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Several patterns, at least one: a stream is meant if one of them stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns {
    exact: HashSet<String>,
    globs: Vec<Pattern>,
}

impl fmt::Display for Patterns {
    /// In one order, whichever they were given in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let globs = self.globs.iter().map(Pattern::to_string);
        let mut texts: Vec<_> = self.exact.iter().cloned().chain(globs).collect();
        texts.sort_unstable();
        texts.dedup();
        f.write_str(&texts.join(","))
    }
}

impl Patterns {
    /// Reads them.
    ///
    /// # Errors
    /// The first text that is no pattern, or that there is none at all.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, BadPattern> {
        let mut patterns = Self {
            exact: HashSet::new(),
            globs: Vec::new(),
        };
        for text in texts {
            let pattern: Pattern = text.parse()?;
            match pattern.exact() {
                Some(name) => drop(patterns.exact.insert(name)),
                None => patterns.globs.push(pattern),
            }
        }
        if patterns.exact.is_empty() && patterns.globs.is_empty() {
            let (text, fault) = (String::new(), PatternFault::Missing);
            return Err(BadPattern { text, fault });
        }
        Ok(patterns)
    }

    /// Whether one of them stands for the stream of that name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.exact.contains(name) || self.globs.iter().any(|glob| glob.matches(name))
    }

    /// The beginnings of names to list for the globs: none begins with another.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        let mut prefixes: Vec<_> = self.globs.iter().map(Pattern::prefix).collect();
        prefixes.sort_unstable();
        // What begins with another one follows it in this order.
        prefixes.dedup_by(|later, earlier| later.starts_with(earlier.as_str()));
        prefixes
    }

    /// The exact names that no listing for the globs has, in order.
    #[must_use]
    pub fn unlisted(&self) -> Vec<String> {
        let prefixes = self.prefixes();
        let is_listed = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
        let mut names: Vec<_> = self
            .exact
            .iter()
            .filter(|name| !is_listed(name))
            .cloned()
            .collect();
        names.sort_unstable();
        names
    }

    /// What all names that are meant begin with.
    #[must_use]
    pub fn common_prefix(&self) -> String {
        let prefixes = self.globs.iter().map(Pattern::prefix);
        let common = prefixes
            .chain(self.exact.iter().cloned())
            .reduce(|mut common, other| {
                let pairs = common.chars().zip(other.chars());
                let bytes = pairs.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
                common.truncate(bytes);
                common
            });
        common.unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
