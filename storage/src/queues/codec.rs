//! What stands in the control keys of a queue's stream and of its runs. FORMAT.md describes it.

use bytes::Bytes;
use tailwater_stream::queue::event::{job_text, parse_job};
use tailwater_stream::queue::{
    Counters, DeadReason, Frontier, JobPhase, OpenJob, QueueState, RunState, RunStatus, Settlement, Verdict,
};
use tailwater_stream::{NameLimits, Position, QueueConfig, StreamName, Timestamp};

use crate::codec::{Decoder, Encode, Malformed};

/// What all keys of a queue begin with.
pub(super) const QUEUE_PREFIX: &[u8] = b"queue/";
/// The key of what was asked for. A stream without it is no queue.
pub(super) const CONFIG_KEY: &[u8] = b"queue/config";
/// The key of how far it has come.
pub(super) const STATE_KEY: &[u8] = b"queue/state";
/// What the keys of jobs begin with; sixteen digits follow.
pub(super) const JOB_PREFIX: &[u8] = b"queue/job/";
/// What the keys of dead letters begin with; sixteen digits follow.
pub(super) const DEAD_PREFIX: &[u8] = b"queue/dead/";
/// What the keys of runs that wait for their messages begin with; their names follow.
pub(super) const RETRY_PREFIX: &[u8] = b"queue/retry/";
/// The key of the oldest group of ended runs.
pub(super) const ENDED_FROM_KEY: &[u8] = b"queue/ended_from";
/// What the keys of ended runs begin with; their group in sixteen digits, a slash and their names follow.
pub(super) const ENDED_PREFIX: &[u8] = b"ended/";
/// The key of a run's own stream.
pub(super) const RUN_KEY: &[u8] = b"run";

/// Runs that end within so many milliseconds are kept in one group.
const GROUP_MS: u64 = 1 << 14;

/// The version of all values.
const VERSION: u8 = 1;
/// Most values are no longer.
const VALUE_BYTES: usize = 128;

const WAITING: u8 = 0;
const LEASED: u8 = 1;
const PASSED: u8 = 2;

/// What a queue was made with, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredConfig {
    pub(super) config: QueueConfig,
    pub(super) created_at: Timestamp,
}

/// What is kept of a dead letter beside what stands in its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredDead {
    pub(super) run: Option<StreamName>,
    pub(super) reason: DeadReason,
    pub(super) attempt: u32,
    pub(super) at: Timestamp,
    /// Where its letter begins in the stream of dead letters; none if that took it not in.
    pub(super) letter: Option<Position>,
}

/// What is kept of an ended run that is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredEnd {
    pub(super) at: Timestamp,
    /// When the run began, to tell it from a later one of its name.
    pub(super) began_at: Timestamp,
}

/// A value that is about to be written, of those that are written for each job.
fn begun() -> Vec<u8> {
    let mut out = Vec::with_capacity(VALUE_BYTES);
    out.put_u8(VERSION);
    out
}

fn key(prefix: &[u8], rest: &str) -> Bytes {
    [prefix, rest.as_bytes()].concat().into()
}

pub(super) fn job_key(job: Position) -> Bytes {
    key(JOB_PREFIX, &job_text(job))
}

pub(super) fn dead_key(job: Position) -> Bytes {
    key(DEAD_PREFIX, &job_text(job))
}

pub(super) fn retry_key(run: &StreamName) -> Bytes {
    key(RETRY_PREFIX, run.as_str())
}

/// The group of runs that ended at `at`.
pub(super) fn group(at: Timestamp) -> u64 {
    at.as_millis() / GROUP_MS
}

/// What the keys of one group of ended runs begin with.
pub(super) fn group_prefix(group: u64) -> Vec<u8> {
    [ENDED_PREFIX, format!("{group:016}/").as_bytes()].concat()
}

/// The group of the key of an ended run.
pub(super) fn group_of(key: &[u8]) -> Result<u64, Malformed> {
    let what = "the group of an ended run";
    let digits = key.strip_prefix(ENDED_PREFIX).and_then(|rest| rest.get(..16));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or(Malformed { what })
}

pub(super) fn ended_key(run: &StreamName, at: Timestamp) -> Bytes {
    [&group_prefix(group(at)), run.as_str().as_bytes()]
        .concat()
        .into()
}

/// The job of a key that begins with `prefix`.
pub(super) fn job_of(key: &[u8], prefix: &[u8]) -> Result<Position, Malformed> {
    let what = "the number of a job";
    let digits = key
        .strip_prefix(prefix)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(parse_job).ok_or(Malformed { what })
}

/// The stream of a key that begins with `prefix`.
pub(super) fn stream_of(key: &[u8], prefix: &[u8]) -> Result<StreamName, Malformed> {
    let what = "the name of a run";
    let name = key.strip_prefix(prefix).ok_or(Malformed { what })?;
    let mut counted = Vec::with_capacity(name.len() + 2);
    counted.put_bytes(name);
    Decoder::new(&counted).name()
}

