//! Runs and other streams that belong to one: they come to stand beside it again, with all that is known of them.

use bytes::Bytes;
use tailwater_storage::engine::{
    AppendError, AppendRequest, EngineError, Existing, ImportError, Origin, Settled,
};
use tailwater_storage::stream::{AppendRefusal, ContentKind, EncodedBody, StreamId, StreamKind};

use super::{export, import, import_all, other, said};
use crate::support::ask::{Rig, bytes, json, name, producer};
use crate::{over_all, over_shards, run};

const RUNS: [&str; 4] = ["jobs/1", "jobs/2", "jobs/3", "jobs/4"];

/// A queue behind its runs, and behind the stream for what it cannot do. The runs are leased.
async fn fill(rig: &Rig) {
    rig.create_json("queue").await;
    let names = RUNS.map(name);
    let queue = rig.engine.hold(&[name("queue")]).await.expect("readable");
    let id = id_of(rig, "queue").await;
    let beside = rig
        .engine
        .hold_beside(&names, &name("queue"), id)
        .await
        .expect("led");
    let letters = rig.engine.hold_beside(&[name("dead")], &name("queue"), id).await;
    let held = [queue, beside, letters.expect("led")].concat();
    let drafted = rig.engine.together(&held, |draft| {
        let origin = Origin::new(json());
        for (nth, run) in RUNS.iter().enumerate() {
            draft.create(nth + 1, StreamKind::Run, &origin).expect("free");
            let event = EncodedBody::new(ContentKind::Json, &Bytes::from_static(b"{}"));
            let lease = producer("lease", 1, 0);
            draft
                .append(nth + 1, event, Some(lease), false)
                .expect("there is space");
            draft.control(0, Bytes::from(format!("queue/job/{nth}")), Some((*run).into()));
            draft.control(nth + 1, Bytes::from_static(b"run"), Some("leased".into()));
        }
        draft
            .create(RUNS.len() + 1, StreamKind::Plain, &origin)
            .expect("free");
        Ok::<_, EngineError>(())
    });
    let ((), settling) = drafted.expect("queued");
    assert_eq!(settling.settled().await, Settled::Durable);
}

async fn id_of(rig: &Rig, stream: &str) -> StreamId {
    rig.look(stream).await.incarnation().id
}

#[test]
fn what_belongs_to_a_queue_stands_beside_it_again_whatever_comes_first() {
    over_all(async |rig: Rig| {
        fill(&rig).await;
        for backwards in [false, true] {
            let there = over_shards();
            // Their names lead elsewhere, and the queue comes last, or first.
            let mut sections = export(&rig, "").await;
            if backwards {
                sections.reverse();
            }
            assert_eq!(sections.len(), RUNS.len() + 2);
            import_all(&there, &sections).await;
            let queue = id_of(&there, "queue").await;
            for stream in RUNS.iter().chain(&["dead"]) {
                let id = id_of(&there, stream).await;
                assert!(there.engine.are_together(queue, id), "{stream}");
            }
            assert_eq!(said(export(&there, "").await), said(export(&rig, "").await));
        }
    });
}

#[test]
fn a_run_is_governed_elsewhere_and_its_lease_goes_on() {
    over_all(async |rig: Rig| {
        fill(&rig).await;
        let there = other();
        import_all(&there, &export(&rig, "").await).await;
        assert_eq!(there.look("jobs/1").await.incarnation().kind, StreamKind::Run);
        let request = |mark| AppendRequest {
            content_type: Some(json()),
            producer: Some(mark),
            ..bytes("1")
        };
        let job = name("jobs/1");
        let append = |mark| there.engine.append(&job, request(mark));
        let stranger = append(producer("me", 0, 0)).await;
        assert!(
            matches!(stranger, Err(AppendError::Refused(AppendRefusal::Lease(_)))),
            "{stranger:?}"
        );
        append(producer("lease", 1, 1)).await.expect("the worker goes on");
        assert_eq!(there.text("jobs/1").await, "{},1,");
    });
}

#[test]
fn a_run_replaces_no_stream_that_stands_elsewhere_than_its_queue() {
    run(async {
        let rig = other();
        fill(&rig).await;
        let there = over_shards();
        for run in RUNS {
            there.create(run).await.expect("created");
        }
        let mut kept = 0;
        let sections = export(&rig, "").await;
        let results = import(&there, &sections, Existing::Replace).await;
        for (section, result) in sections.iter().zip(results) {
            let stream = section.stream.state.name.as_str();
            match result {
                Ok(_) => {}
                Err(ImportError::Apart { beside }) => {
                    assert_eq!(beside.as_str(), "queue");
                    assert_eq!(there.look(stream).await.incarnation().kind, StreamKind::Plain);
                    kept += 1;
                }
                Err(error) => panic!("{stream}: {error}"),
            }
        }
        assert!((1..=RUNS.len()).contains(&kept), "{kept} would be elsewhere");
    });
}
