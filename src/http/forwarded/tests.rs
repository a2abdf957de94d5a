use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::config::Config;

/// The peer, which is trusted like everything in its network.
const PEER: &str = "10.0.0.1";

fn trusted() -> Networks {
    Config::with("proxy.trusted", "10.0.0.0/8, fd00::/8")
        .proxy
        .trusted
}

fn head(fields: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut head = HeaderMap::new();
    for (name, value) in fields {
        head.append(*name, HeaderValue::from_bytes(value).expect("a header value"));
    }
    head
}

/// The client, scheme and host that these lines of one header tell of.
fn read(fields: &[(&'static str, &str)]) -> (String, Option<&'static str>, Option<String>) {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()))
        .collect();
    let head = head(&fields);
    let read = Forwarded::read(PEER.parse().expect("an address"), &head, &trusted());
    (
        read.client.to_string(),
        read.scheme,
        read.host.map(Cow::into_owned),
    )
}

#[test]
fn the_client_is_the_first_address_from_the_end_that_is_not_trusted() {
    for (lines, client) in [
        (&["192.0.2.7"][..], "192.0.2.7"),
        (&["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        (&["198.51.100.1, 192.0.2.7, 10.1.1.1,10.2.2.2"], "192.0.2.7"),
        (&["198.51.100.1", "192.0.2.7, 10.1.1.1", "10.2.2.2"], "192.0.2.7"),
        (&["192.0.2.7", "10.1.1.1"], "192.0.2.7"),
        // All are trusted: the one that is furthest away.
        (&["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        (&["fd00::5, 10.2.2.2"], "fd00::5"),
        // Forms that proxies write.
        (&["192.0.2.7:4711"], "192.0.2.7"),
        (&["2001:db8::7"], "2001:db8::7"),
        (&["[2001:db8::7]"], "2001:db8::7"),
        (&["[2001:db8::7]:4711"], "2001:db8::7"),
        (&["::ffff:192.0.2.7"], "192.0.2.7"),
        (&["192.0.2.7, ::ffff:10.1.1.1"], "192.0.2.7"),
        (&["192.0.2.7, ,, "], "192.0.2.7"),
        (&["\t192.0.2.7\t"], "192.0.2.7"),
        // Garbage ends the walk: the last good address holds.
        (&[""], PEER),
        (&["unknown"], PEER),
        (&["192.0.2.7, unknown"], PEER),
        (&["192.0.2.7, unknown, 10.2.2.2"], "10.2.2.2"),
        (&["192.0.2.7, _hidden, 10.2.2.2"], "10.2.2.2"),
        (&["192.0.2.7, 10.2.2.2.2"], PEER),
        (&["192.0.2.7 10.2.2.2"], PEER),
        (&["192.0.2.7:99999"], PEER),
        (&["[192.0.2.7]"], PEER),
        (&["[2001:db8::7"], PEER),
        (&["fe80::1%eth0"], PEER),
        (&["192.0.2.7, \"10.2.2.2\""], PEER),
        (&["192.0.2.7, \u{e9}, 10.2.2.2"], "10.2.2.2"),
    ] {
        let fields: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        assert_eq!(read(&fields).0, client, "{lines:?}");
    }
}

#[test]
fn forwarded_is_read_as_the_standard_writes_it() {
    let https = Some("https");
    for (lines, client, scheme, host) in [
        (&["for=192.0.2.7"][..], "192.0.2.7", None, None),
        (
            &["For=192.0.2.7;Proto=HTTPS;Host=a.example"],
            "192.0.2.7",
            https,
            Some("a.example"),
        ),
        (
            &["for=192.0.2.7 ; proto=https; host=\"a.example:8443\""],
            "192.0.2.7",
            https,
            Some("a.example:8443"),
        ),
        (
            &["for=\"[2001:db8::7]:4711\";by=10.0.0.1"],
            "2001:db8::7",
            None,
            None,
        ),
        (&["for=\"[2001:db8::7]\""], "2001:db8::7", None, None),
        (&["for=\"192.0.2.7:_http\""], "192.0.2.7", None, None),
        (&["for=\"192.0.2\\.7\""], "192.0.2.7", None, None),
        (&["for=192.0.2.7:4711"], "192.0.2.7", None, None),
        (
            &["for=192.0.2.7;secret=\"a,b;for=1.1.1.1\\\",c\";proto=https"],
            "192.0.2.7",
            https,
            None,
        ),
        (&[";;for=192.0.2.7;;proto=https;"], "192.0.2.7", https, None),
        // What the proxy next to the client says of the URL counts, else what one behind it says.
        (
            &["for=192.0.2.7;proto=https;host=edge.example, for=10.2.2.2;proto=http;host=inner"],
            "192.0.2.7",
            https,
            Some("edge.example"),
        ),
        (
            &["for=192.0.2.7", "for=10.2.2.2;proto=https;host=inner"],
            "192.0.2.7",
            https,
            Some("inner"),
        ),
        // What the client wrote is not reached.
        (
            &["for=10.9.9.9;proto=http;host=evil, for=192.0.2.7;proto=https"],
            "192.0.2.7",
            https,
            None,
        ),
        (
            &["for=10.9.9.9;host=evil", "for=192.0.2.7"],
            "192.0.2.7",
            None,
            None,
        ),
        (&["host=\"evil", "for=192.0.2.7"], "192.0.2.7", None, None),
        (&["host=\"evil, for=192.0.2.7"], "192.0.2.7", None, None),
        // The proxy does not say by whom it was asked.
        (
            &["for=1.1.1.1, proto=https;host=a.example"],
            PEER,
            https,
            Some("a.example"),
        ),
        (&["for=unknown;proto=https"], PEER, https, None),
        (&["for=1.1.1.1, for=_x7, for=10.2.2.2"], "10.2.2.2", None, None),
        (&["for=\"\""], PEER, None, None),
        // Values that mean nothing are passed over.
        (
            &["for=192.0.2.7;proto=gopher;host=\"a b\""],
            "192.0.2.7",
            None,
            None,
        ),
        // What has not the form of an element ends the walk.
        (&["for=1.1.1.1, 192.0.2.7"], PEER, None, None),
        (&["for=192.0.2.7;for=192.0.2.8"], PEER, None, None),
        (&["for=192.0.2.7 proto=https"], PEER, None, None),
        (&["for=\"192.0.2.7\"x"], PEER, None, None),
        (&["for=\"192.0.2.7"], PEER, None, None),
        (&["for=\"192.0.2.7\\"], PEER, None, None),
        (&["for"], PEER, None, None),
        (&["for="], PEER, None, None),
        (&["=192.0.2.7"], PEER, None, None),
        (&["f r=192.0.2.7"], PEER, None, None),
        (&["for=1.1.1.1, f\u{f6}r=x, for=10.2.2.2"], "10.2.2.2", None, None),
    ] {
        let fields: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        let expected = (client.to_owned(), scheme, host.map(ToOwned::to_owned));
        assert_eq!(read(&fields), expected, "{lines:?}");
    }
}

#[test]
fn forwarded_counts_alone_if_it_is_there() {
    let others = [
        ("x-forwarded-for", "192.0.2.8"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "b.example"),
    ];
    let expected =
        |client: &str, scheme, host: Option<&str>| (client.to_owned(), scheme, host.map(Into::into));
    assert_eq!(
        read(&others),
        expected("192.0.2.8", Some("https"), Some("b.example"))
    );
    let mut fields = others.to_vec();
    fields.push(("forwarded", "for=192.0.2.7"));
    assert_eq!(read(&fields), expected("192.0.2.7", None, None));
    fields[3].1 = "garbage";
    assert_eq!(read(&fields), expected(PEER, None, None));
}

#[test]
fn a_scheme_and_a_host_are_what_can_begin_a_url() {
    let one = |name, value| read(&[(name, value)]);
    for (value, scheme) in [
        ("https", Some("https")),
        ("HTTP", Some("http")),
        ("http, https", Some("https")),
        ("ws", None),
        ("https://", None),
        ("", None),
    ] {
        assert_eq!(one("x-forwarded-proto", value).1, scheme, "{value}");
    }
    let longest = format!("{}:65535", "a".repeat(253));
    for host in [
        "a.example",
        "a.example:8443",
        "192.0.2.7:80",
        "[2001:db8::7]:80",
        "[::1]",
        &longest,
    ] {
        assert_eq!(one("x-forwarded-host", host).2.as_deref(), Some(host));
    }
    assert_eq!(one("x-forwarded-host", "a, b").2.as_deref(), Some("b"));
    let too_long = format!("{longest}5");
    for wrong in [
        "",
        "user@a.example",
        "a.example/path",
        "a b",
        "a.example:",
        "a.example:99999",
        "a.example:x",
        ":80",
        "h\u{f6}st",
        "https://a.example",
        &too_long,
    ] {
        assert_eq!(one("x-forwarded-host", wrong).2, None, "{wrong}");
    }
}

#[test]
fn no_more_is_read_than_proxies_write() {
    let client = |line: &str| read(&[("x-forwarded-for", line)]).0;
    let proxies = |count: usize| ", 10.2.2.2".repeat(count);
    assert_eq!(
        client(&format!("192.0.2.7{}", proxies(ELEMENTS_MAX - 1))),
        "192.0.2.7"
    );
    assert_eq!(client(&format!("192.0.2.7{}", proxies(ELEMENTS_MAX))), "10.2.2.2");
    assert_eq!(client(&format!("192.0.2.7{}", ",".repeat(ELEMENTS_MAX))), PEER);
    let spaces = |count: usize| " ".repeat(count);
    let longest = format!("192.0.2.7{}", spaces(ELEMENT_BYTES_MAX - "192.0.2.7".len()));
    assert_eq!(client(&longest), "192.0.2.7");
    let with_another = format!("198.51.100.1,{}192.0.2.7, 10.2.2.2", spaces(ELEMENT_BYTES_MAX));
    assert_eq!(client(&with_another), "10.2.2.2");
    // Nor is anything of an earlier line once a line was too long.
    let long = "x".repeat(ELEMENT_BYTES_MAX + 1);
    let lines = [
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-for", long.as_str()),
    ];
    assert_eq!(read(&lines).0, PEER);
}

/// What a client may write to look like another one: well formed, or anything.
fn forged() -> impl Strategy<Value = Vec<u8>> {
    let likely = prop::sample::select(vec![
        "10.9.9.9",
        "198.51.100.1, 10.9.9.9",
        "for=10.9.9.9;proto=http;host=evil.example",
        "for=198.51.100.1, for=\"10.9.9.9:80\"",
        "host=\"evil.example",
        "host=\"evil.example\\",
        "",
    ]);
    let byte = prop_oneof![
        any::<u8>().prop_filter("of a header", |byte| *byte >= b' ' && *byte != 0x7f),
        prop::sample::select(b"\",;=\\ for10.proto".to_vec()),
    ];
    prop_oneof![
        likely.prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(byte, 0..80),
    ]
}

proptest! {
    /// A client may send what it likes: the proxy adds to it, in the same line or in another one, and what it adds counts.
    #[test]
    fn whatever_a_client_writes_before_the_proxys_own_word_changes_nothing(
        forged in forged(),
        in_one_line: bool,
        standard: bool,
    ) {
        let (name, own) = if standard {
            ("forwarded", &b"for=\"192.0.2.7:4711\";proto=https;host=\"a.example\""[..])
        } else {
            ("x-forwarded-for", &b"192.0.2.7"[..])
        };
        let head = if in_one_line {
            head(&[(name, &[&forged[..], b", ", own].concat())])
        } else {
            head(&[(name, &forged), (name, own)])
        };
        let read = Forwarded::read(PEER.parse().expect("an address"), &head, &trusted());
        prop_assert_eq!(read.client.to_string(), "192.0.2.7");
        prop_assert_eq!(read.scheme, standard.then_some("https"));
        prop_assert_eq!(read.host.as_deref(), standard.then_some("a.example"));
    }
}
