//! Where the URLs lead that the server makes: as a trusted proxy says, and else as they did without one.

use tailwater_e2e::{Request, Server};

use super::{PROXY, STRANGER, connect, serve};

/// What `Location` says of a stream that is new, without the stream's own path.
#[track_caller]
fn origin(server: &Server, source: std::net::IpAddr, headers: &[(&str, &str)]) -> String {
    let path = server.path("new");
    let mut request = Request::new("PUT", &path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut connection = connect(server, source);
    let created = connection.send(&request).expect(201);
    connection.send(&Request::new("DELETE", &path)).expect(204);
    let location = created.expect_header("location");
    let origin = location.strip_suffix(&path);
    origin
        .unwrap_or_else(|| panic!("not a URL of {path}: {location}"))
        .to_owned()
}

#[test]
fn location_follows_a_trusted_proxy_and_nobody_else() {
    let server = serve(&[]);
    for (headers, expected) in [
        (&[][..], "http://localhost"),
        (&[("X-Forwarded-Proto", "https")], "https://localhost"),
        (
            &[("X-Forwarded-Host", "edge.example:8443")],
            "http://edge.example:8443",
        ),
        (
            &[
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Host", "edge.example"),
            ],
            "https://edge.example",
        ),
        (
            &[("Forwarded", "for=192.0.2.7;host=\"[2001:db8::1]:80\";proto=https")],
            "https://[2001:db8::1]:80",
        ),
        (
            &[
                ("Forwarded", "host=a.example"),
                ("X-Forwarded-Host", "b.example"),
                ("X-Forwarded-Proto", "https"),
            ],
            "http://a.example",
        ),
        // What cannot begin a URL is passed over.
        (
            &[("X-Forwarded-Proto", "javascript"), ("X-Forwarded-Host", "a b")],
            "http://localhost",
        ),
        (&[("X-Forwarded-Host", "evil.example/path?")], "http://localhost"),
        (&[("X-Forwarded-Host", "user@evil.example")], "http://localhost"),
    ] {
        assert_eq!(origin(&server, PROXY, headers), expected, "{headers:?}");
        assert_eq!(
            origin(&server, STRANGER, headers),
            "http://localhost",
            "{headers:?}"
        );
    }
    server.stop();
}
