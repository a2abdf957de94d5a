//! A server as it takes part in a comparison: which one, how durable, with which settings of its own.

use crate::servers::{Durability, Server};

/// A variable of a server's environment.
pub(crate) type Setting = (String, String);

/// One side of a comparison.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) server: &'static Server,
    pub(crate) durability: Durability,
    /// Beside those of the table of servers and those that a scenario needs; they come last.
    pub(crate) settings: Vec<Setting>,
}

impl Contender {
    /// Names the contender in the report.
    pub(crate) fn label(&self) -> String {
        let settings = self
            .settings
            .iter()
            .map(|(name, value)| format!(" {name}={value}"));
        std::iter::once(self.name()).chain(settings).collect()
    }

    /// The server's; with its durability, if that may not be what all others have.
    fn name(&self) -> String {
        match self.durability {
            Durability::Acid => format!("{} acid", self.server.name),
            Durability::Memory | Durability::Fast | Durability::Durable => self.server.name.to_owned(),
        }
    }
}

/// For the command line.
pub(crate) fn parse_setting(argument: &str) -> Result<Setting, String> {
    let (name, value) = argument.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
