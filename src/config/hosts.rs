//! Lists of names of hosts, and which names are in them. Knows nothing of what these are good for.

use tailwater_process::kinds::{Kind, quoted};

/// A list is gone through for each connection, so it has an end.
const HOSTS_MAX: usize = 256;

/// Names of hosts, each alone or with all that are below it; or every host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts {
    /// In lower case; every host if there is none. One that begins with a dot means all names that end with it.
    patterns: Vec<String>,
}

impl Hosts {
    /// Whether a host, in lower case, is one of them.
    pub fn contain(&self, host: &str) -> bool {
        self.patterns.is_empty()
            || self.patterns.iter().any(|pattern| {
                if pattern.starts_with('.') {
                    host.ends_with(pattern.as_str())
                } else {
                    host == pattern
                }
            })
    }
}

/// Names with commas between them, or nothing.
pub(super) struct HostList;

impl Kind for HostList {
    type Value = Hosts;

    fn allowed(&self) -> String {
        format!(
            "hosts such as hooks.example.com, or *.example.com for all below it, with commas between them, at most \
             {HOSTS_MAX}; empty for every host"
        )
    }

    fn parse(&self, text: &str) -> Result<Hosts, Option<String>> {
        if text.trim().is_empty() {
            return Ok(Hosts::default());
        }
        let patterns: Vec<_> = text
            .split(',')
            .map(|entry| pattern(entry.trim()))
            .collect::<Result<_, _>>()?;
        if patterns.len() > HOSTS_MAX {
            return Err(Some(format!("it has {} entries", patterns.len())));
        }
        Ok(Hosts { patterns })
    }

    fn toml(&self, text: &str) -> String {
        let hosts = self.parse(text).unwrap_or_default();
        if hosts.patterns.is_empty() {
            return quoted("");
        }
        let entries = hosts.patterns.iter().map(|pattern| {
            let star = if pattern.starts_with('.') { "*" } else { "" };
            format!("{star}{pattern}").into()
        });
        toml::Value::Array(entries.collect()).to_string()
    }
}

/// One entry, or what is wrong with it.
fn pattern(entry: &str) -> Result<String, String> {
    if entry.is_empty() {
        return Err("an entry is empty; remove a comma".to_owned());
    }
    let below = entry.strip_prefix("*.");
    let name = below.unwrap_or(entry);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let has_labels = name
        .split('.')
        .all(|label| !label.is_empty() && label.bytes().all(is_plain));
    if !has_labels {
        return Err(format!(
            "`{entry}` is no name of a host; write it without scheme, port and path, and other letters as xn--…"
        ));
    }
    let dot = if below.is_some() { "." } else { "" };
    Ok(format!("{dot}{}", name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::{HostList, Kind as _};

    #[test]
    fn a_host_is_in_a_list_by_its_whole_name_or_below_one_with_a_star() {
        let hosts = HostList
            .parse("Hooks.example.com, *.example.org")
            .expect("a list");
        for (host, is_in) in [
            ("hooks.example.com", true),
            ("evil-hooks.example.com", false),
            ("a.hooks.example.com", false),
            ("hooks.example.com.evil.net", false),
            ("example.com", false),
            ("a.example.org", true),
            ("a.b.example.org", true),
            ("example.org", false),
            ("evilexample.org", false),
        ] {
            assert_eq!(hosts.contain(host), is_in, "{host}");
        }
        assert!(HostList.parse(" ").expect("no list").contain("any.example"));
        assert_eq!(HostList.toml("*.A.b,c"), r#"["*.a.b", "c"]"#);
    }

    #[test]
    fn what_is_no_host_is_named() {
        for (text, said) in [
            ("https://a.example", "`https://a.example` is no name"),
            ("a.example:443", "`a.example:443` is no name"),
            ("a.example.", "`a.example.` is no name"),
            ("*", "`*` is no name"),
            ("*.", "`*.` is no name"),
            ("a.*.example", "`a.*.example` is no name"),
            ("a,,b", "an entry is empty"),
            ("münchen.example", "is no name"),
        ] {
            let reason = HostList.parse(text).expect_err(text).expect("a reason");
            assert!(reason.contains(said), "{text}: {reason}");
        }
    }
}
