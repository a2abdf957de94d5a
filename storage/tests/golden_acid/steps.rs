//! What the golden store has, step by step: rows in every table of a shard.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::Backend;
use tailwater_storage::acid::AcidStore;
use tailwater_storage::engine::{AppendRequest, EngineError, Origin, Settled};
use tailwater_storage::stream::{
    ContentKind, ControlChange, EncodedBody, LEASE_PRODUCER, Part, Record, StreamKind, StreamState,
};

use crate::support::ask::{Rig, at, bytes, json, name, producer, run};

/// In two pieces.
const LONG_BYTES: usize = 66_000;
/// Too long for the row of its stream.
const PAGE_BYTES: usize = 1_500;

fn state(store: &AcidStore, stream: &str) -> StreamState {
    let state = store.load(&name(stream)).expect("readable");
    state.unwrap_or_else(|| panic!("{stream} is not there"))
}

fn control(store: &AcidStore, stream: &str, key: &'static [u8], value: Option<&'static [u8]>) {
    let stream = state(store, stream).id;
    let change = ControlChange {
        stream,
        key: Bytes::from_static(key),
        value: value.map(Bytes::from_static),
    };
    let record = Record {
        parts: [Part::Control(change)].into_iter().collect(),
    };
    let partition = store.partition_of(stream);
    store.commit(partition, &[record]).expect("there is space");
}

/// Writes every kind of row there is.
pub(crate) fn write(store: &Arc<AcidStore>) {
    run(async {
        let rig = Rig::over(Arc::clone(store) as Arc<dyn Backend>);
        rig.create_json("runs/1").await;
        for (seq, body) in [r#"[{"n":1},{"n":22}]"#, r#"[{"n":4},{"n":5}]"#]
            .iter()
            .enumerate()
        {
            let request = AppendRequest {
                content_type: Some(json()),
                producer: Some(producer("worker-7", 3, seq as u64)),
                stream_seq: Some(format!("b-{seq}").into()),
                ..bytes(body)
            };
            rig.engine
                .append(&name("runs/1"), request)
                .await
                .expect("appended");
            rig.clock.advance_millis(7);
        }
        rig.fork("again/1", "runs/1").await.expect("forked");
        rig.append_json("again/1", r#"[{"n":3}]"#).await;
        rig.create_living("notes", 1 << 30).await;
        for note in ["first note", "second note"] {
            rig.append("notes", note).await.expect("appended");
        }
        rig.trim("notes", 10).await;
        rig.create("long").await.expect("created");
        rig.append("long", &"x".repeat(LONG_BYTES))
            .await
            .expect("appended");
        rig.create("pages").await.expect("created");
        for page in ["y".repeat(PAGE_BYTES), "z".to_owned()] {
            rig.append("pages", &page).await.expect("appended");
        }
        rig.create("closed").await.expect("created");
        rig.append("closed", "the last word").await.expect("appended");
        rig.close("closed").await.expect("closed");
        rig.create("deleted").await.expect("created");
        rig.append("deleted", "inherited").await.expect("appended");
        rig.fork("heir", "deleted").await.expect("forked");
        rig.delete("deleted").await;
        begin_runs(&rig).await;
        let Rig { engine, .. } = rig;
        engine.stop();
    });
    control(store, "runs/1", b"lease", Some(b"worker-7"));
    control(store, "runs/1", b"cursor", Some(b"12"));
    control(store, "runs/1", b"cursor", None);
}

/// Two runs of a queue, in one record with its key. One of them has ended.
async fn begin_runs(rig: &Rig) {
    rig.create_json("jobs").await;
    let queue = rig.engine.hold(&[name("jobs")]).await.expect("readable");
    let id = rig.look("jobs").await.incarnation().id;
    rig.engine.lead_below("runs/jobs/", id).await.expect("led");
    let runs = [name("runs/jobs/1"), name("runs/jobs/2")];
    let runs = rig
        .engine
        .hold_beside(&runs, &name("jobs"), id)
        .await
        .expect("led");
    let held = [queue, runs].concat();
    let origin = Origin::new(json());
    let drafted = rig.engine.together(&held, |draft| {
        draft.control(
            0,
            Bytes::from_static(b"notes/config"),
            Some(Bytes::from_static(b"{}")),
        );
        for (run, ends) in [(1, true), (2, false)] {
            draft
                .create(run, StreamKind::Run, &origin)
                .expect("the name is free");
            let event = EncodedBody::new(
                ContentKind::Json,
                &Bytes::from_static(b"{\"type\":\"run.queued\"}"),
            );
            let lease = producer(LEASE_PRODUCER, 0, 0);
            draft
                .append(run, event, Some(lease), ends)
                .expect("there is space");
        }
        Ok::<_, EngineError>(())
    });
    let ((), settling) = drafted.expect("queued");
    assert_eq!(settling.settled().await, Settled::Durable);
}

/// Reads all of it.
pub(crate) fn check(store: &Arc<AcidStore>) {
    let run_1 = state(store, "runs/1");
    assert_eq!(run_1.messages, 4);
    assert_eq!(run_1.stream_seq.as_deref(), Some("b-1"));
    let worker = producer("worker-7", 3, 1);
    let known = run_1.producers.get(&worker.id).expect("it is remembered");
    assert_eq!(
        (known.epoch, known.seq, known.end),
        (worker.epoch, worker.seq, run_1.tail)
    );
    let again = state(store, "again/1");
    assert_eq!(again.source.as_ref().map(|source| source.id), Some(run_1.id));
    assert_eq!(store.partition_of(again.id), store.partition_of(run_1.id));
    let controls = store.controls(run_1.id, b"").expect("readable");
    assert_eq!(controls, [("lease".into(), "worker-7".into())]);
    let notes = state(store, "notes");
    assert_eq!((notes.oldest, notes.tail), (at(10), at(21)));
    assert!(state(store, "closed").closed);
    let queue = state(store, "jobs");
    assert_eq!((queue.kind, queue.beside), (StreamKind::Plain, None));
    assert_eq!(
        store.controls(queue.id, b"").expect("readable"),
        [("notes/config".into(), "{}".into())]
    );
    for (run, has_ended) in [("runs/jobs/1", true), ("runs/jobs/2", false)] {
        let run = state(store, run);
        assert_eq!(run.beside, Some(name("jobs")));
        assert_eq!((run.is_open_run(), run.closed), (!has_ended, has_ended));
        assert_eq!(store.partition_of(run.id), store.partition_of(queue.id));
    }
    let deleted = state(store, "deleted");
    assert!(deleted.deleted);
    assert_eq!(store.deleted().expect("readable"), [deleted.id]);
    run(async {
        let rig = Rig::over(Arc::clone(store) as Arc<dyn Backend>);
        let long = "x".repeat(LONG_BYTES);
        let pages = "y".repeat(PAGE_BYTES) + "z";
        for (stream, text) in [
            ("runs/1", r#"{"n":1},{"n":22},{"n":4},{"n":5},"#),
            ("again/1", r#"{"n":1},{"n":22},{"n":4},{"n":5},{"n":3},"#),
            ("notes", "second note"),
            ("long", &long),
            ("pages", &pages),
            ("closed", "the last word"),
            ("heir", "inherited"),
            ("runs/jobs/2", r#"{"type":"run.queued"},"#),
        ] {
            assert_eq!(rig.text(stream).await, text, "{stream}");
        }
        let Rig { engine, .. } = rig;
        engine.stop();
    });
}
