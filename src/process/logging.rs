//! Sets up what a program writes to stderr. Knows nothing of what is logged.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The variable's text is not a list of levels.
    #[error(
        "RUST_LOG cannot be `{text}`: {source}; allowed: a level (error, warn, info, debug, trace, off) or a list such \
         as info,tailwater=debug"
    )]
    BadFilter {
        /// As it was given.
        text: String,
        /// The parser's words.
        source: ParseError,
    },
    /// The process has a subscriber already.
    #[error("logging is set up already")]
    AlreadySet(#[from] TryInitError),
}

/// Sends the process's events to stderr, filtered by `rust_log` (the variable's text; `info` without it).
/// May succeed once in a process.
pub fn init(format: LogFormat, rust_log: Option<&str>) -> Result<(), LoggingError> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(rust_log)?)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            // Colours are for people at a terminal; a collector gets plain text.
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(ansi).finish().try_init()?;
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// An empty variable means what a missing one means.
fn filter(rust_log: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let text = rust_log.unwrap_or_default().trim();
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(text)
        .map_err(|source| LoggingError::BadFilter {
            text: text.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn without_the_variable_the_level_is_info() {
        for unset in [None, Some(""), Some("  ")] {
            assert_eq!(
                filter(unset).expect("no directive is a valid list").to_string(),
                "info"
            );
        }
    }

    #[test]
    fn levels_may_be_given_for_everything_and_for_modules() {
        let filter = filter(Some("warn,tailwater::http=debug")).expect("both are directives");
        assert_eq!(filter.to_string(), "tailwater::http=debug,warn");
    }

    #[test]
    fn a_bad_filter_names_the_variable_and_what_is_allowed() {
        let error = filter(Some("tailwater=loud"))
            .expect_err("there is no such level")
            .to_string();
        assert!(
            error.starts_with("RUST_LOG cannot be `tailwater=loud`: "),
            "{error}"
        );
        assert!(error.contains("allowed: a level"), "{error}");
    }
}
