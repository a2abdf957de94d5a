//! What may be asked of a handful of streams, and the requests that come of it.
//!
//! A plan speaks of places relatively ("a token issued before", "the next sequence number"), so that it stays
//! meaningful while a failing case is cut down. A request is what a client would send, in plain text.

use std::fmt;

use proptest::sample::Index;

/// How many names the commands speak of.
pub(crate) const NAMES: usize = 7;
/// The time at which every case begins, in milliseconds.
pub(crate) const BEGIN_MS: u64 = 1_000_000;

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain";
pub(crate) const BINARY: &str = "application/octet-stream";

/// One command, and tokens to read from after it.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) command: Command,
    pub(crate) probes: [Index; 3],
}

/// One line for each step, so that a failing case can be read from top to bottom.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.command)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Create(CreatePlan),
    /// An earlier create request, sent again.
    Repeat {
        which: Index,
        twist: Twist,
    },
    Append(AppendPlan),
    Delete {
        name: usize,
    },
    Trim {
        name: usize,
        before: Place,
    },
    /// A read, as far as lifetimes are concerned.
    Use {
        name: usize,
    },
    Wait {
        ms: u64,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct CreatePlan {
    pub(crate) name: usize,
    pub(crate) content_type: TypePlan,
    pub(crate) lifetime: Life,
    pub(crate) closed: bool,
    pub(crate) fork: Option<ForkPlan>,
    pub(crate) body: BodyPlan,
}

#[derive(Debug, Clone)]
pub(crate) struct ForkPlan {
    pub(crate) source: usize,
    pub(crate) offset: Option<Place>,
    pub(crate) sub_offset: SubOffset,
}

/// How much further than the offset, seen from the append that follows it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SubOffset {
    Number(u64),
    Last,
    OnePast,
}

/// What is different in a repeated create request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Twist {
    Nothing,
    WithoutContentType,
    RespelledContentType,
    OtherContentType,
    OtherClosure,
    OtherLifetime,
    OtherSubOffset,
    AsNoFork,
}

#[derive(Debug, Clone)]
pub(crate) struct AppendPlan {
    pub(crate) name: usize,
    pub(crate) content_type: TypePlan,
    pub(crate) body: BodyPlan,
    pub(crate) producer: Option<(&'static str, ProducerPlan)>,
    pub(crate) stream_seq: Option<String>,
    pub(crate) if_match: Option<Place>,
    pub(crate) closes: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum TypePlan {
    Absent,
    /// The type of the stream that is meant.
    Fitting,
    /// The same in capitals and with a parameter.
    Respelled,
    Named(&'static str),
}

/// A producer's claim, seen from what the stream knows of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ProducerPlan {
    Next,
    LastAgain,
    EarlierAgain,
    Skip,
    OldEpoch,
    NewEpoch,
    NewEpochTooFar,
}

/// One body for JSON streams and one for others.
#[derive(Debug, Clone)]
pub(crate) struct BodyPlan {
    pub(crate) json: Body,
    pub(crate) bytes: Body,
}

/// A token to send.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Start,
    Tail,
    /// Any token that was issued by any stream.
    Issued(Index),
    /// A token that a stream of this name issued.
    IssuedHere(Index),
    /// A token that the client made up from one of this name.
    MadeUp(Index, i8),
}

/// A lifetime as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Unsaid,
    TtlSeconds(u64),
    UntilMs(u64),
}

/// A body, and what it means as JSON: known because it was put together so, not because it was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) raw: Vec<u8>,
    /// Its messages without their line breaks; none if it is not valid JSON.
    pub(crate) messages: Option<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Create(Create),
    Append(Append),
    Delete { name: usize },
    Trim { name: usize, before: String },
    Use { name: usize },
    Wait { ms: u64 },
}

#[derive(Debug, Clone)]
pub(crate) struct Create {
    pub(crate) name: usize,
    pub(crate) content_type: Option<String>,
    pub(crate) lifetime: Life,
    pub(crate) closed: bool,
    pub(crate) fork: Option<Fork>,
    pub(crate) body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fork {
    pub(crate) source: usize,
    pub(crate) offset: Option<String>,
    pub(crate) sub_offset: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Append {
    pub(crate) name: usize,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Body,
    pub(crate) producer: Option<(String, u64, u64)>,
    pub(crate) stream_seq: Option<String>,
    pub(crate) if_match: Option<String>,
    pub(crate) closes: bool,
}
