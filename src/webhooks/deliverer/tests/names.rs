//! Names that lead where no webhook may go, at once or later.

use std::time::Duration;

use tailwater_storage::subscriptions::deliver::Deliver as _;
use tokio::time::Instant;

use super::{deliver, failure};
use crate::webhooks::scene::{Found, LOCAL_URL, Line, Scene, deliverer, delivery, leads_to};

const URL: &str = "https://hooks.example.com/";

#[tokio::test(start_paused = true)]
async fn a_name_that_leads_to_no_public_address_is_not_connected_to() {
    for address in [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "0.0.0.0",
        "224.0.0.1",
        "203.0.113.1",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:a00:1::1",
    ] {
        let scene = Scene::with(Line::Refused, &[leads_to(&[address, address])]);
        let error = failure(deliver(&deliverer(&scene, &[]), URL).await).expect("a failure");
        assert_eq!(
            error, "`hooks.example.com` leads to no public address, and webhooks go to no other ones",
            "{address}: nothing of where it leads"
        );
        assert!(scene.dialled().is_empty(), "{address}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_addresses_only_public_ones_are_tried() {
    let found = leads_to(&["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1", "127.0.0.1"]);
    let scene = Scene::with(Line::Refused, &[found]);
    let error = failure(deliver(&deliverer(&scene, &[]), "https://hooks.example.com:444/").await);
    let error = error.expect("a failure");
    assert!(
        error.starts_with("no connection to `hooks.example.com`: "),
        "{error}"
    );
    assert_eq!(scene.dialled(), ["1.1.1.1:444", "[2606:4700::1]:444"]);
}

/// The name leads to a public address when it is judged, and to this machine when it is looked up again (DNS rebinding).
#[tokio::test(start_paused = true)]
async fn a_name_that_changes_between_check_and_connection_gains_nothing() {
    let answers = [leads_to(&["1.1.1.1"]), leads_to(&["127.0.0.1"])];
    let scene = Scene::with(Line::Refused, &answers);
    let deliverer = deliverer(&scene, &[]);
    let first = failure(deliver(&deliverer, URL).await).expect("a failure");
    assert!(
        first.starts_with("no connection to `hooks.example.com`: "),
        "{first}"
    );
    assert_eq!(
        *scene.looked_up.lock().expect("unpoisoned"),
        ["hooks.example.com"],
        "one look-up for a delivery"
    );
    assert_eq!(scene.dialled(), ["1.1.1.1:443"]);
    let second = failure(deliver(&deliverer, URL).await).expect("a failure");
    assert!(second.contains("leads to no public address"), "{second}");
    assert_eq!(scene.dialled().len(), 1, "and each delivery judges for itself");
}

#[tokio::test(start_paused = true)]
async fn this_machine_and_addresses_are_not_looked_up() {
    let scene = Scene::with(Line::Refused, &[]);
    let deliverer = deliverer(&scene, &[]);
    for (url, dialled) in [
        ("http://localhost:7/", vec!["127.0.0.1:7", "[::1]:7"]),
        ("https://1.1.1.1/", vec!["1.1.1.1:443"]),
    ] {
        scene.dialled.lock().expect("unpoisoned").clear();
        assert!(failure(deliver(&deliverer, url).await).is_some());
        assert_eq!(scene.dialled(), dialled, "{url}");
    }
    assert!(scene.looked_up.lock().expect("unpoisoned").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_url_is_judged_by_what_is_configured_when_it_is_sent() {
    let scene = Scene::with(Line::Refused, &[leads_to(&["1.1.1.1"])]);
    let settings = [("allow_http_localhost", "false"), ("allowed_hosts", "a.example")];
    let strict = deliverer(&scene, &settings);
    for url in [LOCAL_URL, URL, "https://10.0.0.1/", "nonsense"] {
        let error = failure(strict.deliver(delivery("sub-1", url)).await).expect("a failure");
        assert!(error.starts_with("webhook.url is refused: "), "{url}: {error}");
    }
    assert!(scene.dialled().is_empty() && scene.looked_up.lock().expect("unpoisoned").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_cannot_be_looked_up_is_a_failure_in_bounded_time() {
    for (found, said, took_secs) in [
        (
            Found::Failure,
            "`hooks.example.com` cannot be looked up: no such name",
            0,
        ),
        (leads_to(&[]), "`hooks.example.com` leads to no address", 0),
        (
            Found::Nothing,
            "no connection to `hooks.example.com` within 5000 ms",
            5,
        ),
    ] {
        let scene = Scene::with(Line::Refused, &[found]);
        let begun = Instant::now();
        let error = failure(deliver(&deliverer(&scene, &[]), URL).await);
        assert_eq!(error.as_deref(), Some(said));
        assert_eq!(begun.elapsed(), Duration::from_secs(took_secs), "{said}");
    }
}
