//! What went wrong during a measurement, counted by kind. A measurement with failures has no result.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// Failures by their description.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    counts: BTreeMap<String, u64>,
    total: u64,
}

impl Failures {
    pub(crate) fn add(&mut self, description: impl Into<String>) {
        *self.counts.entry(description.into()).or_default() += 1;
        self.total += 1;
    }

    /// An error if there was any failure.
    pub(crate) fn check(&self) -> Result<()> {
        if self.total == 0 {
            return Ok(());
        }
        let kinds: Vec<String> = self
            .counts
            .iter()
            .map(|(kind, count)| format!("{count} × {kind}"))
            .collect();
        bail!("{} failures: {}", self.total, kinds.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;

    #[test]
    fn any_failure_is_an_error_that_names_every_kind_with_its_count() {
        let mut failures = Failures::default();
        assert!(failures.check().is_ok());
        failures.add("status 503");
        failures.add("connection closed");
        failures.add("status 503");
        let error = failures.check().expect_err("there were failures");
        assert_eq!(
            error.to_string(),
            "3 failures: 1 × connection closed; 2 × status 503"
        );
    }
}
