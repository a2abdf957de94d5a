//! What the tests of the configuration share: sources of one kind, and refusals.

mod rules;
mod sources;
mod values;

use super::{Config, ConfigErrors, File, Flag, Sources};

fn file(text: &str) -> Sources {
    Sources {
        file: Some(File {
            path: "tailwater.toml".to_owned(),
            text: text.to_owned(),
        }),
        ..Sources::default()
    }
}

fn variables(pairs: &[(&str, &str)]) -> Sources {
    let environment = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Sources {
        environment,
        ..Sources::default()
    }
}

fn set(key: &str, value: &str) -> Flag {
    Flag {
        flag: format!("--set {key}={value}"),
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn flags(pairs: &[(&str, &str)]) -> Sources {
    Sources {
        flags: pairs.iter().map(|(key, value)| set(key, value)).collect(),
        ..Sources::default()
    }
}

fn refusal(sources: &Sources) -> ConfigErrors {
    Config::load(sources).expect_err("these sources have mistakes")
}
