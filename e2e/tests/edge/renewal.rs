//! The certificate that clients see is renewed while the edge runs, under load, and by files that cannot be used.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::ClientConfig;
use tailwater_e2e::authority::Client;
use tailwater_e2e::edge::Caller;
use tailwater_e2e::{Edge, eventually};

use super::scene::{Scene, put};

/// How a renewed certificate is put in place of the one before.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Renewal {
    /// Both files are moved over the ones before.
    Moves,
    /// Both files are links through one directory, itself a link that is moved, as Kubernetes mounts secrets.
    Link,
}

#[test]
fn a_certificate_is_renewed_under_load_and_nothing_is_lost() {
    for renewal in [Renewal::Moves, Renewal::Link] {
        renew_under_load(renewal);
    }
}

fn renew_under_load(renewal: Renewal) {
    let scene = Scene::new(&[]);
    let (first, second) = (scene.authority.issue(), scene.authority.issue());
    let place = scene.configuration.directory().join("certificate");
    scene.put_certificate(&first);
    if renewal == Renewal::Link {
        for name in ["tls.crt", "tls.key"] {
            std::fs::create_dir_all(place.join("first")).expect("it can be made");
            std::fs::rename(place.join(name), place.join("first").join(name)).expect("it can be moved");
            std::os::unix::fs::symlink(Path::new("current").join(name), place.join(name)).expect("a link");
        }
        std::os::unix::fs::symlink("first", place.join("current")).expect("a link");
    }
    let (edge, production) = scene.start();
    let caller = edge.caller(&production.token());
    let client = Client::new(&production.authority).config();
    assert_eq!(shown(&edge, &client), first.der);
    caller.create("runs/1");
    let mut events = caller.follow("runs/1", "-1");

    let done = AtomicBool::new(false);
    let appended = std::thread::scope(|scope| {
        // Writers end also when the test fails: else it would wait for them for ever.
        let stop = StopWriters(&done);
        let writers: Vec<_> = (0..4)
            .map(|each| {
                let (edge, caller, done) = (&edge, &caller, &done);
                scope.spawn(move || write_until(edge, caller, each % 2 == 0, done))
            })
            .collect();
        match renewal {
            Renewal::Moves => {
                move_into(&place, "tls.crt.new", &second.pem, "tls.crt");
                move_into(&place, "tls.key.new", &second.key_pem, "tls.key");
            }
            Renewal::Link => {
                std::fs::create_dir(place.join("second")).expect("it is not there");
                put(&place, "second/tls.crt", &second.pem);
                put(&place, "second/tls.key", &second.key_pem);
                std::os::unix::fs::symlink("second", place.join("next")).expect("a link");
                std::fs::rename(place.join("next"), place.join("current")).expect("it can be moved");
            }
        }
        eventually("new connections see the new certificate", || {
            (shown(&edge, &client) == second.der).then_some(())
        });
        drop(stop);
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"))
            .sum::<usize>()
    });
    let closing = caller.request("POST", "runs/1").header("Stream-Closed", "true");
    edge.send(&closing).expect(204);
    assert_eq!(events.messages_to_close().len(), appended, "{renewal:?}");
    production.server.stop();
}

/// Lets the writers end, also when the test fails.
struct StopWriters<'a>(&'a AtomicBool);

impl Drop for StopWriters<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Appends until it is told to stop, on one connection or on a new one for each, and says how often.
fn write_until(edge: &Edge, caller: &Caller<'_>, keeps_connection: bool, done: &AtomicBool) -> usize {
    let mut connection = edge.connect();
    let mut appended = 0;
    while !done.load(Ordering::Relaxed) || appended == 0 {
        if !keeps_connection {
            connection = edge.connect();
        }
        connection
            .send(&caller.request("POST", "runs/1").body("1"))
            .expect(204);
        appended += 1;
    }
    appended
}

/// The certificate that a new connection sees.
fn shown(edge: &Edge, client: &Arc<ClientConfig>) -> rustls::pki_types::CertificateDer<'static> {
    let connection = edge.try_connect_as(client).expect("a connection");
    let shown = connection.tls().and_then(|tls| tls.peer_certificates());
    shown.expect("the edge's certificate")[0].clone().into_owned()
}

/// Writes a file and moves it to its place.
fn move_into(directory: &Path, beside: &str, text: &str, name: &str) {
    put(directory, beside, text);
    std::fs::rename(directory.join(beside), directory.join(name)).expect("it can be moved");
}

/// Files that cannot be used are told of, and the ones before stay in use.
#[test]
fn files_that_are_no_certificate_change_nothing() {
    let scene = Scene::new(&[]);
    let (first, second) = (scene.authority.issue(), scene.authority.issue());
    scene.put_certificate(&first);
    let place = scene.configuration.directory().join("certificate");
    let (edge, production) = scene.start();
    let client = Client::new(&production.authority).config();
    let wrong = [
        ("tls.crt", "nonsense"),
        ("tls.key", second.key_pem.as_str()),
        ("tls.crt", ""),
    ];
    for (number, (name, text)) in wrong.into_iter().enumerate() {
        move_into(&place, "new", text, name);
        eventually("it is told of", || {
            let told = edge
                .envoy()
                .output()
                .matches("Failed to reload certificates")
                .count();
            (told > number).then_some(())
        });
        assert_eq!(shown(&edge, &client), first.der, "{name}");
    }
    move_into(&place, "new", &second.pem, "tls.crt");
    eventually("good ones are used", || {
        (shown(&edge, &client) == second.der).then_some(())
    });
    production.server.stop();
}