pub(super) fn encode_config(stored: &StoredConfig) -> Bytes {
    let mut out = vec![VERSION];
    out.put_time(stored.created_at);
    out.put_str(&stored.config.document().to_string());
    out.into()
}

pub(super) fn decode_config(bytes: &[u8], stream: &StreamName) -> Result<StoredConfig, Malformed> {
    let what = "what a queue was made with";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let created_at = from.time()?;
    let document: serde_json::Value = serde_json::from_str(from.str(what)?)
        .ok()
        .ok_or(Malformed { what })?;
    from.end(what)?;
    let document = document.as_object().ok_or(Malformed { what })?;
    let config = QueueConfig::parse(document, stream, NameLimits::NONE)
        .ok()
        .ok_or(Malformed { what })?;
    Ok(StoredConfig { config, created_at })
}

fn put_frontier(out: &mut Vec<u8>, frontier: Frontier) {
    out.put_position(frontier.position);
    out.put_varint(frontier.messages);
}

fn frontier(from: &mut Decoder<'_>, what: &'static str) -> Result<Frontier, Malformed> {
    Ok(Frontier {
        position: from.position()?,
        messages: from.varint(what)?,
    })
}

fn counted(counters: &mut Counters) -> [&mut u64; 11] {
    [
        &mut counters.enqueued,
        &mut counters.duplicates,
        &mut counters.claimed,
        &mut counters.failed,
        &mut counters.leases_lost,
        &mut counters.released,
        &mut counters.succeeded,
        &mut counters.dead,
        &mut counters.cancelled,
        &mut counters.expired,
        &mut counters.timed_out,
    ]
}

pub(super) fn encode_state(state: &QueueState) -> Bytes {
    let mut out = begun();
    put_frontier(&mut out, state.admitted);
    put_frontier(&mut out, state.taken);
    out.put_u8(u8::from(state.paused));
    out.put_u8(u8::from(state.deleting));
    out.put_varint(state.dead_letters);
    out.put_varint(state.retries);
    let mut counters = state.counters;
    for counter in counted(&mut counters) {
        out.put_varint(*counter);
    }
    out.into()
}

pub(super) fn decode_state(bytes: &[u8]) -> Result<QueueState, Malformed> {
    let what = "the state of a queue";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let mut state = QueueState {
        admitted: frontier(&mut from, what)?,
        taken: frontier(&mut from, what)?,
        paused: flag(&mut from, what)?,
        deleting: flag(&mut from, what)?,
        dead_letters: from.varint(what)?,
        retries: from.varint(what)?,
        counters: Counters::default(),
    };
    for counter in counted(&mut state.counters) {
        *counter = from.varint(what)?;
    }
    from.end(what)?;
    let is_sound =
        state.taken.position <= state.admitted.position && state.taken.messages <= state.admitted.messages;
    if is_sound {
        Ok(state)
    } else {
        Err(Malformed { what })
    }
}

pub(super) fn encode_job(job: &OpenJob) -> Bytes {
    let mut out = begun();
    out.put_position(job.end);
    out.put_time(job.ready_at);
    out.put_str(job.run.as_str());
    out.put_option(job.max_attempts, |out, attempts| {
        out.put_varint(u64::from(attempts));
    });
    out.put_option(job.value.as_deref(), Encode::put_str);
    out.put_varint(u64::from(job.attempt));
    out.put_varint(job.epoch);
    out.put_option(job.started_at, Encode::put_time);
    match &job.phase {
        JobPhase::Waiting { until, settled } => {
            out.put_u8(WAITING);
            out.put_time(*until);
            out.put_option(settled.as_ref(), |out, settled| {
                out.put_varint(settled.epoch);
                out.put_varint(settled.seq);
                out.put_u8(match settled.verdict {
                    Verdict::Completed => 0,
                    Verdict::Failed => 1,
                    Verdict::Released => 2,
                });
            });
        }
        JobPhase::Leased { worker, cancel } => {
            out.put_u8(LEASED);
            out.put_str(worker);
            out.put_option(cancel.as_ref(), |out, reason| {
                out.put_option(reason.as_deref(), Encode::put_str);
            });
        }
        JobPhase::Passed => out.put_u8(PASSED),
    }
    out.into()
}

pub(super) fn decode_job(bytes: &[u8]) -> Result<OpenJob, Malformed> {
    let what = "a job of a queue";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let job = OpenJob {
        end: from.position()?,
        ready_at: from.time()?,
        run: from.name()?,
        max_attempts: from.option(what, |from| count(from, what))?,
        value: from.option(what, |from| from.str(what).map(Into::into))?,
        attempt: count(&mut from, what)?,
        epoch: from.varint(what)?,
        started_at: from.option(what, Decoder::time)?,
        phase: match from.u8(what)? {
            WAITING => JobPhase::Waiting {
                until: from.time()?,
                settled: from.option(what, |from| {
                    Ok(Settlement {
                        epoch: from.varint(what)?,
                        seq: from.varint(what)?,
                        verdict: match from.u8(what)? {
                            0 => Verdict::Completed,
                            1 => Verdict::Failed,
                            2 => Verdict::Released,
                            _ => return Err(Malformed { what }),
                        },
                    })
                })?,
            },
            LEASED => JobPhase::Leased {
                worker: from.str(what)?.into(),
                cancel: from.option(what, |from| {
                    from.option(what, |from| from.str(what).map(Into::into))
                })?,
            },
            PASSED => JobPhase::Passed,
            _ => return Err(Malformed { what }),
        },
    };
    from.end(what)?;
    Ok(job)
}

