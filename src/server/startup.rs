//! What the server says when it starts, and the open-files limit it starts with.

use std::net::SocketAddr;

use super::storage;
use crate::config::{Config, CorsOrigins, LogFormat, StorageMode};

/// Descriptors that the server needs beside its connections.
const OTHER_FILES: u64 = 64;

/// Raises the limit on open files to what the system allows, and answers it.
pub(super) fn raise_open_files_limit() -> u64 {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files_max) => files_max,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files cannot be read");
            u64::MAX
        }
    }
}

/// What the mode promises of acknowledged data.
fn promise(config: &Config) -> String {
    match config.storage.mode {
        StorageMode::Memory => "nothing survives a restart".to_owned(),
        StorageMode::FileFast => format!(
            "what is acknowledged survives a crash of the process; of the machine, but for the last {} ms",
            config.storage.fast_sync_ms
        ),
        StorageMode::FileDurable | StorageMode::Acid => {
            "what is acknowledged survives a crash of the process, a crash of the kernel and a power loss"
                .to_owned()
        }
    }
}

/// Says where the server listens and what it promises: a banner for people, or one line for machines.
pub(super) fn announce(
    config: &Config,
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    files_max: u64,
) {
    let (mode, promise) = (config.storage.mode.name(), promise(config));
    let data_dir = config.storage.mode.is_on_disk().then(|| {
        let data_dir = storage::absolute(&config.storage.data_dir);
        data_dir.display().to_string()
    });
    let trusted = &config.proxy.trusted;
    let trusted_proxies = (!trusted.is_empty()).then(|| trusted.to_string());
    let version = env!("CARGO_PKG_VERSION");
    let base = &config.http.stream_base_path;
    let scheme = config.scheme();
    match config.log.format {
        LogFormat::Text => {
            eprintln!("tailwater {version}");
            eprintln!("  listening on {scheme}://{address}{base}");
            eprintln!("  storage      {mode}: {promise}");
            if let Some(data_dir) = data_dir {
                eprintln!("  data         {data_dir}");
            }
            if let Some(address) = metrics_address {
                eprintln!("  metrics      http://{address}/metrics");
            }
            if let Some(proxies) = trusted_proxies {
                eprintln!("  proxies      {proxies} are trusted to say who their clients are");
            }
        }
        LogFormat::Json => {
            let address = format!("{scheme}://{address}");
            tracing::info!(
                version,
                address,
                base,
                storage = mode,
                promise,
                data_dir,
                trusted_proxies,
                metrics = metrics_address.map(|address| format!("http://{address}/metrics")),
                "listening"
            );
        }
    }
    warn(config, address, files_max);
}

fn warn(config: &Config, address: SocketAddr, files_max: u64) {
    let connections_max = config.limits.max_connections as u64;
    if files_max < connections_max.saturating_add(OTHER_FILES) {
        tracing::warn!(
            "the limit on open files, {files_max}, is below limits.max_connections, {connections_max}: raise it with \
             `ulimit -n`, or lower DS_LIMITS__MAX_CONNECTIONS"
        );
    }
    if config.proxy.trusted.has_everybody() {
        tracing::warn!(
            "everybody may say who they are, and that they speak for others: set DS_PROXY__TRUSTED to the addresses of \
             your own proxies"
        );
    }
    if config.http.cors_origins == CorsOrigins::Any && !address.ip().is_loopback() {
        tracing::warn!(
            "pages of any origin may use this server: set DS_HTTP__CORS_ORIGINS to the origins of your own pages"
        );
    }
}
