//! What the server says of whom it trusts.

use tailwater_e2e::Server;

const TRUSTED: &str = "DS_PROXY__TRUSTED";

#[test]
fn the_server_says_whom_it_trusts_and_only_if_it_trusts_somebody() {
    let trusting = Server::start_with(&[(TRUSTED, "10.0.0.7, ::ffff:10.1.0.0/112,fd00::/8")]);
    let said = trusting.stop();
    let line =
        "\n  proxies      10.0.0.7/32, 10.1.0.0/16, fd00::/8 are trusted to say who their clients are\n";
    assert!(said.contains(line), "{said}");
    assert!(!said.contains("everybody"), "{said}");

    let said = Server::start().stop();
    assert!(!said.contains("proxies"), "{said}");

    let open = Server::start_with(&[(TRUSTED, "10.0.0.0/8,0.0.0.0/0")]).stop();
    assert!(open.contains("everybody may say who they are"), "{open}");
}

#[test]
fn a_wrong_network_is_named_with_what_to_write_instead() {
    let (code, said) = Server::refusal(&[(TRUSTED, "10.0.0.7,10.0.0.1/8")]);
    assert_eq!(code, Some(2), "{said}");
    for words in [
        "DS_PROXY__TRUSTED: `proxy.trusted` cannot be `10.0.0.7,10.0.0.1/8`",
        "write 10.0.0.0/8 for all of that network, or 10.0.0.1 for that address alone",
        "allowed: addresses and networks such as",
    ] {
        assert!(said.contains(words), "{said}");
    }
}
