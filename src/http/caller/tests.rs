use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::config::Config;

const NOW_SECS: u64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_millis(NOW_SECS * 1000)
}

fn trusting(networks: &str) -> ProxyConfig {
    Config::with("proxy.trusted", networks).proxy
}

fn head(fields: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut head = HeaderMap::new();
    for (name, value) in fields {
        head.append(*name, HeaderValue::from_bytes(value).expect("a header value"));
    }
    head
}

fn peer(address: &str, proxy: &ProxyConfig) -> Peer {
    let address = address.parse().expect("an address");
    Peer::new(address, false, &proxy.trusted)
}

/// What the peer's head makes of it, with a proxy at 10.0.0.1 trusted.
fn caller(address: &str, fields: &[(&'static str, &[u8])]) -> Result<Caller, Problem> {
    let proxy = trusting("10.0.0.0/8, fd00::/8");
    Caller::of(peer(address, &proxy), &head(fields), &proxy, now)
}

fn status(problem: Problem) -> u16 {
    problem.into_response().status().as_u16()
}

#[test]
fn a_subject_counts_more_than_an_address_and_that_more_than_the_peers_own() {
    let (subject, forwarded) = (
        ("x-tailwater-subject", &b"ada"[..]),
        ("x-forwarded-for", &b"192.0.2.7"[..]),
    );
    for (fields, client) in [
        (&[][..], "address 10.0.0.1"),
        (&[forwarded], "address 192.0.2.7"),
        (&[subject], "subject ada"),
        (&[subject, forwarded], "subject ada"),
        (&[("forwarded", b"for=_hidden"), forwarded], "address 10.0.0.1"),
    ] {
        let caller = caller("10.0.0.1", fields).expect("no mistake");
        assert_eq!(caller.client.to_string(), client);
    }
}

#[test]
fn an_ipv4_address_is_the_same_by_a_socket_of_both_kinds() {
    let caller = caller("::ffff:10.0.0.1", &[("x-tailwater-subject", b"ada")]).expect("no mistake");
    assert_eq!(caller.client, ClientKey::Subject("ada".into()));
    let proxy = trusting("");
    let mapped = peer("::ffff:192.0.2.7", &proxy).client();
    assert_eq!(mapped, peer("192.0.2.7", &proxy).client());
    assert_ne!(mapped, peer("::192.0.2.7", &proxy).client());
}

#[test]
fn a_trusted_proxy_that_names_nobody_in_particular_is_told_so() {
    let longest = [b'a'; 256];
    for good in [
        &b"a"[..],
        b"auth0|507f1f77bcf86cd799439011",
        b"a,b;c=\"d\"",
        &longest,
    ] {
        let caller = caller("10.0.0.1", &[("x-tailwater-subject", good)]).expect("a subject");
        let subject = std::str::from_utf8(good).expect("ASCII");
        assert_eq!(caller.client, ClientKey::Subject(subject.into()));
    }
    let too_long = [b'a'; 257];
    for (bad, what) in [
        (&b""[..], "is empty"),
        (b"ada lovelace", "visible ASCII"),
        (b"a\tb", "visible ASCII"),
        ("jos\u{e9}".as_bytes(), "visible ASCII"),
        (b"\xff", "visible ASCII"),
        (&too_long, "has 257 bytes"),
    ] {
        let problem = caller("10.0.0.1", &[("x-tailwater-subject", bad)]).expect_err("no subject");
        let detail = problem.detail();
        let begins = "The header x-tailwater-subject of a trusted proxy ";
        assert!(detail.starts_with(begins) && detail.contains(what), "{detail}");
        assert_eq!(status(problem), 400);
    }
    let twice = [("x-tailwater-subject", &b"a"[..]), ("x-tailwater-subject", b"a")];
    let problem = caller("10.0.0.1", &twice).expect_err("two subjects");
    assert!(
        problem.detail().contains("more than once"),
        "{}",
        problem.detail()
    );
}

#[test]
fn a_deadline_is_a_time_to_come_in_whole_seconds() {
    let deadline = |value: &[u8]| {
        let caller = caller("10.0.0.1", &[("x-tailwater-deadline", value)]);
        caller.map(|caller| caller.deadline)
    };
    let next = (NOW_SECS + 1).to_string();
    for good in [next.as_bytes(), b"9999999999", b"18446744073709551615"] {
        assert!(deadline(good).expect("a time to come").is_some());
    }
    let this = NOW_SECS.to_string();
    for over in [this.as_bytes(), b"0", b"1"] {
        let problem = deadline(over).expect_err("it is over");
        assert_eq!(problem.code(), "deadline_passed");
        assert_eq!(status(problem), 401);
    }
    for bad in [
        &b""[..],
        b"soon",
        b"-1",
        b"1900000000.5",
        b" 1",
        b"01900000000",
        b"1.9e9",
        b"18446744073709551616",
        b"\xff",
    ] {
        let problem = deadline(bad).expect_err("no time");
        assert!(problem.detail().contains("x-tailwater-deadline"), "{problem:?}");
        assert_eq!(status(problem), 400);
    }
    let twice = [
        ("x-tailwater-deadline", &b"1900000000"[..]),
        ("x-tailwater-deadline", b"1900000000"),
    ];
    assert_eq!(
        status(caller("10.0.0.1", &twice).expect_err("two deadlines")),
        400
    );
}

#[test]
fn a_deadline_is_as_far_from_now_on_the_clock_of_timers() {
    let caller = caller("10.0.0.1", &[("x-tailwater-deadline", b"1800000060")]).expect("a deadline");
    let before = Instant::now();
    let left = caller
        .ends_at(now())
        .expect("it ends")
        .duration_since(before)
        .as_secs();
    assert!((60..120).contains(&left), "{left}");
    // From then on time is over, and does not wrap.
    let late = Timestamp::from_millis(u64::MAX);
    assert!(caller.ends_at(late).expect("it ends") <= Instant::now());
    assert_eq!(
        self::caller("10.0.0.1", &[]).expect("no mistake").ends_at(now()),
        None
    );
}

#[test]
fn urls_follow_the_trusted_proxy_and_else_the_connection() {
    let proxy = trusting("10.0.0.0/8");
    let says = head(&[
        ("x-forwarded-proto", b"https"),
        ("x-forwarded-host", b"edge.example:8443"),
    ]);
    let origin = |address: &str, is_tls, head| {
        let address = address.parse().expect("an address");
        let peer = Peer::new(address, is_tls, &proxy.trusted);
        let caller = Caller::of(peer, head, &proxy, now).expect("no mistake");
        let origin = caller.origin(head, &proxy.trusted);
        (origin.scheme, origin.host.map(Cow::into_owned))
    };
    let edge = Some("edge.example:8443".to_owned());
    assert_eq!(origin("10.0.0.1", false, &says), ("https", edge.clone()));
    assert_eq!(origin("10.0.0.1", true, &says), ("https", edge));
    let plain = head(&[("x-forwarded-proto", b"http")]);
    assert_eq!(origin("10.0.0.1", true, &plain), ("http", None));
    let silent = HeaderMap::new();
    assert_eq!(origin("10.0.0.1", true, &silent), ("https", None));
    assert_eq!(origin("10.0.0.1", false, &silent), ("http", None));
    assert_eq!(origin("192.0.2.1", false, &says), ("http", None));
    assert_eq!(origin("192.0.2.1", true, &plain), ("https", None));
}

/// Every header that means something from a trusted proxy, with anything in it.
fn fields() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let names = prop::sample::select(vec![
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-tailwater-subject",
        "x-tailwater-deadline",
    ]);
    let likely = prop::sample::select(vec![
        "10.0.0.2",
        "192.0.2.7, 10.0.0.2",
        "for=192.0.2.7;proto=https;host=a.example",
        "https",
        "a.example",
        "ada",
        "1",
        "1900000000",
        "",
    ]);
    let byte = any::<u8>().prop_filter("of a header", |byte| *byte >= b' ' && *byte != 0x7f);
    let any = prop::collection::vec(byte, 0..40);
    let value = prop_oneof![likely.prop_map(|text| text.as_bytes().to_vec()), any];
    prop::collection::vec((names, value), 0..8)
}

fn of_fields(fields: &[(&'static str, Vec<u8>)]) -> HeaderMap {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, &value[..])).collect();
    head(&fields)
}

proptest! {
    #[test]
    fn nothing_that_an_untrusted_peer_sends_changes_the_caller(fields in fields(), is_tls: bool, address: [u8; 4]) {
        let proxy = trusting("10.0.0.0/8");
        prop_assume!(address[0] != 10);
        let peer = Peer::new(IpAddr::from(address), is_tls, &proxy.trusted);
        let head = of_fields(&fields);
        let clock = || -> Timestamp { panic!("an untrusted peer costs no look at the clock") };
        let caller = Caller::of(peer, &head, &proxy, clock).expect("it is not refused");
        let silent = Caller::of(peer, &HeaderMap::new(), &proxy, clock).expect("it is not refused");
        prop_assert_eq!(&caller, &silent);
        prop_assert_eq!(&caller.client, &ClientKey::Address(IpAddr::from(address)));
        let own = Origin { scheme: if is_tls { "https" } else { "http" }, host: None };
        prop_assert_eq!(caller.origin(&head, &proxy.trusted), own);
    }

    #[test]
    fn whatever_a_trusted_proxy_sends_is_a_caller_or_a_refusal(fields in fields()) {
        let proxy = trusting("10.0.0.0/8");
        let head = of_fields(&fields);
        match Caller::of(peer("10.0.0.1", &proxy), &head, &proxy, now) {
            Ok(caller) => {
                if let ClientKey::Subject(subject) = &caller.client {
                    prop_assert!((1..=256).contains(&subject.len()));
                }
                let origin = caller.origin(&head, &proxy.trusted);
                prop_assert!(origin.host.is_none_or(|host| HeaderValue::from_str(&host).is_ok()));
            }
            Err(problem) => prop_assert!(matches!(status(problem), 400 | 401)),
        }
    }
}
