//! Lays the sources over each other, checks every value that any of them gives, and keeps the origins.

use std::collections::BTreeMap;

use crate::kinds::HIDDEN;
use crate::mistakes::ConfigError;
use crate::sources::{Origin, Sources};
use crate::table::{Setting, Table};

/// The text of every setting, and where it came from.
#[derive(Clone)]
pub struct Values {
    pub(crate) table: &'static Table,
    given: BTreeMap<&'static str, Given>,
    /// Whether the other defaults hold.
    pub other_defaults_hold: bool,
}

/// What won for a setting that some source gave.
#[derive(Clone)]
struct Given {
    text: String,
    origin: Origin,
}

/// What comes of sources, right or wrong.
pub struct Loaded {
    /// What was accepted.
    pub values: Values,
    /// What was not.
    pub errors: Vec<ConfigError>,
    /// Settings with a bad value: a rule over one of these has nothing to say.
    pub doubtful: Vec<&'static str>,
}

impl Values {
    /// Checks everything that the sources say, also what a stronger source overrides: a mistake that is
    /// hidden today comes out on the day the variable is removed.
    #[must_use]
    pub fn load(table: &'static Table, sources: &Sources) -> Loaded {
        let mut errors = Vec::new();
        let mut given = BTreeMap::new();
        let mut doubtful = Vec::new();
        for entry in sources.entries(table, &mut errors) {
            let Some(setting) = table.find(&entry.key) else {
                errors.push(ConfigError::unknown_key(table, entry));
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
                    let value = if setting.kind.is_secret() {
                        HIDDEN.to_owned()
                    } else {
                        entry.text
                    };
                    errors.push(ConfigError::BadValue {
                        origin: entry.origin,
                        key: setting.key,
                        value,
                        allowed: setting.kind.allowed(),
                        reason,
                    });
                }
            }
        }
        let values = Self {
            table,
            given,
            other_defaults_hold: false,
        };
        Loaded {
            values,
            errors,
            doubtful,
        }
    }

    /// Where the value of the setting `key` came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.given
            .get(key)
            .map_or(Origin::Default, |given| given.origin.clone())
    }

    /// The effective text of a setting.
    #[must_use]
    pub fn text(&self, setting: &Setting) -> &str {
        self.given
            .get(setting.key)
            .map_or(setting.default_if(self.other_defaults_hold), |given| {
                given.text.as_str()
            })
    }

    /// The effective text of the setting `key` as TOML, for messages; empty if there is none.
    #[must_use]
    pub fn toml_of(&self, key: &str) -> String {
        let setting = self.table.find(key);
        setting.map_or_else(String::new, |setting| setting.kind.toml(self.text(setting)))
    }
}
