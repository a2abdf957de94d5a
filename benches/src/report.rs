//! The table of a comparison, in Markdown. Knows figures, not where they come from.

use std::fmt;

use crate::scenario::{Better, Outcome};
use crate::statistics::Spread;

/// Medians of every server, and of the subject's ratio to each peer.
#[derive(Debug)]
pub(crate) struct Report {
    /// The subject, then its peers.
    servers: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Report {
    pub(crate) fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            rows: Vec::new(),
        }
    }

    /// Adds a row for each measure of a scenario. `rounds` are outcomes by round, then by server; one that
    /// did not take part has empty cells.
    pub(crate) fn add(&mut self, title: &str, rounds: &[Vec<Option<Outcome>>]) {
        let Some(first) = rounds.iter().flatten().flatten().next() else {
            return;
        };
        for (index, reading) in first.readings.iter().enumerate() {
            let better = match reading.better {
                Better::Higher => "higher",
                Better::Lower => "lower",
            };
            let mut row = vec![format!("{title}: {}", reading.measure), better.to_owned()];
            let columns = self.columns(rounds, index);
            for (server, values) in columns.iter().enumerate() {
                row.push(Spread::of(values).map_or_else(String::new, |spread| figure(spread.median)));
                if server > 0 {
                    row.push(ratio(&columns[0], values));
                }
            }
            self.rows.push(row);
        }
    }

    /// Adds a row that says that a scenario has no result.
    pub(crate) fn add_failure(&mut self, title: &str) {
        let mut row = vec![title.to_owned()];
        row.resize(self.header().len(), "failed".to_owned());
        self.rows.push(row);
    }

    /// One measure's values, by server, then by round.
    fn columns(&self, rounds: &[Vec<Option<Outcome>>], reading: usize) -> Vec<Vec<f64>> {
        let column = |server: usize| {
            rounds
                .iter()
                .filter_map(|round| Some(round[server].as_ref()?.readings[reading].value))
                .collect()
        };
        (0..self.servers.len()).map(column).collect()
    }

    fn header(&self) -> Vec<String> {
        let mut header = vec!["measure".to_owned(), "better".to_owned()];
        for (index, server) in self.servers.iter().enumerate() {
            header.push(server.clone());
            if index > 0 {
                header.push("ratio (lowest–highest)".to_owned());
            }
        }
        header
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header();
        writeln!(formatter, "| {} |", header.join(" | "))?;
        writeln!(formatter, "|---|---|{}", "--:|".repeat(header.len() - 2))?;
        for row in &self.rows {
            writeln!(formatter, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

fn ratio(subject: &[f64], peer: &[f64]) -> String {
    Spread::of_ratios(subject, peer).map_or_else(String::new, |Spread { low, median, high }| {
        format!("**{median:.2}** ({low:.2}–{high:.2})")
    })
}

/// Three significant digits or more, without an exponent.
pub(crate) fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Report, figure};
    use crate::scenario::{Outcome, Reading};
    use crate::usage::Spent;

    fn outcome(value: f64) -> Outcome {
        let second = Duration::from_secs(1);
        let spent = Spent {
            elapsed: second,
            server_cpu: second,
            client_cpu: second,
            disk_written_bytes: 0,
        };
        Outcome {
            readings: vec![Reading::higher_is_better("append/s", value)],
            spent,
        }
    }

    fn report() -> Report {
        Report::new(vec!["tailwater".to_owned(), "durable-streams".to_owned()])
    }

    #[test]
    fn a_row_has_medians_and_the_median_of_the_ratios() {
        let mut report = report();
        let rounds = [[300.0, 200.0], [100.0, 100.0], [120.0, 60.0]]
            .map(|round| round.map(|value| Some(outcome(value))).into_iter().collect());
        report.add("append", &rounds);
        assert_eq!(
            report.to_string(),
            "| measure | better | tailwater | durable-streams | ratio (lowest–highest) |\n\
             |---|---|--:|--:|--:|\n\
             | append: append/s | higher | 120 | 100 | **1.50** (1.00–2.00) |\n"
        );
    }

    #[test]
    fn a_server_that_did_not_take_part_has_empty_cells() {
        let mut report = report();
        report.add("append", &[vec![Some(outcome(300.0)), None]]);
        assert!(
            report
                .to_string()
                .ends_with("| append: append/s | higher | 300 |  |  |\n")
        );
    }

    #[test]
    fn a_failed_scenario_shows_in_every_column() {
        let mut report = report();
        report.add_failure("append");
        assert!(
            report
                .to_string()
                .ends_with("| append | failed | failed | failed | failed |\n")
        );
    }

    #[test]
    fn figures_have_three_significant_digits() {
        assert_eq!(
            [0.0123, 1.234, 12.34, 123.4, 123_456.7].map(figure),
            ["0.012", "1.23", "12.3", "123", "123457"]
        );
    }
}
