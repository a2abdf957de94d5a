//! What can be typed behind `tailwater sub`, with its help. Does nothing.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::{Connection, DirectoryOptions, parse_name};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SubCommand {
    /// Create a subscription
    ///
    /// Streams that exist begin at their tails: only what is appended from now on wakes anybody. One that exists with the
    /// same configuration is left as it is.
    #[command(
        after_help = "Examples:\n  tailwater sub create mails --pattern 'jobs/*' --webhook https://worker.example/hooks\n  \
                      tailwater sub create mails --stream jobs/emails --wake-stream wake/mails"
    )]
    Create(SubCreateOptions),

    /// List subscriptions, one id a line
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  tailwater sub list --json | jq .lag.bytes"
    )]
    List(SubListOptions),

    /// Show a subscription with its streams, as JSON
    #[command(after_help = "Example:\n  tailwater sub show mails | jq -r '.streams[].path'")]
    Show(SubOptions),

    /// Delete subscriptions. Streams stay
    #[command(visible_alias = "rm", after_help = "Example:\n  tailwater sub delete mails")]
    Delete(SubDeleteOptions),

    /// Add streams to those that a subscription names
    #[command(after_help = "Example:\n  tailwater sub add mails jobs/letters")]
    Add(SubStreamsOptions),

    /// Remove streams from those that a subscription names. What its pattern matches stays
    #[command(after_help = "Example:\n  tailwater sub remove mails jobs/letters")]
    Remove(SubStreamsOptions),

    /// Claim a subscription for a worker, and print the claim as JSON
    ///
    /// Exits with 1 if another worker has it, or if there is nothing to do. Who can read the claim can answer for it:
    /// keep it in a file of your own.
    #[command(after_help = "Example:\n  tailwater sub claim mails --worker w1 > claim.json")]
    Claim(SubClaimOptions),

    /// Say how far streams have been processed, and keep the claim; or give it back with --done
    ///
    /// Without streams it only says that the worker is alive. Prints whether there is more to do already.
    #[command(
        after_help = "Examples:\n  tailwater sub ack mails --claim claim.json\n  tailwater sub ack mails --claim claim.json \
                      --all --done"
    )]
    Ack(SubAckOptions),

    /// Give a claim back without saying that anything has been processed
    #[command(after_help = "Example:\n  tailwater sub release mails --claim claim.json")]
    Release(SubReleaseOptions),

    /// Let the server that uses a data directory sign webhooks with a new key
    ///
    /// The new key is published at once and signs after five minutes, when every receiver can know it. The one before
    /// stays published for a day behind that.
    #[command(after_help = "Example:\n  tailwater sub rotate-key --data-dir data")]
    RotateKey(RotateKeyOptions),
}

/// A command on one subscription.
#[derive(Debug, Args)]
pub(in crate::cli) struct SubOptions {
    /// The subscription
    #[arg(value_parser = parse_name)]
    pub(in crate::cli) id: String,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("how").args(["webhook", "wake_stream"]).required(true))]
#[command(group = ArgGroup::new("what").args(["pattern", "streams"]).required(true).multiple(true))]
pub(in crate::cli) struct SubCreateOptions {
    #[command(flatten)]
    pub(in crate::cli) sub: SubOptions,
    /// Send wakes to this URL
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) webhook: Option<String>,
    /// Write wakes into this stream, which has to be created; workers follow it and claim
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(in crate::cli) wake_stream: Option<String>,
    /// Every stream whose name matches: `*` is one segment, `**` any number of them
    #[arg(long, value_name = "PATTERN", value_parser = parse_name)]
    pub(in crate::cli) pattern: Option<String>,
    /// This stream; may be repeated
    #[arg(long = "stream", value_name = "NAME", value_parser = parse_name)]
    pub(in crate::cli) streams: Vec<String>,
    /// How long a worker may be silent, from 1000 to 600000
    #[arg(long, value_name = "MILLISECONDS")]
    pub(in crate::cli) lease_ttl_ms: Option<u64>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) description: Option<String>,
    /// Print the subscription as JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SubListOptions {
    /// Print id, type, status, state, streams and bytes that are pending, and the last error, with tabs between
    #[arg(long, short, conflicts_with = "json")]
    pub(in crate::cli) long: bool,
    /// Print one JSON object a subscription
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SubDeleteOptions {
    /// The subscriptions
    #[arg(required = true, value_name = "ID", value_parser = parse_name)]
    pub(in crate::cli) ids: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SubStreamsOptions {
    #[command(flatten)]
    pub(in crate::cli) sub: SubOptions,
    /// The streams
    #[arg(required = true, value_name = "NAME", value_parser = parse_name)]
    pub(in crate::cli) streams: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SubClaimOptions {
    #[command(flatten)]
    pub(in crate::cli) sub: SubOptions,
    /// Who claims: others are told
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(in crate::cli) worker: String,
}

/// Which claim.
#[derive(Debug, Args)]
pub(in crate::cli) struct ClaimFile {
    /// What `tailwater sub claim` printed; stdin if absent
    #[arg(long = "claim", value_name = "FILE")]
    pub(in crate::cli) path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SubAckOptions {
    #[command(flatten)]
    pub(in crate::cli) sub: SubOptions,
    #[command(flatten)]
    pub(in crate::cli) claim: ClaimFile,
    /// This stream has been processed up to this offset; may be repeated
    #[arg(long = "ack", value_name = "NAME=OFFSET", value_parser = parse_ack, conflicts_with = "all")]
    pub(in crate::cli) acks: Vec<(String, String)>,
    /// Everything has been processed that the claim tells of
    #[arg(long)]
    pub(in crate::cli) all: bool,
    /// Give the claim back
    #[arg(long)]
    pub(in crate::cli) done: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SubReleaseOptions {
    #[command(flatten)]
    pub(in crate::cli) sub: SubOptions,
    #[command(flatten)]
    pub(in crate::cli) claim: ClaimFile,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RotateKeyOptions {
    #[command(flatten)]
    pub(in crate::cli) store: DirectoryOptions,
    /// Somebody else may know the old keys: sign with the new one now, publish no other, and end all tokens that are out.
    /// Receivers that keep the published keys refuse webhooks until they ask again, and wakes under way are sent again
    #[arg(long)]
    pub(in crate::cli) at_once: bool,
}

/// An offset has no `=`, and a name may have one.
fn parse_ack(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('=') {
        Some((stream, offset)) if !stream.is_empty() && !offset.is_empty() => {
            Ok((stream.to_owned(), offset.to_owned()))
        }
        _ => Err("write the stream's name, `=`, and the offset".to_owned()),
    }
}
