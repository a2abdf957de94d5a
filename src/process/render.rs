//! The settings as text: the effective ones as TOML, all of them as a table in Markdown.

use std::fmt::Write as _;

use crate::table::Table;
use crate::values::Values;

impl Values {
    /// The whole configuration as a TOML file, each value with its origin behind it. Loading it again
    /// gives the same configuration, but for secrets, which are not shown.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in self.table.settings {
            if setting.section() != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                section = setting.section();
                let _ = writeln!(text, "{gap}[{section}]");
            }
            let value = setting.kind.toml(self.text(setting));
            // A line break in a file's name or a flag must not end the comment.
            let origin = self
                .origin(setting.key)
                .to_string()
                .replace(|c: char| c.is_control(), " ");
            let _ = writeln!(text, "{} = {value} # {origin}", setting.name());
        }
        text
    }
}

impl Table {
    /// Every setting as a row of a Markdown table.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text =
            String::from("| Setting | Variable | Default | Allowed | Meaning |\n|---|---|---|---|---|\n");
        for setting in self.settings {
            let cell = |text: &str| text.replace('|', "\\|").replace('*', "\\*");
            let mut default = if setting.default.is_empty() {
                "none".to_owned()
            } else {
                format!("`{}`", setting.default)
            };
            if let Some((when, other)) = setting.other_default {
                let _ = write!(default, "; {when} `{other}`");
            }
            let _ = writeln!(
                text,
                "| `{}` | `{}` | {default} | {} | {} |",
                setting.key,
                setting.variable(),
                cell(&setting.kind.allowed()),
                cell(&setting.meaning()),
            );
        }
        text
    }
}
