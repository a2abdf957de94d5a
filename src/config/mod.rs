//! What the server was told: defaults, a TOML file, `DS_*` variables and flags, made into one typed struct.
//! Reads no file, no environment and no clock: texts come in, a [`Config`] or every mistake comes out.
//!
//! - `settings`: the table of settings. Everything else here is derived from it.
//! - `choices`: settings that are one of a few things, such as the storage mode.
//! - `kinds`: kinds of values that only the server has; the others are `tailwater_process`'s.
//! - `networks`, `hosts`: lists of addresses, and of names of hosts.
//! - `resolve`: the configuration that sources give.
//! - `cross_checks`: rules over more than one setting.
//!
//! What settings are at all, where they come from and how they are shown stands in [`tailwater_process`].

mod choices;
mod cross_checks;
mod hosts;
mod kinds;
mod networks;
mod resolve;
mod settings;
#[cfg(test)]
mod tests;

use tailwater_process::kinds::Kind as _;
use tailwater_storage::acid::SHARDS_MAX;

use kinds::PowerOfTwo;

pub use choices::{CachePolicy, CorsOrigins, StorageMode};
pub use hosts::Hosts;
pub use networks::Networks;
pub use resolve::Effective;
pub use settings::{
    Config, HttpConfig, LimitsConfig, LogConfig, ProxyConfig, QueuesConfig, SchedulesConfig, ServerConfig,
    StorageConfig, SubscriptionsConfig, TlsConfig,
};
pub use tailwater_process::{ConfigError, ConfigErrors, File, Flag, LogFormat, Origin, Sources};

/// The number of shards that a text says, or what it may say.
pub(crate) fn parse_shard_count(text: &str) -> Result<u32, String> {
    let kind = PowerOfTwo { max: SHARDS_MAX };
    kind.parse(text)
        .map_err(|_wrong| format!("allowed: {}", kind.allowed()))
}

/// Every setting as a row of a Markdown table.
pub fn markdown_table() -> String {
    settings::TABLE.to_markdown()
}

impl Config {
    /// The configuration that `sources` give, or every mistake in them.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        Effective::load(sources).map(|effective| effective.config)
    }

    /// The defaults but for one setting, as tests and fuzz targets want it.
    ///
    /// # Panics
    /// If the setting cannot have that value.
    pub(crate) fn with(key: &str, value: &str) -> Self {
        let flag = Flag {
            flag: format!("--set {key}"),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let sources = Sources {
            flags: vec![flag],
            ..Sources::default()
        };
        Self::load(&sources).expect("the setting may have that value")
    }

    /// The scheme of the URLs that the server answers on: its one port speaks TLS or HTTP in clear, never both.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.cert_path.is_some() {
            "https"
        } else {
            "http"
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        settings::build(|setting| setting.default)
    }
}
