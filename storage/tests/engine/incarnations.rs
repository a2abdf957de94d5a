//! A name that is used again is another stream: its ids grow, and old offsets are not its own.

use tailwater_storage::engine::{AppendError, AppendRequest, DeleteError, TrimError};
use tailwater_storage::stream::{
    AppendRefusal, DeleteRefusal, Offset, OffsetRefusal, OffsetToken, TrimRefusal,
};

use crate::over_all;
use crate::support::ask::{Rig, at, bytes, name};

#[test]
fn a_recreated_stream_has_a_greater_id_and_refuses_old_tokens() {
    over_all(async |rig: Rig| {
        let stream = name("a");
        let mut last = None;
        let mut tokens: Vec<OffsetToken> = Vec::new();
        // The clock stands still, so it alone would give the same id again.
        for round in 0..5 {
            rig.create("a").await.expect("created");
            let body = "x".repeat(10 + round);
            tokens.push(rig.append("a", &body).await.expect("appended").tail);
            let reader = rig.look("a").await;
            let id = reader.incarnation().id;
            assert!(Some(id) > last);
            last = Some(id);
            let view = reader.incarnation().view();
            for old in &tokens[..round] {
                let resolved = reader.resolve(Offset::At(*old), &view).await.expect("works");
                assert_eq!(resolved, Err(OffsetRefusal::Unknown));
                let trimmed = rig.engine.trim(&stream, *old).await;
                assert!(matches!(trimmed, Err(TrimError::Refused(TrimRefusal::Unknown))));
                let expecting = AppendRequest {
                    if_match: Some(*old),
                    ..bytes("y")
                };
                let refused = rig.engine.append(&stream, expecting).await;
                assert!(matches!(
                    refused,
                    Err(AppendError::Refused(AppendRefusal::TailMismatch { .. }))
                ));
                let refused = rig.engine.delete_if(&stream, Some(*old)).await;
                assert!(matches!(
                    refused,
                    Err(DeleteError::Refused(DeleteRefusal::TailMismatch { tail })) if tail == tokens[round]
                ));
            }
            let resolved = reader
                .resolve(Offset::At(tokens[round]), &view)
                .await
                .expect("works");
            assert_eq!(resolved, Ok(at(10 + round as u64)));
            drop(reader);
            let deleted = rig.engine.delete_if(&stream, Some(tokens[round])).await;
            deleted.expect("its tail is there");
        }
    });
}

#[test]
fn a_reader_of_a_deleted_stream_does_not_get_its_successors_bytes() {
    over_all(async |rig: Rig| {
        rig.create("a").await.expect("created");
        rig.append("a", "old").await.expect("appended");
        let old = rig.look("a").await;
        let before = old.incarnation().view();
        let mut news = old.incarnation().subscribe();
        rig.delete("a").await;
        assert!(news.borrow_and_update().deleted, "the deletion wakes its readers");
        rig.create("a").await.expect("created");
        rig.append("a", "new").await.expect("appended");
        assert!(
            !news.has_changed().expect("it is held"),
            "the successor's appends do not"
        );
        assert!(old.read(at(0), &before, 100).await.is_err());
        assert_eq!(rig.text("a").await, "new");
    });
}

#[test]
fn a_stale_reader_is_told_that_bytes_were_trimmed() {
    over_all(async |rig: Rig| {
        rig.create("a").await.expect("created");
        for body in ["one", "two", "three"] {
            rig.append("a", body).await.expect("appended");
        }
        let reader = rig.look("a").await;
        let before = reader.incarnation().view();
        rig.trim("a", 6).await;
        let failure = reader.read(at(0), &before, 100).await;
        let Err(tailwater_storage::engine::ReadFailure::Trimmed { oldest }) = failure else {
            panic!("{failure:?}")
        };
        assert_eq!(oldest.position(), at(6));
        assert_eq!(rig.text("a").await, "three");
        let view = reader.incarnation().view();
        let resolved = reader.resolve(Offset::Start, &view).await.expect("works");
        assert_eq!(resolved, Err(OffsetRefusal::Trimmed { oldest }));
    });
}
