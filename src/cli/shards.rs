//! Commands on a data directory of the mode `acid` that no server uses: compact, reshard.

use serde_json::json;
use tailwater_storage::OpenError;
use tailwater_storage::acid::{self, AcidCompactReport, ReshardReport};
use tailwater_storage::file::Durability;

use super::arguments::{DirectoryOptions, ReshardOptions};
use super::error::CommandError;
use super::output::Output;

pub(super) fn compact(options: &DirectoryOptions, output: &mut Output) -> Result<(), CommandError> {
    let dir = &options.directory.path;
    let report = acid::compact_directory(dir).map_err(|error| match error {
        OpenError::OtherMode { dir, found, .. } if Durability::of_mode(&found).is_some() => {
            CommandError::CompactsItself { dir, mode: found }
        }
        error => explain(error),
    })?;
    let AcidCompactReport {
        shards,
        bytes_before,
        bytes_after,
    } = report;
    if options.json {
        let report = json!({ "shards": shards, "bytes_before": bytes_before, "bytes_after": bytes_after });
        output.line(&report.to_string())?;
    } else {
        output.line(&format!(
            "compacted {shards} shards in {}: {bytes_after} bytes, {bytes_before} before",
            dir.display()
        ))?;
    }
    output.flush()
}

pub(super) fn reshard(options: &ReshardOptions, output: &mut Output) -> Result<(), CommandError> {
    let report = acid::reshard(&options.store.directory.path, options.to).map_err(explain)?;
    let ReshardReport {
        from,
        to,
        streams,
        stored_bytes,
        shard_bytes,
    } = report;
    if options.store.json {
        let report = json!({
            "from": from,
            "to": to,
            "streams": streams,
            "stored_bytes": stored_bytes,
            "shard_bytes": shard_bytes,
        });
        output.line(&report.to_string())?;
    } else if from == to {
        output.line(&format!("there are {to} shards already; nothing was done"))?;
    } else {
        output.line(&format!(
            "moved {streams} streams with {stored_bytes} bytes from {from} shards to {to} of {shard_bytes} bytes; start \
             the server with storage.acid_shard_count = {to}"
        ))?;
    }
    output.flush()
}

fn explain(error: OpenError) -> CommandError {
    match error {
        OpenError::Locked { dir, pid } => CommandError::InUseByServer { dir, pid },
        OpenError::OtherMode { dir, found, .. } => CommandError::NoShards { dir, found },
        error => error.into(),
    }
}
