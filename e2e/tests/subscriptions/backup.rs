//! A backup has subscriptions as they were at one moment: a restored server goes on where they stood, and knows their tokens.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tailwater_e2e::{Server, eventually, server};

use super::client::{pull, send, send_with};

fn start(mode: &str, dir: &Path) -> Server {
    let dir = dir.to_str().expect("a plain path");
    Server::start_with(&[("DS_STORAGE__MODE", mode), ("DS_STORAGE__DATA_DIR", dir)])
}

fn first_stream(server: &Server) -> Value {
    let shown = send(server, "GET", "subscriptions/s", &Value::Null)
        .expect(200)
        .json();
    shown["streams"][0].clone()
}

#[test]
fn a_restored_server_goes_on_with_the_subscriptions_of_the_backup() {
    for mode in ["file-durable", "acid"] {
        let above = tempfile::tempdir().expect("a directory");
        let (dir, copy) = (above.path().join("streams"), above.path().join("copy"));
        let original = start(mode, &dir);
        original.stream("wakes").of_type("application/json").create();
        let jobs = original.stream("jobs/a").create();
        let mut config = pull("jobs/*");
        config["lease_ttl_ms"] = json!(600_000);
        send(&original, "PUT", "subscriptions/s", &config).expect(201);
        jobs.append(json!({ "n": 1 }).to_string());
        let worker = json!({ "worker": "w" });
        let claimed = eventually("it may be claimed", || {
            let claimed = send(&original, "POST", "subscriptions/s/claim", &worker);
            (claimed.status() == 200).then(|| claimed.json())
        });
        let token = claimed["token"].as_str().expect("a token");
        let tail = claimed["streams"][0]["tail_offset"].clone();
        let ack = |done: bool| {
            json!({
                "wake_id": claimed["wake_id"], "generation": claimed["generation"], "done": done,
                "acks": [{ "stream": "jobs/a", "offset": tail }],
            })
        };
        send_with(&original, token, "subscriptions/s/ack", &ack(false)).expect(200);
        jobs.append(json!({ "n": 2 }).to_string());
        let before = first_stream(&original);
        assert_eq!(before["acked_offset"], tail);
        let backup = Command::new(server::binary())
            .args(["backup", "--data-dir"])
            .arg(&dir)
            .arg("--to")
            .arg(&copy)
            .output()
            .expect("the binary starts");
        assert!(backup.status.success(), "{backup:?}");
        // What comes behind the backup is not in it.
        send(&original, "DELETE", "subscriptions/s", &Value::Null).expect(204);
        original.stop();

        let restored = start(mode, &copy);
        assert_eq!(first_stream(&restored), before, "{mode}");
        // Its holder goes on, with the token of before; then what is left is claimed by another one.
        send_with(&restored, token, "subscriptions/s/ack", &ack(true)).expect(200);
        let left = eventually("what is left may be claimed", || {
            let claimed = send(
                &restored,
                "POST",
                "subscriptions/s/claim",
                &json!({ "worker": "v" }),
            );
            (claimed.status() == 200).then(|| claimed.json())
        });
        assert_ne!(left["generation"], claimed["generation"]);
        assert_eq!(left["streams"][0]["acked_offset"], tail);
        assert_ne!(left["streams"][0]["tail_offset"], tail);
        restored.stop();
    }
}
