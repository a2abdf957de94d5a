//! What the mirror was told: defaults, a TOML file, `DS_SYNC__*` variables and flags, made into one typed struct. Reads
//! no file but those that secrets are kept in, and those only when asked to.
//!
//! - `table`: the table of settings. Everything else here is derived from it.
//! - `kinds`: kinds of values that only the mirror has; the others are [`tailwater_process`]'s.

mod kinds;
mod table;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use tailwater_process::kinds::Hidden;
use tailwater_process::values::Loaded;
use tailwater_process::{ConfigError, ConfigErrors, Origin, Sources, Values};

use crate::mirror::UPKEEP_MAX;
use crate::postgres::Membership;
use crate::route::{self, Mode, Routes};
use crate::{postgres, source};

pub use table::{Config, OnUnmappable, SyncConfig};

/// A configuration that also knows where each value came from.
#[derive(Clone)]
pub struct Effective {
    /// The values, typed.
    pub config: Config,
    /// Which streams go to tables of their own.
    pub routes: Arc<Routes>,
    values: Values,
}

/// A file with a secret that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Not a file, or not one for this process.
    #[error("`{key}` names {}, which cannot be read: {source}", path.display())]
    Unreadable {
        /// The setting.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nothing is in it.
    #[error("`{key}` names {}, which is empty", path.display())]
    Empty {
        /// The setting.
        key: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// What is in it is no URL of a database.
    #[error("`{key}` names {}, but {source}", path.display())]
    Wrong {
        /// The setting.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What is wrong with it.
        source: postgres::SettingsError,
    },
}

/// Every setting as a row of a Markdown table.
#[must_use]
pub fn markdown_table() -> String {
    table::TABLE.to_markdown()
}

impl Effective {
    /// Checks everything that the sources say, also what a stronger source overrides.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let Loaded {
            values,
            mut errors,
            doubtful,
        } = Values::load(&table::TABLE, sources);
        let config = table::build(|setting| values.text(setting));
        errors.extend(
            Rules {
                config: &config,
                values: &values,
            }
            .broken(&doubtful),
        );
        let creates_tables = config.sync.create_tables;
        let routes = sources
            .file
            .as_ref()
            .map(|file| route::file::read(file, creates_tables));
        let routes = routes.unwrap_or_else(|| Ok(Routes::default()));
        let routes = routes.unwrap_or_else(|mistakes| {
            errors.extend(mistakes);
            Routes::default()
        });
        if errors.is_empty() {
            let routes = Arc::new(routes);
            Ok(Self {
                config,
                routes,
                values,
            })
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// Where the value of the setting `key` came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.values.origin(key)
    }

    /// The whole configuration as a TOML file, each value with its origin behind it, but for secrets. Of routes it has comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let routes = self.routes.iter().map(|route| {
            let mode = match route.mode {
                Mode::Insert => "insert",
                Mode::Upsert { .. } => "upsert",
            };
            format!(
                "# route {}: {} -> {} ({mode})\n",
                route.name, route.streams, route.table
            )
        });
        std::iter::once(self.values.to_toml()).chain(routes).collect()
    }

    /// How the database is reached, and what is written there. Reads the file that its URL is in, if it is in one.
    pub fn postgres(&self) -> Result<postgres::Settings, SecretError> {
        let mut settings = self.config.sync.postgres()?;
        settings.routes = Arc::clone(&self.routes);
        Ok(settings)
    }
}

/// Rules over two settings.
struct Rules<'a> {
    config: &'a Config,
    values: &'a Values,
}

const POSTGRES_URL: &str = "sync.postgres_url";
const POSTGRES_URL_FILE: &str = "sync.postgres_url_file";

impl Rules<'_> {
    /// What is broken. A rule over a `doubtful` setting, one with a bad value, says nothing.
    fn broken(&self, doubtful: &[&'static str]) -> Vec<ConfigError> {
        let sync = &self.config.sync;
        let is_known = |keys: [&'static str; 2]| keys.iter().all(|key| !doubtful.contains(key));
        let mut errors = Vec::new();
        if is_known([POSTGRES_URL, POSTGRES_URL_FILE]) {
            match (&sync.postgres_url, &sync.postgres_url_file) {
                (None, None) => errors.push(ConfigError::Missing {
                    key: POSTGRES_URL,
                    advice: "give the URL of a database by DS_SYNC__POSTGRES_URL, or the path of a file that holds it \
                             by DS_SYNC__POSTGRES_URL_FILE"
                        .to_owned(),
                }),
                (Some(_), Some(_)) => errors.push(ConfigError::Both {
                    key: POSTGRES_URL,
                    origin: self.values.origin(POSTGRES_URL),
                    other_key: POSTGRES_URL_FILE,
                    other_origin: self.values.origin(POSTGRES_URL_FILE),
                }),
                _ => {}
            }
        }
        if let origin @ Origin::Flag(_) = self.values.origin(POSTGRES_URL) {
            errors.push(ConfigError::Argument {
                origin,
                key: POSTGRES_URL,
                advice: "set DS_SYNC__POSTGRES_URL, or name a file that holds it by --postgres-url-file",
            });
        }
        let (key, other_key) = ("sync.batch_bytes", "sync.buffer_bytes");
        if is_known([key, other_key]) && sync.batch_bytes > sync.buffer_bytes {
            errors.push(ConfigError::Conflict {
                key,
                value: self.values.toml_of(key),
                origin: self.values.origin(key),
                relation: "",
                other_key,
                other_value: self.values.toml_of(other_key),
                other_origin: self.values.origin(other_key),
                reason: "a batch could never be gathered",
            });
        }
        errors
    }
}

impl SyncConfig {
    /// How the source is reached.
    #[must_use]
    pub fn source(&self) -> source::Settings {
        source::Settings {
            token_path: self.source_token_file.clone(),
            ca_path: self.source_ca_path.clone(),
            // Deletions and trims are made beside the reads.
            connections_max: self.readers + UPKEEP_MAX,
            read_bytes_max: self.read_bytes_max,
            ..source::Settings::new(&self.source_url)
        }
    }

    /// As what this process is known to other instances.
    #[must_use]
    pub fn membership(&self) -> Membership {
        let by_host = || {
            let host = rustix::system::uname();
            format!("{}:{}", host.nodename().to_string_lossy(), std::process::id())
        };
        Membership {
            name: self.instance_name.clone().unwrap_or_else(by_host),
            streams: self.streams.to_string(),
            lease_ms: self.lease_ms,
        }
    }

    /// How the database is reached. Reads the file that its URL is in, if it is in one.
    fn postgres(&self) -> Result<postgres::Settings, SecretError> {
        let mut settings = self.postgres_by_url()?;
        settings.takes_dead_letters = self.on_unmappable == OnUnmappable::DeadLetter;
        if let Some(path) = &self.postgres_ca_path {
            settings.ca_path = Some(path.clone());
        }
        Ok(settings)
    }

    fn postgres_by_url(&self) -> Result<postgres::Settings, SecretError> {
        let Some(path) = &self.postgres_url_file else {
            let url = self.postgres_url.as_ref().map_or("", Hidden::expose);
            return Ok(
                postgres::Settings::from_url(url).expect("its kind has accepted it, and it is not left out")
            );
        };
        let (key, path) = (POSTGRES_URL_FILE, path.clone());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(SecretError::Unreadable { key, path, source }),
        };
        // An editor ends the line; a URL has no spaces at its ends.
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty { key, path });
        }
        postgres::Settings::from_url(text).map_err(|source| SecretError::Wrong { key, path, source })
    }
}
