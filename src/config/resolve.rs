//! The configuration of sources: their values, the rules over several of them, and the typed struct.

use tailwater_process::values::Loaded;
use tailwater_process::{ConfigErrors, Origin, Sources, Values};

use super::cross_checks;
use super::settings::{self, Config, TABLE};

/// A configuration that also knows where each value came from.
#[derive(Clone)]
pub struct Effective {
    /// The values, typed.
    pub config: Config,
    values: Values,
}

impl Effective {
    /// Checks everything that the sources say, also what a stronger source overrides.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let Loaded {
            mut values,
            mut errors,
            doubtful,
        } = Values::load(&TABLE, sources);
        // The mode's own default is the same in all modes, so it can be known before the defaults are.
        let mode = settings::build(|setting| values.text(setting)).storage.mode;
        values.other_defaults_hold = mode.is_on_disk();
        let config = settings::build(|setting| values.text(setting));
        errors.extend(cross_checks::conflicts(&config, &values, &doubtful));
        if errors.is_empty() {
            Ok(Self { config, values })
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// Where the value of the setting `key` came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.values.origin(key)
    }

    /// The whole configuration as a TOML file, each value with its origin behind it. Loading it again
    /// gives the same configuration.
    pub fn to_toml(&self) -> String {
        self.values.to_toml()
    }
}
