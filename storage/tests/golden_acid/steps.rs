//! What the golden store has, step by step: rows in every table of a shard.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::Backend;
use tailwater_storage::acid::AcidStore;
use tailwater_storage::engine::AppendRequest;
use tailwater_storage::stream::{ControlChange, Part, Record, StreamState};

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
        let Rig { engine, .. } = rig;
        engine.stop();
    });
    control(store, "runs/1", b"lease", Some(b"worker-7"));
    control(store, "runs/1", b"cursor", Some(b"12"));
    control(store, "runs/1", b"cursor", None);
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
        ] {
            assert_eq!(rig.text(stream).await, text, "{stream}");
        }
        let Rig { engine, .. } = rig;
        engine.stop();
    });
}
