//! Certificates of clients: with `tls.client_ca_path` nobody is served without one of the right authority.

use tailwater_e2e::{Connection, Request, Server, eventually};

use super::certificates::{Authority, CLIENT_CA, Client, Files, Issued, NEWER, OLDER, metric};

/// Whether a client is served if it shows another certificate, or none. In TLS 1.3 the client's handshake is over
/// before the server has looked at its certificate, so it is the answer that counts.
fn is_served(server: &Server, client: Client<'_>, identity: Option<&Issued>) -> bool {
    let client = Client { identity, ..client };
    let answered = Connection::try_open_tls(server.address(), &client.config());
    let answered = answered.and_then(|mut connection| {
        connection.write(&Request::new("GET", "/healthz").encode())?;
        connection.read_response("GET")
    });
    matches!(answered, Ok(Some(answer)) if answer.status() == 200)
}

#[test]
fn only_a_certificate_of_the_right_authority_lets_a_client_in() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (right, wrong) = (theirs.issue(), ours.issue());
    let old = theirs.issue_between(2010, 2011);
    let files = Files::new(&ours.issue());
    files.write(CLIENT_CA, &theirs.pem());
    let client = Client {
        identity: Some(&right),
        ..Client::new(&ours)
    };
    for versions in [OLDER, NEWER] {
        let client = Client { versions, ..client };
        let server = files.serve(&client, &[]);
        let stream = server.stream("for-those-who-may").create();
        stream.append("1");
        assert_eq!(stream.messages(), [1]);
        assert!(is_served(&server, client, Some(&right)));
        assert!(!is_served(&server, client, None), "no certificate");
        assert!(!is_served(&server, client, Some(&wrong)), "another authority's");
        assert!(!is_served(&server, client, Some(&old)), "one that has expired");
        eventually("the three are counted", || {
            (metric(&server, "tailwater_tls_handshake_failures_total") == 3).then_some(())
        });
        server.stop();
    }
}

/// An authority that is taken out of the file must not go on to let in those who have been there before.
#[test]
fn another_authority_in_the_file_lets_other_clients_in_and_remembers_none() {
    let (ours, before, after) = (
        Authority::new("ours"),
        Authority::new("before"),
        Authority::new("after"),
    );
    let (old, new) = (before.issue(), after.issue());
    let files = Files::new(&ours.issue());
    files.write(CLIENT_CA, &before.pem());
    let client = Client {
        identity: Some(&old),
        ..Client::new(&ours)
    };
    // All connections of this server's client share one memory of sessions that could be resumed.
    let server = files.serve(&client, &[]);
    server.get("/healthz").expect(200);
    let mut open = server.connect();
    assert!(!is_served(&server, client, Some(&new)));

    files.write(CLIENT_CA, &after.pem());
    server.hang_up();
    eventually("the other authority counts", || {
        is_served(&server, client, Some(&new)).then_some(())
    });
    let resumed = server.try_connect().and_then(|mut connection| {
        connection.write(&Request::new("GET", "/healthz").encode())?;
        connection.read_response("GET")
    });
    assert!(!matches!(resumed, Ok(Some(_))), "{resumed:?}");
    open.send(&Request::new("GET", "/healthz")).expect(200);
}
