use super::*;
use proptest::prelude::*;
use serde_json::json;

fn name(text: &str) -> StreamName {
    StreamName::parse(text, NameLimits::default()).expect("a name")
}

fn position(number: u64) -> Position {
    Position::new(number).expect("a position")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn state() -> QueueState {
    QueueState {
        admitted: Frontier {
            position: position(0x20),
            messages: 3,
        },
        taken: Frontier {
            position: position(0x10),
            messages: 2,
        },
        paused: true,
        deleting: false,
        dead_letters: 300,
        retries: 1,
        counters: Counters {
            enqueued: 11,
            duplicates: 10,
            claimed: 9,
            failed: 8,
            leases_lost: 7,
            released: 6,
            succeeded: 5,
            dead: 4,
            cancelled: 3,
            expired: 2,
            timed_out: 1,
        },
    }
}

fn job(phase: JobPhase) -> OpenJob {
    OpenJob {
        end: position(0x12),
        ready_at: Timestamp::from_millis(5),
        run: name("r/1"),
        max_attempts: Some(3),
        value: Some("\"a\"".into()),
        attempt: 2,
        epoch: 3,
        started_at: Some(Timestamp::from_millis(6)),
        phase,
    }
}

fn phases() -> Vec<JobPhase> {
    let settled = |verdict| JobPhase::Waiting {
        until: Timestamp::from_millis(7),
        settled: Some(Settlement {
            epoch: 1,
            seq: 4,
            verdict,
        }),
    };
    vec![
        JobPhase::Leased {
            worker: "w".into(),
            cancel: Some(Some("no".into())),
        },
        JobPhase::Leased {
            worker: "w".into(),
            cancel: Some(None),
        },
        JobPhase::Leased {
            worker: "w".into(),
            cancel: None,
        },
        JobPhase::Waiting {
            until: Timestamp::from_millis(7),
            settled: None,
        },
        settled(Verdict::Failed),
        settled(Verdict::Released),
        JobPhase::Passed,
    ]
}

fn status() -> RunStatus {
    RunStatus {
        state: RunState::Retrying,
        attempt: 2,
        queue: name("q"),
        job: Some(position(0x10)),
    }
}

fn dead() -> StoredDead {
    StoredDead {
        run: Some(name("r/1")),
        reason: DeadReason::LeaseLost,
        attempt: 2,
        at: Timestamp::from_millis(9),
        letter: Some(position(0x10)),
    }
}

fn end() -> StoredEnd {
    StoredEnd {
        at: Timestamp::from_millis(9),
        began_at: Timestamp::from_millis(7),
    }
}

fn config() -> StoredConfig {
    let document = json!({ "concurrency": 3, "run_prefix": "r/" });
    let document = document.as_object().expect("an object");
    StoredConfig {
        config: QueueConfig::parse(document, &name("q"), NameLimits::default()).expect("a configuration"),
        created_at: Timestamp::from_millis(8),
    }
}

#[test]
fn the_bytes_are_those_that_the_format_says() {
    assert_eq!(
        hex(&encode_state(&state())),
        concat!(
            "01",
            "2000000000000000",
            "03",
            "1000000000000000",
            "02",
            "01",
            "00",
            "ac02",
            "01",
            "0b0a090807060504030201",
        )
    );
    assert_eq!(
        hex(&encode_job(&job(phases().swap_remove(0)))),
        concat!(
            "01",
            "1200000000000000",
            "0500000000000000",
            "03722f31",
            "0103",
            "0103226122",
            "02",
            "03",
            "010600000000000000",
            "01",
            "0177",
            "0101026e6f",
        )
    );
    assert_eq!(
        hex(&encode_status(&status())),
        "01020201710110".to_owned() + "00000000000000"
    );
    assert_eq!(
        hex(&encode_dead(&dead())),
        "010103722f310202".to_owned() + "0900000000000000" + "011000000000000000"
    );
    assert_eq!(
        hex(&encode_end(end())),
        "01".to_owned() + "0900000000000000" + "0700000000000000"
    );
    assert_eq!(hex(&encode_number(300)), "01ac02");
    assert_eq!(&job_key(position(0x10))[..], b"queue/job/0000000000000016");
    assert_eq!(&dead_key(position(0x10))[..], b"queue/dead/0000000000000016");
    assert_eq!(&retry_key(&name("r/1.2"))[..], b"queue/retry/r/1.2");
    let ended = ended_key(&name("r/1"), Timestamp::from_millis(3 << 14));
    assert_eq!(&ended[..], b"ended/0000000000000003/r/1");
}

#[test]
fn what_was_written_is_read_back() {
    assert_eq!(decode_state(&encode_state(&state())), Ok(state()));
    for phase in phases() {
        let job = job(phase);
        assert_eq!(decode_job(&encode_job(&job)), Ok(job));
    }
    assert_eq!(decode_status(&encode_status(&status())), Ok(status()));
    assert_eq!(decode_dead(&encode_dead(&dead())), Ok(dead()));
    assert_eq!(decode_end(&encode_end(end())), Ok(end()));
    assert_eq!(decode_config(&encode_config(&config()), &name("q")), Ok(config()));
    assert_eq!(stream_of(b"queue/retry/r/1.2", RETRY_PREFIX), Ok(name("r/1.2")));
    assert_eq!(
        job_of(b"queue/job/0000000000000016", JOB_PREFIX),
        Ok(position(16))
    );
}

#[test]
fn frontiers_that_have_passed_each_other_are_refused() {
    let state = QueueState {
        admitted: Frontier::default(),
        ..state()
    };
    assert!(decode_state(&encode_state(&state)).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for key in [CONFIG_KEY, STATE_KEY, RUN_KEY, ENDED_FROM_KEY, b"queue/job/0000000000000016",
                    b"queue/dead/0000000000000016", b"queue/retry/x", b"ended/x", b"other"] {
            let _ = check_stored(&name("q"), key, &bytes);
        }
        let _ = check_stored(&name("q"), &bytes, &[]);
    }

    #[test]
    fn what_is_cut_short_is_refused(kept in 0..100_usize) {
        let jobs = phases().into_iter().map(|phase| ("queue/job/0000000000000016", encode_job(&job(phase))));
        let others = [
            ("queue/config", encode_config(&config())),
            ("queue/state", encode_state(&state())),
            ("queue/dead/0000000000000016", encode_dead(&dead())),
            ("queue/retry/r/1.2", encode_number(300)),
            ("ended/x", encode_end(end())),
            ("run", encode_status(&status())),
        ];
        for (key, whole) in jobs.chain(others) {
            prop_assert!(check_stored(&name("q"), key.as_bytes(), &whole).is_ok());
            let cut = &whole[..kept.min(whole.len() - 1)];
            prop_assert!(check_stored(&name("q"), key.as_bytes(), cut).is_err());
        }
    }
}
