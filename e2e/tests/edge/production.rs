//! The configuration for production, run for real: keys that an issuer publishes, TLS to the server, and certificates
//! of clients.

use tailwater_e2e::authority::{Authority, Client, Issued};
use tailwater_e2e::edge::{self, Configuration};
use tailwater_e2e::envoy::Envoy;
use tailwater_e2e::{Request, eventually};

use super::scene::{ISSUER, Scene, directory, put, read, token};

#[test]
fn a_stream_is_written_and_followed_by_tls_all_the_way() {
    let (edge, production) = Scene::new(&[]).start();
    let caller = edge.caller(&production.token());
    let created = caller.send("PUT", "runs/1").expect(201);
    // The edge has told the server by which URL the client came.
    assert_eq!(
        created.expect_header("location"),
        "https://localhost/v1/stream/runs/1"
    );
    let mut events = caller.follow("runs/1", "-1");
    for number in 0..20 {
        caller.append("runs/1", &number.to_string());
        let event = std::iter::from_fn(|| events.next_event()).find(|event| event.kind == "data");
        assert_eq!(event.expect("an event with data").messages(), [number]);
    }
    assert!(production.key_server.asked() > 0, "the keys were asked for");
    // Tokens of the edge for development are for somebody else.
    let elsewhere = edge::token(production.keys.path(), &["--read", "runs/"]);
    edge.caller(&elsewhere).send("GET", "runs/1").expect(401);
    let audience = ["--issuer", ISSUER, "--read", "runs/"];
    edge.caller(&edge::token(production.keys.path(), &audience))
        .send("GET", "runs/1")
        .expect(403);
    edge.send(&Request::new("GET", "/v1/stream/runs/1")).expect(401);
    edge.send(&caller.request_to("GET", "/metrics")).expect(404);
    production.server.stop();
}

/// What both configurations say, they say in the same words, so that what the tests of one show holds for the other.
#[test]
fn both_configurations_are_the_same_between_the_marks() {
    const BEGIN: &str = "---- the same in both files: begin";
    const END: &str = "---- the same in both files: end";
    let shared = |name: &str| {
        let text = std::fs::read_to_string(edge::source(name)).expect("it is in the repository");
        let parts = text.split(BEGIN).skip(1);
        let parts: Vec<_> = parts
            .map(|part| part.split_once(END).expect("what begins ends").0.to_owned())
            .collect();
        assert_eq!(parts.len(), 2, "{name}");
        parts
    };
    let parts = shared("envoy.yaml");
    assert_eq!(parts, shared("envoy.production.yaml"));
    // That is most of them, and all that decides about a request.
    let all = parts.concat();
    for part in [
        "early_header_mutation_extensions",
        "jwt_authn",
        "lua",
        "rbac",
        "route_config",
        "access_log",
    ] {
        assert!(all.contains(part), "{part} is not in both");
    }
}

#[test]
fn the_configurations_are_valid_without_a_warning_also_with_all_that_they_offer() {
    let scene = Scene::new(&[]);
    let own = scene.authority.issue();
    let place = scene.configuration.directory().to_owned();
    put(&place, "client-ca.pem", &scene.authority.pem());
    put(&place, "to-server.pem", &own.pem);
    put(&place, "to-server-key.pem", &own.key_pem);
    assert_eq!(Envoy::validate(&scene.configuration.write()), Ok(()));
    let scene = scene.configure(|configuration| {
        configuration
            .ask_for("require_client_certificate")
            .ask_for("validation_context")
            .ask_for("tls_certificates")
    });
    assert_eq!(Envoy::validate(&scene.configuration.write()), Ok(()));
    let development = Configuration::development(scene.server.address());
    assert_eq!(Envoy::validate(&development.write()), Ok(()));
    // It does look: a field that nobody knows is told of.
    put(
        &place,
        "configuration.yaml",
        &format!("{}\nnonsense: 1\n", scene.configuration.text()),
    );
    let said = Envoy::validate(&place.join("configuration.yaml")).expect_err("a field that nobody knows");
    assert!(said.contains("nonsense"), "{said}");
}

#[test]
fn only_a_server_with_the_right_certificate_is_talked_to() {
    let scene =
        Scene::with_server_certificate(Authority::new("ours"), &Authority::new("theirs").issue(), &[]);
    let (edge, production) = scene.start();
    let caller = edge.caller(&production.token());
    edge.send(&caller.request("PUT", "runs/1")).expect(503);
    assert!(edge.envoy().stat("cluster.server.ssl.fail_verify_error") > 0);

    let scene =
        Scene::new(&[]).configure(|configuration| configuration.set("server_name", "elsewhere.example"));
    let (edge, production) = scene.start();
    let caller = edge.caller(&production.token());
    edge.send(&caller.request("PUT", "runs/1")).expect(503);
    assert!(edge.envoy().stat("cluster.server.ssl.fail_verify_san") > 0);
}

