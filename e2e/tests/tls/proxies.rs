//! Proxies that come by TLS: they are trusted by their addresses, as in clear.

use tailwater_e2e::Request;

use super::certificates::{Authority, CLIENT_CA, Client, Files};

#[test]
fn by_tls_too_a_proxy_is_trusted_by_its_address_alone() {
    let authority = Authority::new("ours");
    let identity = authority.issue();
    let client = Client {
        identity: Some(&identity),
        ..Client::new(&authority)
    };
    for (trusted, with_clients, expected) in [
        ("127.0.0.1", false, "http://edge.example"),
        ("127.0.0.1", true, "http://edge.example"),
        // A certificate of the right authority makes nobody a proxy.
        ("127.0.0.2", true, "https://localhost"),
        ("127.0.0.2", false, "https://localhost"),
    ] {
        let files = Files::new(&authority.issue());
        if with_clients {
            files.write(CLIENT_CA, &authority.pem());
        }
        let server = files.serve(&client, &[("DS_PROXY__TRUSTED", trusted)]);
        let path = server.path("new");
        let request = Request::new("PUT", &path)
            .header("X-Forwarded-Proto", "http")
            .header("X-Forwarded-Host", "edge.example")
            .header("X-Tailwater-Deadline", "9999999999");
        let created = server.send(&request).expect(201);
        assert_eq!(created.expect_header("location"), format!("{expected}{path}"));
        server.stop();
    }
}
