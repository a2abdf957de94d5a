//! Runs: begun and ended by the server beside their queue, and open to clients as far as their lease allows.

use bytes::Bytes;
use tailwater_storage::EngineLimits;
use tailwater_storage::engine::{
    AppendError, AppendRequest, CreateError, EngineError, Held, NameTaken, Origin, Settled,
};
use tailwater_storage::stream::{AppendRefusal, ContentKind, EncodedBody, ForkRequest, StreamKind};

use super::{append, draft, hold, id_of, queue_and, set, text};
use crate::support::ask::{Rig, at, bytes, json, name, producer};
use crate::{behind_a_gate, over_all, over_each};

#[test]
fn the_name_of_a_deleted_stream_is_free_once_no_fork_holds_it() {
    over_all(async |rig: Rig| {
        let held = queue_and(&rig, &["a run"]).await;
        let begin = |held: &[Held]| {
            let drafted = rig.engine.together(held, |draft| {
                let begun = draft.create(1, StreamKind::Run, &Origin::new(json()));
                Ok::<_, EngineError>(begun)
            });
            drafted.expect("the storage works")
        };
        let (begun, settling) = begin(&held);
        begun.expect("free");
        assert_eq!(settling.settled().await, Settled::Durable);
        rig.fork("a fork", "a run").await.expect("forked");
        let settling = draft(&rig, &held, |draft| draft.delete(1));
        assert_eq!(settling.settled().await, Settled::Durable);
        let held = queue_again(&rig, "a run").await;
        assert_eq!(begin(&held).0, Err(NameTaken::Deleted));
        rig.delete("a fork").await;
        let held = queue_again(&rig, "a run").await;
        let (begun, settling) = begin(&held);
        begun.expect("free");
        assert_eq!(settling.settled().await, Settled::Durable);
        assert_eq!(rig.text("a run").await, "");
    });
}

async fn queue_again(rig: &Rig, stream: &str) -> Vec<Held> {
    let mut held = hold(rig, &["a queue"]).await;
    let id = id_of(rig, "a queue").await;
    let more = rig
        .engine
        .hold_beside(&[name(stream)], &name("a queue"), id)
        .await;
    held.extend(more.expect("led"));
    held
}

#[test]
fn a_run_is_forked_as_another_run_in_one_record() {
    over_all(async |rig: Rig| {
        let held = queue_and(&rig, &["a run", "a run.2"]).await;
        let settling = draft(&rig, &held[..2], |draft| {
            draft
                .create(1, StreamKind::Run, &Origin::new(json()))
                .expect("free");
            let event = EncodedBody::new(ContentKind::Json, &Bytes::from_static(b"[1,2]"));
            draft
                .append(1, event, Some(producer("lease", 0, 0)), true)
                .expect("accepted");
        });
        assert_eq!(settling.settled().await, Settled::Durable);
        let point = rig.look("a run").await.incarnation().token(at(2));
        let request = ForkRequest {
            source: name("a run"),
            offset: Some(point),
            sub_offset: 0,
        };
        let origin = rig.engine.origin_of_fork(request).await.expect("it is there");
        // It is held by the origin alone until the record is queued.
        rig.delete("a run").await;
        let settling = draft(&rig, &held, |draft| {
            draft.create(2, StreamKind::Run, &origin).expect("free");
            let event = EncodedBody::new(ContentKind::Json, &Bytes::from_static(b"3"));
            draft
                .append(2, event, Some(producer("lease", 0, 0)), false)
                .expect("accepted");
            set(draft, 0, "retry", Some("a run.2"));
        });
        drop(origin);
        assert_eq!(settling.settled().await, Settled::Durable);
        assert_eq!(rig.text("a run.2").await, "1,3,");
        let again = rig.look("a run.2").await;
        assert_eq!(again.incarnation().kind, StreamKind::Run);
        assert_eq!(
            again
                .incarnation()
                .source
                .as_ref()
                .map(|source| source.name.clone()),
            Some(name("a run"))
        );
    });
}

