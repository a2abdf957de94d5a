//! A server does not start with files that are wrong, and says which one, how, and what to do.

use tailwater_e2e::Server;

use super::certificates::{Authority, CERT, CLIENT_CA, Files, KEY};

#[track_caller]
fn assert_refused(files: &Files, name: &str, setting: &str, words: &[&str]) {
    let settings = files.settings();
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let (code, said) = Server::refusal(&settings);
    assert_eq!(code, Some(1), "{said}");
    let path = files.path(name).display().to_string();
    for word in [setting, &path].iter().chain(words) {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    assert!(!said.contains("listening"), "{said}");
}

#[test]
fn a_file_that_is_missing_or_of_another_kind_is_named() {
    let own = Authority::new("ours").issue();
    let (cert, key) = ("`tls.cert_path`", "`tls.key_path`");
    let files = Files::new(&own);

    std::fs::remove_file(files.path(CERT)).expect("it is there");
    assert_refused(&files, CERT, cert, &["No such file", "may read"]);
    files.write(CERT, "");
    assert_refused(
        &files,
        CERT,
        cert,
        &["has no certificate in PEM", "-----BEGIN CERTIFICATE-----"],
    );
    std::fs::write(files.path(CERT), &own.der).expect("it can be written");
    assert_refused(&files, CERT, cert, &["has no certificate in PEM"]);
    files.write(
        CERT,
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    );
    assert_refused(&files, CERT, cert, &["is not PEM"]);
    files.write(CERT, &own.pem[..own.pem.len() / 2]);
    assert_refused(&files, CERT, cert, &["is not PEM"]);
    files.write(
        CERT,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    assert_refused(
        &files,
        CERT,
        cert,
        &["a certificate, number 1, that cannot be read"],
    );
    files.write(CERT, &"#\n".repeat(1 << 20));
    assert_refused(&files, CERT, cert, &["more than 1048576 bytes"]);
    files.write(CERT, &own.key_pem);
    assert_refused(&files, CERT, cert, &["has no certificate in PEM"]);

    files.put(&own);
    files.write(KEY, &own.pem);
    assert_refused(&files, KEY, key, &["has no private key in PEM"]);
    files.write(
        KEY,
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    assert_refused(&files, KEY, key, &["a private key that cannot be used"]);
    files.write(
        KEY,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    assert_refused(&files, KEY, key, &["encrypted", "openssl pkey"]);
    std::fs::remove_file(files.path(KEY)).expect("it is there");
    assert_refused(&files, KEY, key, &["No such file"]);
    std::fs::create_dir(files.path(KEY)).expect("it is not there");
    assert_refused(&files, KEY, key, &["cannot be read"]);
}

#[test]
fn the_key_of_another_certificate_is_named_with_that_certificate() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    files.write(KEY, &authority.issue().key_pem);
    let cert = files.path(CERT).display().to_string();
    assert_refused(
        &files,
        KEY,
        "`tls.key_path`",
        &[
            "is not the private key of the certificate in `tls.cert_path`",
            &cert,
        ],
    );
}

#[test]
fn a_certificate_whose_time_is_over_or_has_not_come_is_named_with_that_time() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue_between(2010, 2011));
    assert_refused(
        &files,
        CERT,
        "`tls.cert_path`",
        &["expired at 2011-01-01T00:00:00Z", "renew it"],
    );
    files.put(&authority.issue_between(2998, 2999));
    assert_refused(
        &files,
        CERT,
        "`tls.cert_path`",
        &["is not valid before 2998-01-01T00:00:00Z", "clock"],
    );
}

#[test]
fn the_authorities_of_clients_are_looked_at_like_the_other_files() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    let setting = "`tls.client_ca_path`";
    files.write(CLIENT_CA, "nothing");
    assert_refused(&files, CLIENT_CA, setting, &["has no certificate in PEM"]);
    files.write(CLIENT_CA, &authority.issue_between(2010, 2011).pem);
    assert_refused(&files, CLIENT_CA, setting, &["expired at 2011-01-01T00:00:00Z"]);
}

#[test]
fn one_setting_without_the_other_is_refused_as_a_mistake_of_the_configuration() {
    let own = Authority::new("ours").issue();
    let files = Files::new(&own);
    let settings = files.settings();
    let [cert, key] = [&settings[0], &settings[1]].map(|(name, value)| (*name, value.as_str()));
    for (alone, words) in [
        (cert, ["`tls.cert_path`", "needs `tls.key_path`"]),
        (key, ["`tls.key_path`", "needs `tls.cert_path`"]),
        (
            ("DS_TLS__CLIENT_CA_PATH", cert.1),
            ["`tls.client_ca_path`", "needs `tls.cert_path`"],
        ),
    ] {
        let (code, said) = Server::refusal(&[alone]);
        assert_eq!(code, Some(2), "{said}");
        for word in words.iter().chain([&alone.0, &alone.1]) {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
    }
}
