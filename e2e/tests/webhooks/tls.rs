//! Receivers behind TLS, whose certificates an authority of the test has signed, or somebody else.

use tailwater_e2e::authority::Authority;
use tailwater_e2e::{Server, eventually};

use crate::receiver::{Receiver, body};
use crate::receivers::last_error;
use crate::{DEVELOPMENT, subscribe, subscription, wake};

const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"done\":true}";

/// What the listing says of a subscription.
fn listed_error(server: &Server, id: &str) -> String {
    let page = server.get(&server.path("__ds/subscriptions")).expect(200).json();
    let listed = page["subscriptions"].as_array().expect("a list").iter();
    let mut of_id = listed.filter(|one| one["id"] == id);
    let found = of_id.next().expect("it is listed");
    found["last_error"]["message"]
        .as_str()
        .expect("a text")
        .to_owned()
}

#[test]
fn a_receiver_is_known_by_the_authority_of_the_settings_and_none_other_is_told_anything() {
    let (trusted, other) = (Authority::new("trusted"), Authority::new("other"));
    let dir = tempfile::tempdir().expect("a directory");
    let ca_path = dir.path().join("ca.pem");
    std::fs::write(&ca_path, trusted.pem()).expect("written");
    let ca_path = ca_path.to_str().expect("a plain path");
    let server = Server::start_with(&[DEVELOPMENT, ("DS_SUBSCRIPTIONS__CA_PATH", ca_path)]);
    let known = Receiver::with_tls(&trusted.issue(), DONE);
    let cases = [
        (
            "stranger",
            Receiver::with_tls(&other.issue(), DONE),
            "UnknownIssuer",
        ),
        (
            "expired",
            Receiver::with_tls(&trusted.issue_between(2020, 2021), DONE),
            "expired",
        ),
        (
            "other-host",
            Receiver::with_tls(&trusted.issue_for("hooks.example.com", 2020, 2999), DONE),
            "not valid for name",
        ),
        ("without-tls", Receiver::answering(DONE), ""),
    ];
    for (id, receiver, _) in &cases {
        subscribe(&server, id, &receiver.https_url()).expect(201);
        wake(&server, id);
    }
    subscribe(&server, "known", &known.https_url()).expect(201);
    wake(&server, "known");
    assert!(body(&known.request()).contains("\"subscription_id\":\"known\""));
    eventually("the one that is known is done", || {
        (subscription(&server, "known")["state"] == "idle").then_some(())
    });
    for (id, receiver, why) in &cases {
        let error = last_error(&server, id);
        assert!(error.starts_with("no TLS with `localhost`: "), "{id}: {error}");
        assert!(error.contains(why), "{id}: {error}");
        assert_eq!(listed_error(&server, id), error);
        assert!(!receiver.has_been_asked(), "{id} was told of a wake");
    }
    server.stop();
}

/// The same receiver, and nobody has said whose signatures count.
#[test]
fn a_receiver_whose_authority_is_in_no_setting_is_refused() {
    let authority = Authority::new("unknown");
    let server = Server::start_with(&[DEVELOPMENT]);
    let receiver = Receiver::with_tls(&authority.issue(), DONE);
    subscribe(&server, "s", &receiver.https_url()).expect(201);
    wake(&server, "s");
    let error = last_error(&server, "s");
    let is_refused = error.starts_with("no TLS with `localhost`: ")
        || error.starts_with("this machine trusts no authority");
    assert!(is_refused, "{error}");
    assert!(!receiver.has_been_asked());
    server.stop();
}
