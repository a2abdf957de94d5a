use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::{Fault, Host, UrlRules, WebhookUrl, parse};
use crate::config::{Config, Flag, Sources};

/// As configured with these settings.
fn rules(settings: &[(&str, &str)]) -> UrlRules {
    let flags = settings.iter().map(|(key, value)| Flag {
        flag: "--set".to_owned(),
        key: format!("subscriptions.{key}"),
        value: (*value).to_owned(),
    });
    let sources = Sources {
        flags: flags.collect(),
        ..Sources::default()
    };
    UrlRules::new(&Config::load(&sources).expect("a configuration").subscriptions)
}

fn development() -> UrlRules {
    rules(&[("allow_http_localhost", "true")])
}

#[test]
fn a_url_becomes_whom_to_connect_to_and_what_to_ask_for() {
    let url =
        WebhookUrl::parse("HTTPS://Hooks.Example.com:8443/a%20b?c=d", &UrlRules::default()).expect("good");
    assert!(url.is_tls);
    assert_eq!(url.host, Host::Name("hooks.example.com".to_owned()));
    assert_eq!((url.port, url.path.as_str()), (8443, "/a%20b?c=d"));
    assert_eq!(
        (url.authority.as_bytes(), &*url.host_text),
        (&b"Hooks.Example.com:8443"[..], "hooks.example.com")
    );
    let bare = WebhookUrl::parse("https://93.184.216.34", &UrlRules::default()).expect("good");
    assert_eq!(bare.host, Host::Address(Ipv4Addr::new(93, 184, 216, 34).into()));
    assert_eq!((bare.port, bare.path.as_str()), (443, "/"));
    let six = WebhookUrl::parse("https://[2606:4700::1]:1/x", &UrlRules::default()).expect("good");
    assert_eq!((six.port, &*six.host_text), (1, "2606:4700::1"));
}

#[test]
fn every_refusal_says_what_is_wrong_and_what_to_write() {
    for (text, said) in [
        ("", "it is no URL"),
        ("/hooks", "it has no scheme or no host"),
        ("worker.example", "it has no scheme or no host"),
        ("https://", "it is no URL"),
        ("ftp://a.example/", "its scheme is `ftp`"),
        ("https://user@a.example/", "it has a user or a password"),
        ("https://user:secret@a.example/", "it has a user or a password"),
        ("https://a.example@10.0.0.1/", "it has a user or a password"),
        ("https://a.example/#x", "it has a fragment"),
        ("https://a.example/ b", "the character ' ' stands in it"),
        (
            "https://a.example\\@10.0.0.1/",
            r"the character '\\' stands in it",
        ),
        (
            "https://a.example\u{3002}com/",
            "the character '\u{3002}' stands in it",
        ),
        ("https://\u{2460}27.0.0.1/", "stands in it"),
        ("https://a.example\t/", "stands in it"),
        ("http://a.example/", "it goes over http to `a.example`"),
        ("http://10.0.0.1/hook", "it goes over http to `10.0.0.1`"),
        ("https://a.example:0/", "`:0` is no port"),
        ("https://a.example:/", "`:` is no port"),
        ("https://a.example:65536/", "`:65536` is no port"),
        ("https://a.example:+80/", "is no"),
        ("https://a.example./", "`a.example.` is no name of a host"),
        ("https://a..example/", "`a..example` is no name of a host"),
        (
            "https://10.0.0.1/",
            "10.0.0.1 is private; webhooks go to public addresses",
        ),
        ("https://169.254.169.254/latest", "169.254.169.254 is link-local"),
        ("https://[fd00::1]/", "fd00::1 is unique local"),
        ("https://[::ffff:10.0.0.1]/", "::ffff:10.0.0.1 is private"),
        (
            "https://[::ffff:7f00:1]/",
            "::ffff:127.0.0.1 is this machine's own",
        ),
        ("https://[fe80::1%25eth0]/", "is"),
        (
            "https://0x7f.0.0.1/",
            "`0x7f.0.0.1` is an address in an odd spelling",
        ),
        ("https://0x7f000001/", "odd spelling"),
        ("https://2130706433/", "odd spelling"),
        ("https://0177.0.0.1/", "odd spelling"),
        ("https://127.1/", "odd spelling"),
        ("https://10.0.0.0x1/", "odd spelling"),
        ("https://127.0.0.1./", "is no name of a host"),
        ("https://localhost/", "`localhost` is this machine"),
        ("http://LOCALHOST:8080/", "`LOCALHOST` is this machine"),
        ("http://127.0.0.1:8080/", "`127.0.0.1` is this machine"),
        ("https://[::1]/", "`[::1]` is this machine"),
        (
            "https://a.localhost/",
            "`a.localhost` is a name of an inner network",
        ),
        (
            "https://metadata.google.internal/",
            "is a name of an inner network",
        ),
        ("https://printer.local/", "is a name of an inner network"),
        ("https://intranet/", "`intranet` is a name of an inner network"),
    ] {
        let error = WebhookUrl::parse(text, &UrlRules::default())
            .expect_err(text)
            .to_string();
        assert!(
            error.starts_with("webhook.url is refused: ") && error.contains(said),
            "{text}: {error}"
        );
    }
    let long = format!("https://a.example/{}", "x".repeat(2048));
    assert_eq!(parse(&long, &UrlRules::default()), Err(Fault::TooLong(2066)));
}

