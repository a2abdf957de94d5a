//! Lays the sources over each other, checks every value that any of them gives, and keeps the origins.

use std::collections::BTreeMap;

use super::choices::StorageMode;
use super::cross_checks;
use super::error::{ConfigError, ConfigErrors};
use super::settings::{self, Config, Setting};
use super::sources::{Origin, Sources};

/// A configuration that also knows where each value came from.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The values, typed.
    pub config: Config,
    given: BTreeMap<&'static str, Given>,
}

/// What won for a setting that some source gave.
#[derive(Debug, Clone)]
struct Given {
    text: String,
    origin: Origin,
}

impl Effective {
    /// Checks everything that the sources say, also what a stronger source overrides: a mistake that is
    /// hidden today comes out on the day the variable is removed.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut given = BTreeMap::new();
        let mut doubtful = Vec::new();
        for entry in sources.entries(&mut errors) {
            let Some(setting) = settings::find(&entry.key) else {
                errors.push(ConfigError::UnknownKey {
                    origin: entry.origin,
                    key: entry.key,
                    value: entry.text,
                });
                continue;
            };
            match setting.kind.check(&entry.text) {
                Ok(()) => {
                    given.insert(
                        setting.key,
                        Given {
                            text: entry.text,
                            origin: entry.origin,
                        },
                    );
                }
                Err(reason) => {
                    doubtful.push(setting.key);
                    errors.push(ConfigError::BadValue {
                        origin: entry.origin,
                        key: setting.key,
                        value: entry.text,
                        allowed: setting.kind.allowed(),
                        reason,
                    });
                }
            }
        }
        // The mode's own default is the same in all modes, so it can be known before the defaults are.
        let mode = settings::build(|setting| text_in(&given, setting, StorageMode::Memory))
            .storage
            .mode;
        let config = settings::build(|setting| text_in(&given, setting, mode));
        let effective = Self { config, given };
        errors.extend(cross_checks::conflicts(&effective, &doubtful));
        if errors.is_empty() {
            Ok(effective)
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// Where the value of the setting `key` came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.given
            .get(key)
            .map_or(Origin::Default, |given| given.origin.clone())
    }

    /// The effective text of a setting.
    pub(super) fn text(&self, setting: &Setting) -> &str {
        text_in(&self.given, setting, self.config.storage.mode)
    }
}

fn text_in<'a>(given: &'a BTreeMap<&'static str, Given>, setting: &Setting, mode: StorageMode) -> &'a str {
    given
        .get(setting.key)
        .map_or(setting.default_in(mode), |given| given.text.as_str())
}