/// The number of a thing among all of its kind.
fn number_of<T: PartialEq>(all: &[T], one: &T) -> u8 {
    let number = all.iter().position(|other| other == one).expect("one of them");
    u8::try_from(number).expect("few")
}

pub(super) fn encode_dead(dead: &StoredDead) -> Bytes {
    let mut out = vec![VERSION];
    out.put_option(dead.run.as_ref(), |out, run| out.put_str(run.as_str()));
    out.put_u8(number_of(&DeadReason::ALL, &dead.reason));
    out.put_varint(u64::from(dead.attempt));
    out.put_time(dead.at);
    out.put_option(dead.letter, Encode::put_position);
    out.into()
}

pub(super) fn decode_dead(bytes: &[u8]) -> Result<StoredDead, Malformed> {
    let what = "a dead letter of a queue";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let dead = StoredDead {
        run: from.option(what, Decoder::name)?,
        reason: *DeadReason::ALL
            .get(usize::from(from.u8(what)?))
            .ok_or(Malformed { what })?,
        attempt: count(&mut from, what)?,
        at: from.time()?,
        letter: from.option(what, Decoder::position)?,
    };
    from.end(what)?;
    Ok(dead)
}

/// A number, as the value of a key.
pub(super) fn encode_number(number: u64) -> Bytes {
    let mut out = vec![VERSION];
    out.put_varint(number);
    out.into()
}

pub(super) fn decode_number(bytes: &[u8]) -> Result<u64, Malformed> {
    let what = "a number of a queue";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let number = from.varint(what)?;
    from.end(what)?;
    Ok(number)
}

pub(super) fn encode_end(end: StoredEnd) -> Bytes {
    let mut out = vec![VERSION];
    out.put_time(end.at);
    out.put_time(end.began_at);
    out.into()
}

pub(super) fn decode_end(bytes: &[u8]) -> Result<StoredEnd, Malformed> {
    let what = "when a run ended";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let end = StoredEnd {
        at: from.time()?,
        began_at: from.time()?,
    };
    from.end(what)?;
    Ok(end)
}

pub(super) fn encode_status(status: &RunStatus) -> Bytes {
    let mut out = vec![VERSION];
    out.put_u8(number_of(&RunState::ALL, &status.state));
    out.put_varint(u64::from(status.attempt));
    out.put_str(status.queue.as_str());
    out.put_option(status.job, Encode::put_position);
    out.into()
}

pub(super) fn decode_status(bytes: &[u8]) -> Result<RunStatus, Malformed> {
    let what = "the state of a run";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let status = RunStatus {
        state: *RunState::ALL
            .get(usize::from(from.u8(what)?))
            .ok_or(Malformed { what })?,
        attempt: count(&mut from, what)?,
        queue: from.name()?,
        job: from.option(what, Decoder::position)?,
    };
    from.end(what)?;
    Ok(status)
}

/// Whether a control key of a stream that clients use belongs to a queue or a run.
pub(crate) fn is_of_queue(key: &[u8]) -> bool {
    key.starts_with(QUEUE_PREFIX) || key.starts_with(ENDED_PREFIX) || key == RUN_KEY
}

/// Whether a control key of a stream that clients use, and its value, are what they should be.
pub(crate) fn check_stored(stream: &StreamName, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
    match key {
        CONFIG_KEY => decode_config(value, stream).map(drop),
        STATE_KEY => decode_state(value).map(drop),
        ENDED_FROM_KEY => decode_number(value).map(drop),
        RUN_KEY => decode_status(value).map(drop),
        _ if key.starts_with(JOB_PREFIX) => job_of(key, JOB_PREFIX).and_then(|_| decode_job(value)).map(drop),
        _ if key.starts_with(DEAD_PREFIX) => job_of(key, DEAD_PREFIX)
            .and_then(|_| decode_dead(value))
            .map(drop),
        _ if key.starts_with(RETRY_PREFIX) => stream_of(key, RETRY_PREFIX)
            .and_then(|_| decode_number(value))
            .map(drop),
        _ if key.starts_with(ENDED_PREFIX) => decode_end(value).map(drop),
        _ => Err(Malformed {
            what: "a key of a queue",
        }),
    }
}

fn flag(from: &mut Decoder<'_>, what: &'static str) -> Result<bool, Malformed> {
    match from.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed { what }),
    }
}

fn count(from: &mut Decoder<'_>, what: &'static str) -> Result<u32, Malformed> {
    u32::try_from(from.varint(what)?).ok().ok_or(Malformed { what })
}

#[cfg(test)]
mod tests;
