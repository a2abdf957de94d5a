//! The settings as text: the effective ones as TOML, all of them as a table in Markdown.

use std::fmt::Write as _;

use super::resolve::Effective;
use super::settings::SETTINGS;

impl Effective {
    /// The whole configuration as a TOML file, each value with its origin behind it. Loading it again
    /// gives the same configuration.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in SETTINGS {
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

/// Every setting as a row of a Markdown table.
pub fn markdown_table() -> String {
    let mut text =
        String::from("| Setting | Variable | Default | Allowed | Meaning |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let cell = |text: &str| text.replace('|', "\\|").replace('*', "\\*");
        let default = if setting.default.is_empty() {
            "none".to_owned()
        } else if setting.default_on_disk == setting.default {
            format!("`{}`", setting.default)
        } else {
            format!("`{}`; on disk `{}`", setting.default, setting.default_on_disk)
        };
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
