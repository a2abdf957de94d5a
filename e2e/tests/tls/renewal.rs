//! Certificates that change while the server runs: new connections see the new one, open ones go on.

use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::CertificateDer;
use tailwater_e2e::{Server, eventually};

use super::certificates::{Authority, CERT, Client, Files, KEY, metric};

const USED: &str = "tailwater_tls_reloads_total{result=\"used\"}";
const FAILED: &str = "tailwater_tls_reloads_total{result=\"failed\"}";
const EXPIRES: &str = "tailwater_tls_certificate_expires_seconds";
/// The first moments of the years 2990 and 2999, in seconds since 1970.
const YEAR_2990: u64 = 32_188_147_200;
const YEAR_2999: u64 = 32_472_144_000;

/// What the server shows to a new connection.
fn shown(server: &Server) -> CertificateDer<'static> {
    let connection = server.connect();
    let shown = connection.tls().and_then(|tls| tls.peer_certificates());
    shown.expect("the server's certificate")[0].clone().into_owned()
}

/// The kinds of renewal: files that are only written, and files that are written and told of.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    Nothing,
    Hangup,
}

/// Lets the writers end, also when the test fails: else it would wait for them for ever.
struct StopWriters<'a>(&'a AtomicBool);

impl Drop for StopWriters<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_renewed_certificate_is_seen_by_new_connections_while_open_ones_go_on() {
    for told in [Told::Hangup, Told::Nothing] {
        renew_under_load(told);
    }
}

fn renew_under_load(told: Told) {
    let authority = Authority::new("ours");
    let (first, second) = (authority.issue(), authority.issue_between(2021, 2990));
    let files = Files::new(&first);
    let server = files.serve(&Client::new(&authority), &[]);
    assert_eq!(shown(&server), first.der);
    assert_eq!(metric(&server, EXPIRES), YEAR_2999);
    let stream = server.stream("long").create();
    let mut follower = stream.follow("-1");
    let done = AtomicBool::new(false);

    let appended = std::thread::scope(|scope| {
        // Each writer keeps the connection that it has, so one that is dropped fails the test.
        let stop = StopWriters(&done);
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (stream, done) = (&stream, &done);
                scope.spawn(move || {
                    let mut connection = stream.connect();
                    let mut appended = 0;
                    while !done.load(Ordering::Relaxed) || appended == 0 {
                        connection.send(&stream.appending("1")).expect(204);
                        appended += 1;
                    }
                    appended
                })
            })
            .collect();
        files.put(&second);
        if told == Told::Hangup {
            server.hang_up();
        }
        eventually("new connections see the new certificate", || {
            (shown(&server) == second.der).then_some(())
        });
        drop(stop);
        let appended = writers.into_iter().map(|writer| writer.join().expect("a writer"));
        appended.sum::<usize>()
    });
    stream.close();
    assert_eq!(follower.messages_to_close().len(), appended);
    assert!(follower.next_event().is_none() && follower.ended_cleanly());
    assert_eq!(metric(&server, EXPIRES), YEAR_2990);
    assert!(metric(&server, USED) > 0);
    server.stop();
}

#[test]
fn new_files_that_cannot_be_used_change_nothing_and_are_named_and_counted() {
    let authority = Authority::new("ours");
    let (first, second) = (authority.issue(), authority.issue());
    let files = Files::new(&first);
    let server = files.serve(&Client::new(&authority), &[]);
    let path = |name| files.path(name).display().to_string();
    let mut failures = 0_usize;
    let mut fails = |what: &str, words: &[&str]| {
        failures += 1;
        let line = eventually(what, || {
            let said = server.stderr();
            let mut lines = said
                .lines()
                .filter(|line| line.contains("the ones before stay in use"));
            lines.nth(failures - 1).map(str::to_owned)
        });
        assert_eq!(metric(&server, FAILED), failures as u64, "{what}");
        assert_eq!(shown(&server), first.der, "{what}");
        for word in words {
            assert!(line.contains(word), "{word} is not in: {line}");
        }
    };

    files.write(CERT, "nothing");
    fails("no PEM", &["ERROR", &path(CERT), "has no certificate in PEM"]);
    files.write(CERT, &second.pem);
    fails(
        "another key",
        &[
            &path(KEY),
            "is not the private key of the certificate",
            &path(CERT),
        ],
    );
    std::fs::remove_file(files.path(KEY)).expect("it is there");
    fails("no file", &[&path(KEY), "No such file"]);
    files.write(CERT, &authority.issue_between(2010, 2011).pem);
    fails("expired", &[&path(CERT), "expired at 2011-01-01T00:00:00Z"]);
    server.hang_up();
    fails("asked again", &[&path(CERT), "expired at 2011-01-01T00:00:00Z"]);

    files.put(&second);
    eventually("files that are right again are used", || {
        (shown(&server) == second.der).then_some(())
    });
    assert_eq!(
        (metric(&server, USED), metric(&server, FAILED)),
        (1, failures as u64)
    );
    server.stop();
}

/// An orchestrator renews by switching a link to a directory with other files.
#[test]
fn files_that_are_switched_by_a_link_are_read_again() {
    let authority = Authority::new("ours");
    let (first, second) = (authority.issue(), authority.issue());
    let (old, new) = (Files::new(&first), Files::new(&second));
    let place = tempfile::tempdir().expect("a temporary directory");
    let (link, other) = (place.path().join("current"), place.path().join("next"));
    std::os::unix::fs::symlink(old.path(""), &link).expect("a link");
    std::os::unix::fs::symlink(new.path(""), &other).expect("a link");
    let path = |name| link.join(name).display().to_string();
    let settings = [("DS_TLS__CERT_PATH", path(CERT)), ("DS_TLS__KEY_PATH", path(KEY))];
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let server = Server::start_with(&settings).by_tls(&Client::new(&authority).config());
    assert_eq!(shown(&server), first.der);
    std::fs::rename(&other, &link).expect("it can be switched");
    eventually("the other files are used", || {
        (shown(&server) == second.der).then_some(())
    });
    server.stop();
}
