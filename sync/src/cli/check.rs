//! `check`: whether the mirror could run with its settings. Changes nothing at either end.

use std::process::ExitCode;

use super::error::CommandError;
use super::print;
use crate::postgres::Store;
use crate::settings::SyncConfig;
use crate::source::Source;

pub(super) async fn check(sync: &SyncConfig) -> Result<ExitCode, CommandError> {
    let postgres = sync.postgres()?;
    let source = Source::new(sync.source())?;
    // Both are asked before either is given up, so that one run names all that is wrong.
    let asked = [ask_source(sync, &source).await, ask_postgres(&postgres).await];
    let mut is_well = true;
    for (side, answer) in ["source", "postgres"].iter().zip(asked) {
        // What is on stdout is still a TOML file.
        match answer {
            Ok(text) => print(&format!("\n# {side}: {text}"))?,
            Err(error) => {
                is_well = false;
                eprintln!("tailwater-sync: {side}: {error}");
            }
        }
    }
    print("\n")?;
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn ask_source(sync: &SyncConfig, source: &Source) -> Result<String, CommandError> {
    source.feed_now(&sync.streams.common_prefix()).await?;
    Ok(format!("{} answers and tells of its streams", sync.source_url))
}

async fn ask_postgres(settings: &crate::postgres::Settings) -> Result<String, CommandError> {
    let readiness = Store::connect(settings).await?.readiness().await?;
    let tables = if readiness.has_tables {
        "the tables are there"
    } else {
        "the tables will be made"
    };
    let (address, version) = (settings.address(), readiness.server_version);
    Ok(format!("{address} is PostgreSQL {version}, and {tables}"))
}