#[test]
fn a_server_that_asks_for_a_certificate_lets_only_the_right_edge_in() {
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let files = directory();
    put(files.path(), "clients.pem", &clients.pem());
    let ca = files.path().join("clients.pem").display().to_string();
    let asking = [("DS_TLS__CLIENT_CA_PATH", ca.as_str())];
    for (own, expected) in [
        (None, 503),
        (Some(strangers.issue()), 503),
        (Some(clients.issue()), 201),
    ] {
        let scene = Scene::new(&asking).configure(|configuration| match &own {
            None => configuration,
            Some(own) => {
                put(configuration.directory(), "to-server.pem", &own.pem);
                put(configuration.directory(), "to-server-key.pem", &own.key_pem);
                configuration.ask_for("tls_certificates")
            }
        });
        let (edge, production) = scene.start();
        let caller = edge.caller(&production.token());
        edge.send(&caller.request("PUT", "runs/1")).expect(expected);
    }
}

#[test]
fn only_clients_with_a_certificate_of_the_right_authority_are_let_in() {
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let scene = Scene::new(&[]).configure(|configuration| {
        put(configuration.directory(), "client-ca.pem", &clients.pem());
        configuration
            .ask_for("require_client_certificate")
            .ask_for("validation_context")
    });
    let (edge, production) = scene.start();
    let token = production.token();
    let asked = |identity: Option<&Issued>, with_token: bool| {
        let client = Client {
            identity,
            ..Client::new(&production.authority)
        };
        let mut connection = edge.try_connect_as(&client.config()).ok()?;
        let request = match with_token {
            true => edge.caller(&token).request("PUT", "runs/1"),
            false => Request::new("PUT", "/v1/stream/runs/1"),
        };
        connection.write(&request.encode()).ok()?;
        connection
            .read_response("PUT")
            .ok()
            .flatten()
            .map(|answer| answer.status())
    };
    let (right, wrong) = (clients.issue(), strangers.issue());
    let old = clients.issue_between(2010, 2011);
    assert_eq!(asked(None, true), None, "no certificate");
    assert_eq!(asked(Some(&wrong), true), None, "another authority's");
    assert_eq!(asked(Some(&old), true), None, "one that has expired");
    assert_eq!(asked(Some(&right), false), Some(401), "a certificate is no token");
    assert_eq!(asked(Some(&right), true), Some(201));
    production.server.stop();
}

#[test]
fn keys_of_nobody_in_particular_let_nobody_in() {
    // Whoever stands in the issuer's place without its certificate could make tokens.
    let scene = Scene::new(&[]).configure(|configuration| {
        put(
            configuration.directory(),
            "issuer-ca.pem",
            &Authority::new("theirs").pem(),
        );
        configuration
    });
    let (edge, production) = scene.start();
    edge.caller(&production.token()).send("PUT", "runs/1").expect(401);
    edge.send(&Request::new("GET", "/healthz")).expect(200);
    assert_eq!(production.key_server.asked(), 0);
    assert!(edge.envoy().stat("cluster.issuer.ssl.fail_verify_error") > 0);
}

#[test]
fn keys_that_the_issuer_adds_are_learnt_and_those_that_it_withdraws_are_forgotten() {
    let scene = Scene::new(&[]).configure(|configuration| configuration.set("jwks_kept", "1s"));
    let (edge, production) = scene.start();
    let newer = directory();
    assert!(
        edge::run("setup", &[&newer.path().display().to_string()])
            .status
            .success()
    );
    let (old, new) = (production.token(), token(newer.path()));
    edge.caller(&old).create("runs/1");
    edge.caller(&new).send("GET", "runs/1").expect(401);

    let [first, second] = [production.keys.path(), newer.path()].map(|keys| read(keys, "jwks.json"));
    let key = |set: &str| serde_json::from_str::<serde_json::Value>(set).expect("JSON")["keys"][0].clone();
    let both = serde_json::json!({"keys": [key(&first), key(&second)]}).to_string();
    let mut connection = edge.connect();
    let mut status = |token: &str| {
        connection
            .send(&edge.caller(token).request("GET", "runs/1"))
            .status()
    };
    production.key_server.publish(&both);
    eventually("the new key counts", || {
        assert_eq!(status(&old), 200, "the old one counts as long as it is there");
        (status(&new) == 200).then_some(())
    });
    production.key_server.publish(&second);
    eventually("the old key counts no more", || {
        assert_eq!(status(&new), 200);
        (status(&old) == 401).then_some(())
    });
    // An issuer that is not itself for a while takes no keys away.
    production.key_server.publish("nonsense");
    let asked = production.key_server.asked();
    eventually("the keys are asked for twice", || {
        (production.key_server.asked() >= asked + 2).then_some(())
    });
    assert_eq!(status(&new), 200);
    production.server.stop();
}
