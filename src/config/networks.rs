//! Lists of networks, and which addresses are in them. Knows nothing of what these are good for.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use tailwater_process::kinds::{Kind, quoted};

/// A list is gone through for each new connection, so it has an end.
const NETWORKS_MAX: usize = 256;
/// Bits of an IPv6 address before the IPv4 address that it maps.
const MAPPED_BITS: u8 = 96;

/// Networks of IPv4 and IPv6 addresses, each as an address and a number of leading bits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether an address is in one of them. An IPv4 address that is mapped into IPv6 counts as the IPv4 address.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every address of IPv4, or of IPv6, is in one of them.
    pub fn has_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, network) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{network}")?;
        }
        Ok(())
    }
}

/// Networks with commas between them, or nothing.
pub(super) struct NetworkList;

impl Kind for NetworkList {
    type Value = Networks;

    fn allowed(&self) -> String {
        format!(
            "addresses and networks such as 10.0.0.7, 10.1.0.0/16 or fd00::/8, with commas between them, at most \
             {NETWORKS_MAX}; empty for none"
        )
    }

    fn parse(&self, text: &str) -> Result<Networks, Option<String>> {
        if text.trim().is_empty() {
            return Ok(Networks::default());
        }
        let networks: Vec<_> = text
            .split(',')
            .map(|entry| network(entry.trim()))
            .collect::<Result<_, _>>()?;
        if networks.len() > NETWORKS_MAX {
            return Err(Some(format!("it has {} entries", networks.len())));
        }
        Ok(Networks(networks))
    }

    fn toml(&self, text: &str) -> String {
        let networks = self.parse(text).unwrap_or_default();
        if networks.is_empty() {
            return quoted("");
        }
        let entries = networks.0.iter().map(|network| network.to_string().into());
        toml::Value::Array(entries.collect()).to_string()
    }
}

/// One entry, or what is wrong with it.
fn network(entry: &str) -> Result<IpNet, String> {
    if entry.is_empty() {
        return Err("an entry is empty; remove a comma".to_owned());
    }
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = entry.parse().map_err(|_wrong| {
        format!("`{entry}` is neither an address nor an address with a number of bits behind /")
    })?;
    // The bits behind the prefix would be passed over, and more be trusted than who wrote the address may have meant.
    if network.trunc() != network {
        let (meant, alone) = (network.trunc(), network.addr());
        return Err(format!(
            "`{entry}` is no beginning of a network; write {meant} for all of that network, or {alone} for that \
             address alone"
        ));
    }
    Ok(unmapped(network))
}

/// A network of mapped IPv4 addresses as one of IPv4, which is how addresses are looked for.
fn unmapped(network: IpNet) -> IpNet {
    let (IpAddr::V4(address), IpNet::V6(mapped)) = (network.addr().to_canonical(), network) else {
        return network;
    };
    let bits = mapped.prefix_len().checked_sub(MAPPED_BITS);
    bits.and_then(|bits| Ipv4Net::new(address, bits).ok())
        .map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Networks {
        NetworkList.parse(text).expect("a list")
    }

    #[test]
    fn addresses_are_in_a_list_if_they_are_in_one_of_its_networks() {
        let all = "10.1.0.0/16, 192.0.2.7,fd00::/8,2001:db8::1, ::ffff:198.51.100.0/120, ::ffff:203.0.113.9";
        let networks = list(all);
        for (address, is_in) in [
            ("10.1.0.0", true),
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("10.0.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fdff::1", true),
            ("fe00::1", false),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
            ("198.51.100.200", true),
            ("198.51.101.0", false),
            ("203.0.113.9", true),
            ("::ffff:10.1.2.3", true),
            ("::ffff:198.51.100.200", true),
            ("::ffff:10.2.2.3", false),
            // Not a mapped address but one of the first that IPv6 has.
            ("::10.1.2.3", false),
        ] {
            assert_eq!(
                networks.contain(address.parse().expect("an address")),
                is_in,
                "{address}"
            );
        }
        assert_eq!(
            networks.to_string(),
            "10.1.0.0/16, 192.0.2.7/32, fd00::/8, 2001:db8::1/128, 198.51.100.0/24, 203.0.113.9/32"
        );
    }

    #[test]
    fn an_empty_list_has_nobody_and_one_of_no_bits_everybody_of_its_kind() {
        let (four, six) = ("10.1.2.3".parse(), "fd00::1".parse());
        let (four, six): (IpAddr, IpAddr) = (four.expect("an address"), six.expect("an address"));
        for (text, has_four, has_six) in [
            ("", false, false),
            ("  ", false, false),
            ("0.0.0.0/0", true, false),
            ("::/0", false, true),
            ("0.0.0.0/0,::/0", true, true),
        ] {
            let networks = list(text);
            assert_eq!(
                (networks.contain(four), networks.contain(six)),
                (has_four, has_six),
                "{text}"
            );
            assert_eq!(networks.has_everybody(), has_four || has_six, "{text}");
            assert_eq!(networks.is_empty(), text.trim().is_empty(), "{text}");
        }
        assert!(!list("10.0.0.0/8").has_everybody());
    }

    #[test]
    fn a_bad_entry_is_named_with_what_to_write_instead() {
        for (text, said) in [
            ("localhost", "`localhost` is neither an address nor"),
            (
                "10.0.0.1, proxy.example",
                "`proxy.example` is neither an address nor",
            ),
            ("10.0.0.1:80", "`10.0.0.1:80` is neither an address nor"),
            ("10.0.0.0/33", "`10.0.0.0/33` is neither an address nor"),
            ("10.0.0/8", "`10.0.0/8` is neither an address nor"),
            ("[::1]", "`[::1]` is neither an address nor"),
            ("10.0.0.1,,10.0.0.2", "an entry is empty; remove a comma"),
            ("10.0.0.1,", "an entry is empty; remove a comma"),
            (
                "10.0.0.1/8",
                "write 10.0.0.0/8 for all of that network, or 10.0.0.1 for",
            ),
            (
                "fd00::1/8",
                "write fd00::/8 for all of that network, or fd00::1 for",
            ),
        ] {
            let reason = NetworkList.parse(text).expect_err(text).expect("a reason");
            assert!(reason.contains(said), "{text}: {reason}");
        }
        let many = |count: usize| vec!["10.0.0.1"; count].join(",");
        assert!(NetworkList.parse(&many(NETWORKS_MAX)).is_ok());
        let reason = NetworkList.parse(&many(NETWORKS_MAX + 1)).expect_err("too many");
        assert_eq!(reason.as_deref(), Some("it has 257 entries"));
    }

    #[test]
    fn a_list_survives_its_canonical_text() {
        for text in ["", "10.0.0.1", "10.0.0.1, fd00::/8", "::ffff:10.0.0.0/104"] {
            let written: toml::Value = NetworkList.toml(text).parse().expect("a value of TOML");
            let again = match written {
                toml::Value::Array(entries) => {
                    let entries: Vec<_> = entries.iter().filter_map(toml::Value::as_str).collect();
                    entries.join(",")
                }
                other => other.as_str().expect("a text").to_owned(),
            };
            assert_eq!(list(&again), list(text), "{text}");
        }
    }
}
