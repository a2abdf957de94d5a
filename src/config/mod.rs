//! What the server was told: defaults, a TOML file, `DS_*` variables and flags, made into one typed struct.
//! Reads no file, no environment and no clock: texts come in, a [`Config`] or every mistake comes out.
//!
//! - `settings`: the table of settings. Everything else here is derived from it.
//! - `choices`: settings that are one of a few things, such as the storage mode.
//! - `kinds`: what a value may look like, and how its text becomes a type.
//! - `networks`, `hosts`: lists of addresses, and of names of hosts.
//! - `sources`: where values come from, and in which order they win.
//! - `resolve`: lays the sources over each other and collects every mistake.
//! - `cross_checks`: rules over more than one setting.
//! - `render`: the settings as TOML and as a table in Markdown.
//! - `error`: the mistakes, each with what to do about it.

mod choices;
mod cross_checks;
mod error;
mod hosts;
mod kinds;
mod networks;
mod render;
mod resolve;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

use tailwater_storage::acid::SHARDS_MAX;

use kinds::{Kind as _, PowerOfTwo};

pub use choices::{CachePolicy, CorsOrigins, LogFormat, StorageMode};
pub use error::{ConfigError, ConfigErrors};
pub use hosts::Hosts;
pub use networks::Networks;
pub use render::markdown_table;
pub use resolve::Effective;
pub use settings::{
    Config, HttpConfig, LimitsConfig, LogConfig, ProxyConfig, ServerConfig, StorageConfig,
    SubscriptionsConfig, TlsConfig,
};
pub use sources::{File, Flag, Origin, Sources};

/// The number of shards that a text says, or what it may say.
pub(crate) fn parse_shard_count(text: &str) -> Result<u32, String> {
    let kind = PowerOfTwo { max: SHARDS_MAX };
    kind.parse(text)
        .map_err(|_wrong| format!("allowed: {}", kind.allowed()))
}

impl Config {
    /// The configuration that `sources` give, or every mistake in them.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        Effective::load(sources).map(|effective| effective.config)
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
        settings::build(|setting| setting.default_in(StorageMode::Memory))
    }
}
