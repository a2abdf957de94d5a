//! Which addresses webhooks may be sent to: those that the whole internet reaches, and no others (PROTOCOL.md §12.8).
//! Knows neither names nor connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// An address that no webhook is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {nature}")]
pub struct RefusedAddress {
    /// The address, as it was met.
    pub address: IpAddr,
    nature: &'static str,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(first: u16, second: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), bits)
}

/// What IPv4 has set apart (the special-purpose registry of IANA), and one address of a cloud within it all.
const APART_V4: [(Ipv4Net, &str); 17] = [
    (v4(0, 0, 0, 0, 8), "unspecified"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "an address behind a carrier's translation"),
    (v4(127, 0, 0, 0, 8), "this machine's own"),
    (
        v4(169, 254, 0, 0, 16),
        "link-local, where clouds have their metadata",
    ),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "reserved for protocols"),
    (v4(192, 0, 2, 0, 24), "for documentation"),
    (v4(192, 88, 99, 0, 24), "reserved"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "for benchmarks"),
    (v4(198, 51, 100, 0, 24), "for documentation"),
    (v4(203, 0, 113, 0, 24), "for documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
    // Azure answers on it from within each machine, and it is in no block that is set apart.
    (v4(168, 63, 129, 16, 32), "where a cloud has its metadata"),
];

/// What IPv6 has set apart within [`GLOBAL_V6`].
const APART_V6: [(Ipv6Net, &str); 4] = [
    (v6(0x2001, 0, 23), "reserved for protocols"),
    (v6(0x2001, 0xdb8, 32), "for documentation"),
    (v6(0x2002, 0, 16), "a tunnel to an IPv4 address (6to4)"),
    (v6(0x3fff, 0, 20), "for documentation"),
];

/// Names for what lies outside of [`GLOBAL_V6`]. Whatever is not named is refused as well.
const OUTSIDE_V6: [(Ipv6Net, &str); 6] = [
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "unspecified"),
    (
        Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
        "this machine's own",
    ),
    (v6(0xfc00, 0, 7), "unique local"),
    (v6(0xfe80, 0, 10), "link-local"),
    (v6(0xff00, 0, 8), "multicast"),
    (v6(0x64, 0xff9b, 32), "a translation to IPv4 within one network"),
];

/// The only part of IPv6 from which addresses have been given out to the world.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);
/// IPv4 addresses as hosts without IPv4 see them (NAT64, RFC 6052); the last four bytes are the address.
const TRANSLATED_V4: Ipv6Net = v6(0x64, 0xff9b, 96);

/// Lets an address pass that the whole internet reaches.
///
/// # Errors
/// [`RefusedAddress`] for every other one, in whatever spelling: an IPv4 address within one of IPv6 is judged as what it
/// is.
pub(super) fn check(address: IpAddr) -> Result<(), RefusedAddress> {
    let nature = match address {
        IpAddr::V4(address) => nature_v4(address),
        IpAddr::V6(address) => nature_v6(address),
    };
    nature.map_or(Ok(()), |nature| Err(RefusedAddress { address, nature }))
}

fn nature_v4(address: Ipv4Addr) -> Option<&'static str> {
    let apart = APART_V4.iter().find(|(network, _)| network.contains(&address));
    apart.map(|(_, nature)| *nature)
}

