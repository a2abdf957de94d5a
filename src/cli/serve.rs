//! `serve` and `check`: the only commands that read the configuration.

use std::sync::Arc;

use tailwater_process::logging;

use super::arguments::{CheckOptions, ServeOptions};
use super::error::CommandError;
use super::output::Output;
use crate::config::{Effective, File, Flag, Sources, markdown_table};
use crate::server;

pub(super) fn serve(options: &ServeOptions) -> Result<(), CommandError> {
    let config = Arc::new(Effective::load(&sources(options)?)?.config);
    let rust_log = std::env::var_os("RUST_LOG").map(|text| text.to_string_lossy().into_owned());
    logging::init(config.log.format, rust_log.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("tailwater")
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| CommandError::Runtime { source })?;
    Ok(runtime.block_on(server::run(config))?)
}

pub(super) fn check(options: &CheckOptions, output: &mut Output) -> Result<(), CommandError> {
    if options.markdown {
        output.write(markdown_table().as_bytes())?;
    } else {
        output.write(Effective::load(&sources(&options.serve)?)?.to_toml().as_bytes())?;
    }
    output.flush()
}

fn sources(options: &ServeOptions) -> Result<Sources, CommandError> {
    let file = options
        .config
        .as_ref()
        .map(|path| match std::fs::read_to_string(path) {
            Ok(text) => Ok(File {
                path: path.display().to_string(),
                text,
            }),
            Err(source) => Err(CommandError::ConfigFile {
                path: path.clone(),
                source,
            }),
        });
    // What is not UTF-8 gets replacement characters, which no setting allows, so it is refused by name.
    let environment = std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect();
    Ok(Sources {
        file: file.transpose()?,
        environment,
        flags: flags(options),
    })
}

/// `--set` comes last, so it wins over the flag for the same setting.
fn flags(options: &ServeOptions) -> Vec<Flag> {
    let named = [
        ("--bind", "server.bind_address", &options.bind),
        ("--storage-mode", "storage.mode", &options.storage_mode),
        ("--data-dir", "storage.data_dir", &options.data_dir),
    ];
    let named = named.into_iter().filter_map(|(flag, key, value)| {
        Some(Flag {
            flag: flag.to_owned(),
            key: key.to_owned(),
            value: value.clone()?,
        })
    });
    let set = options.set.iter().map(|(key, value)| Flag {
        flag: format!("--set {key}={value}"),
        key: key.clone(),
        value: value.clone(),
    });
    named.chain(set).collect()
}