#[test]
fn while_developing_this_machine_is_allowed_and_nothing_else_is() {
    let rules = development();
    for text in [
        "http://localhost:1/",
        "http://LocalHost/",
        "http://127.0.0.1:1/",
        "http://127.0.0.9/",
        "http://[::1]/",
        "https://localhost/",
    ] {
        let url = WebhookUrl::parse(text, &rules).expect(text);
        let Host::Local(addresses) = url.host else {
            panic!("{text}: {url:?}");
        };
        assert!(addresses.iter().all(IpAddr::is_loopback), "{text}");
    }
    for text in [
        "http://10.0.0.1/hook",
        "https://10.0.0.1/hook",
        "http://a.example/",
        "http://localhost.a.example/",
        "https://a.localhost/",
        "http://[::ffff:127.0.0.1]/",
        "http://0.0.0.0/",
        "http://127.1/",
    ] {
        assert!(WebhookUrl::parse(text, &rules).is_err(), "{text}");
    }
}

#[test]
fn a_list_of_hosts_is_all_that_is_allowed() {
    let rules = rules(&[("allowed_hosts", "hooks.example.com,*.example.org")]);
    for text in [
        "https://hooks.example.com/",
        "https://HOOKS.example.com:1/x",
        "https://a.example.org/",
    ] {
        assert!(WebhookUrl::parse(text, &rules).is_ok(), "{text}");
    }
    for text in [
        "https://example.org/",
        "https://a.example/",
        "https://93.184.216.34/",
        "https://[2606:4700::1]/",
    ] {
        let error = WebhookUrl::parse(text, &rules).expect_err(text).to_string();
        assert!(error.contains("subscriptions.allowed_hosts"), "{text}: {error}");
    }
}

/// Ways to write an IPv4 address that some readers of URLs take.
fn spellings(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let whole = u32::from(address);
    let low = (u32::from(c) << 8) | u32::from(d);
    let lower = (u32::from(b) << 16) | low;
    vec![
        format!("{whole}"),
        format!("{whole:#x}"),
        format!("{whole:#X}"),
        format!("0{whole:o}"),
        format!("{a}.{lower}"),
        format!("{a}.{b}.{low}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a:03}.{b:03}.{c:03}.{d:03}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("{a}.{b}.{c}.{d:#x}"),
        format!("[::ffff:{a}.{b}.{c}.{d}]"),
        format!("[::{a}.{b}.{c}.{d}]"),
        format!("[64:ff9b::{a}.{b}.{c}.{d}]"),
        format!("[2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1]"),
        format!("[0:0:0:0:0:FFFF:{a:02x}{b:02x}:{c:02x}{d:02x}]"),
        format!("{a}%2e{b}%2e{c}%2e{d}"),
    ]
}

proptest! {
    #[test]
    fn a_private_address_is_refused_in_each_spelling(
        network in prop_oneof![
            Just((0x0a00_0000_u32, 8)), Just((0xac10_0000, 12)), Just((0xc0a8_0000, 16)), Just((0xa9fe_0000, 16)),
            Just((0x7f00_0000, 8)), Just((0x6440_0000, 10)), Just((0, 8)),
        ],
        random in any::<u32>(),
    ) {
        let (network, bits) = network;
        let address = Ipv4Addr::from(network | (random & (u32::MAX >> bits)));
        let plain = format!("https://{address}/");
        prop_assert!(WebhookUrl::parse(&plain, &UrlRules::default()).is_err(), "{plain}");
        for spelling in spellings(address) {
            if spelling == address.to_string() {
                continue;
            }
            let text = format!("https://{spelling}/");
            prop_assert!(WebhookUrl::parse(&text, &UrlRules::default()).is_err(), "{text}");
            // Not while developing either: this machine is spelled in one way.
            prop_assert!(WebhookUrl::parse(&text, &development()).is_err(), "{text}");
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "(https?://)?[a-z0-9.:@/\\[\\]%#?x-]{0,40}|\\PC{0,40}") {
        if let Ok(url) = WebhookUrl::parse(&text, &development()) {
            prop_assert!(url.port != 0);
            prop_assert!(url.is_tls || matches!(url.host, Host::Local(_)), "{text}");
        }
    }
}
