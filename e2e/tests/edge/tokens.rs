//! Who is let in: the token has to be signed by the issuer's key, to be for this audience, and to be of now.

use serde_json::{Value, json};
use tailwater_e2e::edge::Configuration;
use tailwater_e2e::issuer::{Signer, claims, now, sign_with_secret, unsigned};
use tailwater_e2e::{Edge, Request, Response, edge};

const STREAMS: &[&str] = &["read:runs/", "write:runs/"];

/// A token, what is wrong with it, and how it is answered.
struct Case {
    wrong: &'static str,
    token: String,
    status: u16,
}

fn ask(edge: &Edge, authorization: Option<&str>) -> Response {
    let request = Request::new("GET", "/v1/stream/runs/1");
    edge.send(&match authorization {
        Some(value) => request.header("Authorization", value),
        None => request,
    })
}

/// The claims with one of them changed, or taken away if it is null.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims(STREAMS);
    claims[name] = value;
    if claims[name].is_null() {
        claims.as_object_mut().expect("an object").remove(name);
    }
    claims
}

#[test]
fn only_a_token_of_the_issuer_for_this_audience_and_of_now_lets_a_caller_in() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    let stranger = tempfile::tempdir().expect("a temporary directory");
    assert!(
        edge::run("setup", &[&stranger.path().display().to_string()])
            .status
            .success()
    );
    let (signer, other) = (Signer::of(&edge.file("")), Signer::of(stranger.path()));
    let jwks = std::fs::read(edge.file("jwks.json")).expect("the keys");
    let certificate = std::fs::read(edge.file("certificate.pem")).expect("the certificate");
    let good = signer.sign(&claims(STREAMS));
    let header = |alg: &str| json!({"alg": alg, "typ": "JWT", "kid": "development"});
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (head, _) = signed.split_once('.').expect("two parts");
    let more = unsigned(&header("RS256"), &claims(&["read:*", "write:*"]));
    let case = |wrong, status, token: String| Case { wrong, token, status };
    let signed_with = |name, value| signer.sign(&with(name, value));
    let cases = [
        case("expired", 401, signed_with("exp", json!(now() - 60))),
        case("not valid yet", 401, signed_with("nbf", json!(now() + 600))),
        case("without an end", 401, signed_with("exp", Value::Null)),
        case(
            "an end that is no number",
            401,
            signed_with("exp", json!("tomorrow")),
        ),
        case(
            "another issuer",
            401,
            signed_with("iss", json!("https://elsewhere.example/")),
        ),
        case("no issuer", 401, signed_with("iss", Value::Null)),
        case("another audience", 403, signed_with("aud", json!("billing"))),
        case(
            "several audiences, all others",
            403,
            signed_with("aud", json!(["billing", "mail"])),
        ),
        case("no audience", 403, signed_with("aud", Value::Null)),
        case("no subject", 403, signed_with("sub", Value::Null)),
        case("an empty subject", 403, signed_with("sub", json!(""))),
        case(
            "a subject with a line break",
            403,
            signed_with("sub", json!("a\r\nx-tailwater-subject: b")),
        ),
        case(
            "a subject of other than ASCII",
            403,
            signed_with("sub", json!("zoë")),
        ),
        case(
            "a subject with a space",
            403,
            signed_with("sub", json!("ada lovelace")),
        ),
        case(
            "an overlong subject",
            403,
            signed_with("sub", json!("a".repeat(257))),
        ),
        case("no streams", 403, signed_with("streams", Value::Null)),
        case(
            "streams that are no list",
            403,
            signed_with("streams", json!("read:runs/")),
        ),
        case(
            "streams that are an object",
            403,
            signed_with("streams", json!({"read": "runs/"})),
        ),
        case("an empty list of streams", 403, signed_with("streams", json!([]))),
        case(
            "entries that are no texts",
            403,
            signed_with("streams", json!([1, null, {"read": "runs/"}])),
        ),
        case("the key of another issuer", 401, other.sign(&claims(STREAMS))),
        case("alg none", 401, unsigned(&header("none"), &claims(STREAMS)) + "."),
        case("alg None", 401, unsigned(&header("None"), &claims(STREAMS)) + "."),
        case(
            "alg none with a signature",
            401,
            signer.sign_as(&header("none"), &claims(STREAMS)),
        ),
        case(
            "alg of another length",
            401,
            signer.sign_as(&header("RS512"), &claims(STREAMS)),
        ),
        case(
            "alg of another kind",
            401,
            signer.sign_as(&header("ES256"), &claims(STREAMS)),
        ),
        case(
            "the public keys as a secret",
            401,
            sign_with_secret(&jwks, &claims(STREAMS)),
        ),
        case(
            "the certificate as a secret",
            401,
            sign_with_secret(&certificate, &claims(STREAMS)),
        ),
        case("an empty secret", 401, sign_with_secret(b"", &claims(STREAMS))),
        case(
            "another kid",
            401,
            signer.sign_as(&json!({"alg": "RS256", "kid": "other"}), &claims(STREAMS)),
        ),
        case(
            "a key that it brings itself",
            401,
            other.sign_as(
                &json!({"alg": "RS256", "kid": "development", "jku": "https://elsewhere.example/keys"}),
                &claims(STREAMS),
            ),
        ),
        case("no signature", 401, format!("{signed}.")),
        case("two parts", 401, signed.to_owned()),
        case(
            "more claims under an old signature",
            401,
            format!("{more}.{signature}"),
        ),
        case(
            "claims that are no JSON",
            401,
            format!("{head}.bm9uc2Vuc2U.{signature}"),
        ),
        case("nonsense", 401, "nonsense".to_owned()),
        case("nothing", 401, String::new()),
    ];

    let direct = Request::new("PUT", "/v1/stream/runs/1").header("Content-Type", "text/plain");
    server.send(&direct.body("for callers only")).expect(201);
    assert_eq!(
        ask(&edge, Some(&format!("Bearer {good}"))).expect(200).text(),
        "for callers only"
    );
    let mut wrong = String::new();
    for case in &cases {
        let answer = ask(&edge, Some(&format!("Bearer {}", case.token)));
        if answer.status() != case.status || answer.text().contains("for callers") {
            wrong.push_str(&format!("{}: {answer:?}\n", case.wrong));
        }
    }
    assert!(wrong.is_empty(), "tokens that are answered wrongly:\n{wrong}");

    // The same, for what is wrong with the header.
    let answer = ask(&edge, None).expect(401);
    assert_eq!(answer.problem(), "unauthenticated");
    assert_eq!(
        answer.expect_header("www-authenticate"),
        "Bearer realm=\"tailwater\""
    );
    assert_eq!(answer.expect_header("access-control-allow-origin"), "*");
    for authorization in [
        format!("Basic {good}"),
        good.clone(),
        format!("Bearer{good}"),
        "Bearer".to_owned(),
    ] {
        ask(&edge, Some(&authorization)).expect(401);
    }
    // A token in the URL would stand in histories and logs.
    edge.send(&Request::new(
        "GET",
        &format!("/v1/stream/runs/1?access_token={good}"),
    ))
    .expect(401);
    edge.send(&Request::new("GET", "/v1/stream/runs/1").header("Cookie", &format!("access_token={good}")))
        .expect(401);
    server.stop();
}

