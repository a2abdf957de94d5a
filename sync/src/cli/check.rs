//! `check`: whether the mirror could run with its settings. Changes nothing at either end.

use std::process::ExitCode;

use super::error::CommandError;
use super::print;
use crate::postgres::{Error, Store};
use crate::settings::{Effective, SyncConfig};
use crate::source::Source;

pub(super) async fn check(effective: &Effective) -> Result<ExitCode, CommandError> {
    let sync = &effective.config.sync;
    let postgres = effective.postgres()?;
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

/// Prints the SQL that makes what the tables of routes lack, for people to run. Changes nothing.
pub(super) async fn print_sql(effective: &Effective) -> Result<ExitCode, CommandError> {
    let mut store = Store::connect(&effective.postgres()?).await?;
    let mut is_all = true;
    for fault in store.route_faults().await? {
        match &fault.sql {
            Some(sql) => print(&format!("{sql}\n"))?,
            None => {
                is_all = false;
                eprintln!("tailwater-sync: {fault}");
            }
        }
    }
    Ok(if is_all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn ask_postgres(settings: &crate::postgres::Settings) -> Result<String, CommandError> {
    let mut store = Store::connect(settings).await?;
    let readiness = store.readiness().await?;
    let mut faults = store.route_faults().await?;
    faults.retain(|fault| !fault.heals_at_start);
    if !faults.is_empty() {
        return Err(Error::Routes { faults }.into());
    }
    let tables = if readiness.has_tables {
        "the tables are there"
    } else {
        "the tables will be made"
    };
    let (address, version) = (settings.address(), readiness.server_version);
    Ok(format!("{address} is PostgreSQL {version}, and {tables}"))
}
