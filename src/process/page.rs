//! A page of metrics in the Prometheus text format. Knows no metric.

use std::fmt::{Display, Write as _};

/// Metrics as text, one behind the other.
#[derive(Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// The text so far.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    /// A number that only grows.
    pub fn counter(&mut self, name: &str, meaning: &str, value: impl Display) {
        self.head(name, "counter", meaning);
        self.line(format_args!("{name} {value}"));
    }

    /// A number that rises and falls.
    pub fn gauge(&mut self, name: &str, meaning: &str, value: impl Display) {
        self.head(name, "gauge", meaning);
        self.line(format_args!("{name} {value}"));
    }

    /// One sample for each value of one label. The values are names from the code and need no escapes.
    pub fn labelled<'a, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        meaning: &str,
        label: &str,
        samples: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        self.head(name, kind, meaning);
        for (value_of_label, value) in samples {
            self.line(format_args!("{name}{{{label}=\"{value_of_label}\"}} {value}"));
        }
    }

    /// Observations as `buckets`, each with its upper bound, and how many were `above` all of them.
    pub fn histogram(
        &mut self,
        name: &str,
        meaning: &str,
        buckets: impl IntoIterator<Item = (f64, u64)>,
        above: u64,
        sum: f64,
    ) {
        self.head(name, "histogram", meaning);
        let mut count = 0;
        for (bound, in_bucket) in buckets {
            count += in_bucket;
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        count += above;
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_sum {sum}"));
        self.line(format_args!("{name}_count {count}"));
    }

    fn head(&mut self, name: &str, kind: &str, meaning: &str) {
        self.line(format_args!("# HELP {name} {meaning}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        let written = writeln!(self.text, "{line}");
        debug_assert!(written.is_ok(), "a string can be written to");
    }
}