/// Some issuers want the names of claims to be URLs.
#[test]
fn the_claim_may_have_another_name() {
    const NAME: &str = "https://streams.example.com/claims/streams";
    let server = edge::server(&[]);
    server.stream("runs/1").create();
    let configuration = Configuration::development(server.address()).set("streams_claim", NAME);
    let edge = Edge::of(configuration);
    let signer = Signer::of(&edge.file(""));
    let mut claims = claims(&["read:*"]);
    edge.caller(&signer.sign(&claims))
        .send("GET", "runs/1")
        .expect(403);
    claims[NAME] = json!(["read:runs/"]);
    let caller = edge.caller(&signer.sign(&claims));
    caller.send("GET", "runs/1").expect(200);
    caller.send("GET", "shared/1").expect(403);
    server.stop();
}

/// Of two tokens in one request, a bad one must not come in with a good one, whichever comes first.
#[test]
fn two_tokens_in_one_request_are_as_good_as_the_worse_one() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    server.stream("runs/1").create();
    let signer = Signer::of(&edge.file(""));
    let good = signer.sign(&claims(STREAMS));
    let more = unsigned(&json!({"alg": "none"}), &claims(&["read:*", "write:*"])) + ".";
    let ask = |tokens: [&str; 2], path: &str| {
        let [first, second] = tokens.map(|token| format!("Bearer {token}"));
        let request = Request::new("GET", path)
            .header("Authorization", &first)
            .header("authorization", &second);
        edge.send(&request).status()
    };
    for path in ["/v1/stream/runs/1", "/v1/stream/__ds/streams"] {
        for tokens in [[good.as_str(), more.as_str()], [more.as_str(), good.as_str()]] {
            let status = ask(tokens, path);
            assert!(matches!(status, 401 | 403), "{path} was answered {status}");
        }
    }
    server.stop();
}

#[test]
fn the_scripts_refuse_what_they_cannot_write_and_name_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = directory.path().display().to_string();
    let refused = |arguments: &[&str], words: &[&str]| {
        let output = edge::run("token", arguments);
        let said = tailwater_e2e::node::written(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?}: {word} is not in: {said}");
        }
    };
    refused(
        &["--keys", &keys, "--subject", "a"],
        &["token-key.pem", "envoy/setup"],
    );
    assert!(edge::run("setup", &[&keys]).status.success());
    refused(&["--keys", &keys], &["--subject", "missing"]);
    refused(&["--keys", &keys, "--subject"], &["--subject", "no value"]);
    refused(
        &["--keys", &keys, "--subject", "a\"b"],
        &["--subject", "a\"b", "quotes"],
    );
    refused(
        &["--keys", &keys, "--subject", "a\\b"],
        &["--subject", "backslashes"],
    );
    refused(
        &["--keys", &keys, "--subject", "a\nb"],
        &["--subject", "printable"],
    );
    refused(&["--keys", &keys, "--subject", ""], &["--subject", "empty"]);
    refused(
        &["--keys", &keys, "--subject", "a", "--lifetime", "1h"],
        &["--lifetime", "1h", "seconds"],
    );
    refused(
        &["--keys", &keys, "--subject", "a", "--lifetime", "08"],
        &["--lifetime", "08", "zeros"],
    );
    refused(&["--keys", &keys, "--sbject", "a"], &["--sbject"]);

    // Set up again, nothing changes: tokens that were given out stay valid.
    let key = std::fs::read(directory.path().join("token-key.pem")).expect("it is there");
    let again = edge::run("setup", &[&keys]);
    assert!(again.status.success() && again.stdout.is_empty(), "{again:?}");
    assert_eq!(
        std::fs::read(directory.path().join("token-key.pem")).expect("it is there"),
        key
    );
    let two = edge::run("setup", &[&keys, "another"]);
    assert_eq!(two.status.code(), Some(2), "{two:?}");
    for name in ["token-key.pem", "certificate-key.pem"] {
        let metadata = std::fs::metadata(directory.path().join(name)).expect("it is there");
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
        assert_eq!(mode & 0o077, 0, "{name} is for its owner only");
    }
}