fn nature_v6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return nature_v4(mapped);
    }
    if TRANSLATED_V4.contains(&address) {
        let [.., a, b, c, d] = address.octets();
        return nature_v4(Ipv4Addr::new(a, b, c, d));
    }
    let is_global = GLOBAL_V6.contains(&address);
    let named: &[_] = if is_global { &APART_V6 } else { &OUTSIDE_V6 };
    let found = named.iter().find(|(network, _)| network.contains(&address));
    match found {
        Some((_, nature)) => Some(*nature),
        None if is_global => None,
        None => Some("not one that the internet reaches"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{APART_V4, IpAddr, Ipv4Addr, Ipv6Addr, check};

    /// An address of a block that is set apart, at random within it.
    fn apart() -> impl Strategy<Value = Ipv4Addr> {
        (0..APART_V4.len(), any::<u32>()).prop_map(|(block, random)| {
            let network = APART_V4[block].0;
            let host_bits = random & u32::from(network.hostmask());
            Ipv4Addr::from(u32::from(network.network()) | host_bits)
        })
    }

    /// One IPv4 address within IPv6, in every form that somebody may send on to it.
    fn embedded(address: Ipv4Addr) -> [Ipv6Addr; 6] {
        let [a, b, c, d] = address.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        [
            address.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        ]
    }

    proptest! {
        #[test]
        fn every_address_that_is_set_apart_is_refused_in_each_form(address in apart()) {
            prop_assert!(check(address.into()).is_err(), "{address}");
            for form in embedded(address) {
                prop_assert!(check(form.into()).is_err(), "{address} as {form}");
            }
        }

        #[test]
        fn every_address_outside_of_what_ipv6_has_given_out_is_refused(
            bits in any::<u128>(), first in prop_oneof![0_u8..0x20, 0x40_u8..=0xff],
        ) {
            let address = Ipv6Addr::from((bits >> 8) | (u128::from(first) << 120));
            // Random bits do not begin like the translation of an IPv4 address, which may be a public one.
            prop_assume!(address.segments()[..2] != [0x64, 0xff9b] && address.to_ipv4_mapped().is_none());
            prop_assert!(check(address.into()).is_err(), "{address}");
        }

        /// The standard library knows most of the blocks too, from another hand.
        #[test]
        fn no_address_passes_that_the_standard_library_calls_local(bits in any::<u32>()) {
            let address = Ipv4Addr::from(bits);
            let is_local = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_broadcast() || address.is_documentation() || address.is_unspecified()
                || address.is_multicast();
            prop_assert!(!is_local || check(address.into()).is_err(), "{address}");
        }
    }

    #[test]
    fn the_first_and_the_last_address_of_a_block_are_refused_and_their_neighbours_pass() {
        for (refused, passing) in [
            (["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            (
                ["100.64.0.0", "100.127.255.255"],
                ["100.63.255.255", "100.128.0.0"],
            ),
            (["127.0.0.0", "127.255.255.255"], ["126.255.255.255", "128.0.0.0"]),
            (
                ["169.254.0.0", "169.254.255.255"],
                ["169.253.255.255", "169.255.0.0"],
            ),
            (["172.16.0.0", "172.31.255.255"], ["172.15.255.255", "172.32.0.0"]),
            (
                ["192.168.0.0", "192.168.255.255"],
                ["192.167.255.255", "192.169.0.0"],
            ),
            (["198.18.0.0", "198.19.255.255"], ["198.17.255.255", "198.20.0.0"]),
            (
                ["168.63.129.16", "168.63.129.16"],
                ["168.63.129.15", "168.63.129.17"],
            ),
            (["224.0.0.0", "255.255.255.255"], ["223.255.255.255", "1.0.0.0"]),
            (["2001::", "2001:1ff:ffff::1"], ["2001:200::", "2000:ffff::1"]),
            (["2001:db8::", "2001:db8:ffff::1"], ["2001:db7::1", "2001:db9::"]),
            (["2002::", "2002:ffff::1"], ["2001:ffff::1", "2003::"]),
            (["3fff::", "3fff:fff::1"], ["3ffe::1", "3fff:1000::"]),
            (["fc00::", "fdff::1"], ["2606:4700::1", "2a00::1"]),
            (
                ["64:ff9b::a00:1", "64:ff9b::a9fe:a9fe"],
                ["64:ff9b::808:808", "::ffff:8.8.8.8"],
            ),
        ] {
            let check = |address: &str| check(address.parse::<IpAddr>().expect("an address"));
            for address in refused {
                assert!(check(address).is_err(), "{address}");
            }
            for address in passing {
                assert_eq!(check(address), Ok(()), "{address}");
            }
        }
    }

    #[test]
    fn a_refusal_says_what_the_address_is() {
        for (address, said) in [
            (
                "169.254.169.254",
                "169.254.169.254 is link-local, where clouds have their metadata",
            ),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1 is private"),
            ("fd00:ec2::254", "fd00:ec2::254 is unique local"),
            ("::1", "::1 is this machine's own"),
            (
                "64:ff9b:1::1",
                "64:ff9b:1::1 is a translation to IPv4 within one network",
            ),
            ("4000::", "4000:: is not one that the internet reaches"),
        ] {
            let refusal = check(address.parse().expect("an address")).expect_err(address);
            assert_eq!(refusal.to_string(), said);
        }
    }
}