/// It is deleted by then, and whoever began the fork holds it no more.
#[test]
fn the_source_of_a_forked_run_is_held_while_the_record_is_on_its_way() {
    behind_a_gate(async |rig: Rig, gate| {
        let held = queue_and(&rig, &["a run", "a run.2"]).await;
        let event = EncodedBody::new(ContentKind::Json, &Bytes::from_static(b"1"));
        let settling = draft(&rig, &held, |draft| {
            draft
                .create(1, StreamKind::Run, &Origin::new(json()))
                .expect("free");
            draft.append(1, event, None, true).expect("accepted");
        });
        assert_eq!(settling.settled().await, Settled::Durable);
        let request = ForkRequest {
            source: name("a run"),
            offset: None,
            sub_offset: 0,
        };
        let origin = rig.engine.origin_of_fork(request).await.expect("it is there");
        rig.delete("a run").await;
        gate.hold();
        let settling = draft(&rig, &held, |draft| {
            draft.create(2, StreamKind::Run, &origin).expect("free");
        });
        drop(origin);
        gate.wait_at_gate(0);
        rig.sweep().await;
        gate.open();
        assert_eq!(settling.settled().await, Settled::Durable);
        assert_eq!(rig.text("a run.2").await, "1,");
    });
}

#[test]
fn clients_may_do_to_a_run_what_its_lease_allows() {
    over_all(async |rig: Rig| {
        let held = queue_and(&rig, &["a run"]).await;
        let event =
            |body: &str| EncodedBody::new(ContentKind::Json, &Bytes::copy_from_slice(body.as_bytes()));
        let by_server = |epoch, seq, body: &str, ends| {
            draft(&rig, &held, |draft| {
                if draft.state(1).is_none() {
                    draft
                        .create(1, StreamKind::Run, &Origin::new(json()))
                        .expect("free");
                }
                draft
                    .append(1, event(body), Some(producer("lease", epoch, seq)), ends)
                    .expect("the server may");
            })
        };
        assert_eq!(by_server(0, 0, "0", false).settled().await, Settled::Durable);
        let by_worker = async |epoch, seq| {
            let request = AppendRequest {
                content_type: Some(json()),
                producer: Some(producer("lease", epoch, seq)),
                ..bytes("\"work\"")
            };
            rig.engine.append(&name("a run"), request).await
        };
        let is_lease = |answer: &Result<_, AppendError>| {
            matches!(answer, Err(AppendError::Refused(AppendRefusal::Lease(_))))
        };
        assert!(is_lease(&by_worker(0, 1).await), "nobody holds it");
        assert!(is_lease(&by_worker(1, 0).await), "nobody gave it");
        assert_eq!(by_server(1, 0, "1", false).settled().await, Settled::Durable);
        by_worker(1, 1).await.expect("it is the holder's");
        assert!(by_worker(1, 1).await.expect("a retry").duplicate);
        let token = rig.look("a run").await.incarnation().token(at(2));
        let trimmed = rig.engine.trim(&name("a run"), token).await;
        assert!(trimmed.is_err(), "it is open");
        assert!(rig.engine.delete(&name("a run")).await.is_err(), "it is open");
        assert_eq!(by_server(2, 0, "2", false).settled().await, Settled::Durable);
        let zombie = by_worker(1, 2).await;
        assert!(
            matches!(zombie, Err(AppendError::Refused(AppendRefusal::Producer(_)))),
            "{zombie:?}"
        );
        assert_eq!(by_server(2, 1, "3", true).settled().await, Settled::Durable);
        assert_eq!(rig.text("a run").await, "0,1,\"work\",2,3,");
        let created = rig.create("a run").await;
        assert!(matches!(created, Err(CreateError::Refused(_))), "{created:?}");
        rig.engine
            .trim(&name("a run"), token)
            .await
            .expect("it has ended");
        rig.delete("a run").await;
    });
}

/// A run whose worker has filled it must come to its end all the same.
#[test]
fn a_full_run_still_takes_what_the_server_says() {
    let limits = EngineLimits {
        stream_bytes_max: 10,
        producers_max: 1,
        ..EngineLimits::default()
    };
    over_each(1 << 30, limits, async |rig: Rig| {
        let held = queue_and(&rig, &["a run"]).await;
        let settling = draft(&rig, &held, |draft| {
            draft
                .create(1, StreamKind::Run, &Origin::new(json()))
                .expect("free");
            let event = EncodedBody::new(ContentKind::Json, &Bytes::from_static(b"\"more than ten bytes\""));
            draft
                .append(1, event.clone(), Some(producer("lease", 0, 0)), false)
                .expect("accepted");
            draft
                .append(1, event, Some(producer("lease", 2, 0)), true)
                .expect("accepted");
        });
        assert_eq!(settling.settled().await, Settled::Durable);
        // A queue is as full for the server as for anybody.
        let refused = rig.engine.together(&held, |draft| {
            append(draft, 0, "ten bytes.");
            let one = draft.append(0, text("x"), Some(producer("retry", 0, 0)), false);
            assert!(matches!(one, Err(AppendRefusal::StreamFull { .. })), "{one:?}");
            Err::<(), _>(EngineError::Full)
        });
        assert!(refused.is_err());
    });
}
