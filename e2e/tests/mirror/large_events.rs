//! Events as large as the server takes them by default, and one that is larger than the mirror may read.

use ring::digest::{SHA256, digest};
use tailwater_e2e::eventually;

use crate::rig::Rig;

/// What `limits.max_body_bytes` is by default, and so the longest event that can be appended.
const EVENT_BYTES_MAX: usize = 10 << 20;

#[test]
fn events_of_ten_mebibytes_become_rows_with_the_settings_that_all_have_by_default() {
    let rig = Rig::new("file-durable");
    let json = rig.server.stream("json").create();
    let octets = "application/octet-stream";
    let bytes = rig.server.stream("bytes").of_type(octets).create();
    // A string has its quotes beside its text.
    let text = text_of(EVENT_BYTES_MAX - 2);
    let noise = noise_of(EVENT_BYTES_MAX);
    let append = || {
        json.append(format!("\"{text}\""));
        json.append("\"short\"");
        bytes.append(noise.clone());
        bytes.append("short");
    };

    append();
    append();
    let mirror = rig.mirror();
    rig.expect_mirrored("json");
    rig.expect_mirrored("bytes");
    // Also those that come when it is at the end of the stream.
    append();
    rig.expect_mirrored("json");
    rig.expect_mirrored("bytes");

    for (stream, column, expected) in [
        ("json", "convert_to(payload #>> '{}', 'UTF8')", text.as_bytes()),
        ("bytes", "payload_bytes", &noise),
    ] {
        let sums = [expected, b"short"].map(sum);
        let rows: Vec<_> = (0..6)
            .map(|index| format!("{index}|{}", sums[index % 2]))
            .collect();
        assert_eq!(
            rig.ask(&format!(
                "SELECT index, encode(sha256({column}), 'hex') FROM tailwater.events WHERE stream = '{stream}' \
                 ORDER BY index"
            )),
            rows.join("\n"),
            "{stream}"
        );
    }
    // Six characters of an answer stand for each of these: there is no longer answer.
    let controls = vec![1; EVENT_BYTES_MAX];
    let stream = rig.server.stream("controls").of_type("text/plain").create();
    stream.append(controls.clone());
    rig.expect_mirrored("controls");
    assert_eq!(
        rig.ask(
            "SELECT encode(sha256(payload_bytes), 'hex') FROM tailwater.events WHERE stream = 'controls'"
        ),
        sum(&controls)
    );

    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.dead_letters"), "0");
    let failed_reads = mirror.metric("tailwater_sync_retries_total{what=\"read\"}");
    assert_eq!(failed_reads, Some(0.0));
    let (code, said, complaints) = rig.command(&["verify"], &[]);
    assert_eq!(code, Some(0), "{said}{complaints}");
    assert!(said.contains("13 events of 3 streams compared"), "{said}");
}

#[test]
fn an_event_that_is_longer_than_may_be_read_holds_up_its_stream_alone_and_says_which_setting_to_raise() {
    let rig = Rig::new("file-durable");
    let stream = rig.server.stream("long").create();
    let text = text_of(2 << 20);
    for event in ["0", &format!("\"{text}\""), "2"] {
        stream.append(event);
    }
    let mirror = rig.mirror_with(&[("DS_SYNC__READ_BYTES_MAX", "1MiB")]);
    rig.expect(
        "SELECT next_index, last_error LIKE '%more than 1048576 bytes; raise sync.read_bytes_max%' FROM tailwater.streams",
        "1|t",
    );
    for number in 0..20 {
        let other = format!("others/{number}");
        rig.server.stream(&other).create().append("1");
        rig.expect_mirrored(&other);
    }
    assert!(mirror.metric("tailwater_sync_retries_total{what=\"read\"}") >= Some(1.0));
    eventually("it is the only one that is behind", || {
        (mirror.metric("tailwater_sync_lag_streams") == Some(1.0)).then_some(())
    });
    mirror.stop();

    // What may be read may be longer than all that is kept, and than a transaction.
    let small = [
        ("DS_SYNC__BUFFER_BYTES", "1MiB"),
        ("DS_SYNC__BATCH_BYTES", "1KiB"),
    ];
    let _mirror = rig.mirror_with(&small);
    rig.expect_mirrored("long");
    assert_eq!(
        rig.ask("SELECT index, octet_length(payload #>> '{}') FROM tailwater.events WHERE stream = 'long' ORDER BY index"),
        format!("0|1\n1|{}\n2|1", text.len())
    );
    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.dead_letters"), "0");
}

/// So many bytes that nothing makes smaller.
fn noise_of(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    fastrand::Rng::with_seed(6).fill(&mut noise);
    noise
}

/// Text of so many bytes, with letters of two, three and four bytes, that nothing makes much smaller.
fn text_of(bytes: usize) -> String {
    let mut text = "ä€😀".to_owned();
    let mut random = fastrand::Rng::with_seed(6);
    text.extend(std::iter::repeat_with(|| random.alphanumeric()).take(bytes - text.len()));
    text
}

/// As PostgreSQL writes it.
fn sum(bytes: &[u8]) -> String {
    let octets = digest(&SHA256, bytes);
    octets
        .as_ref()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}
