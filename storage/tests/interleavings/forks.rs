//! Forks that are made while their source is deleted or trimmed: readable for ever, or refused.

use shuttle::future::block_on;

use crate::support::ask::{Rig, name, text_of};
use crate::{check_each, join, spawn};

const BODIES: [&str; 3] = ["aa", "bb", "cc"];

async fn prepare(rig: &Rig) {
    rig.create("a").await.expect("created");
    for body in BODIES {
        rig.append("a", body).await.expect("appended");
    }
}

/// Everything goes, and nothing is left.
async fn clear(rig: &Rig, streams: &[&str]) {
    for stream in streams {
        let _ = rig.engine.delete(&name(stream)).await;
    }
    for _ in 0..3 {
        rig.sweep().await;
    }
    assert_eq!(rig.usage(), (0, 0));
}

#[test]
fn a_fork_that_meets_the_deletion_of_its_source_is_whole_or_refused() {
    check_each(400, |rig| {
        block_on(prepare(&rig));
        let fork = spawn(&rig, async |rig| rig.fork("b/fork", "a").await.is_ok());
        let delete = spawn(&rig, async |rig| rig.delete("a").await);
        let sweeper = spawn(&rig, async |rig| rig.sweep().await);
        let forked = join(fork);
        join(delete);
        join(sweeper);
        block_on(async {
            rig.sweep().await;
            if forked {
                assert_eq!(rig.text("b/fork").await, "aabbcc");
            }
            clear(&rig, &["b/fork"]).await;
        });
    });
}

#[test]
fn a_fork_of_a_fork_that_meets_the_deletion_of_both_is_whole_or_refused() {
    check_each(300, |rig| {
        block_on(async {
            prepare(&rig).await;
            rig.fork("b/middle", "a").await.expect("forked");
            rig.append("b/middle", "own").await.expect("appended");
        });
        let leaf = spawn(&rig, async |rig| rig.fork("leaf", "b/middle").await.is_ok());
        let deletes = ["a", "b/middle"].map(|stream| spawn(&rig, async move |rig| rig.delete(stream).await));
        let forked = join(leaf);
        deletes.into_iter().for_each(join);
        block_on(async {
            rig.sweep().await;
            if forked {
                assert_eq!(rig.text("leaf").await, "aabbccown");
            }
            clear(&rig, &["leaf"]).await;
        });
    });
}

/// A reclaim that had looked for pins before the fork was begun went by a trim that the fork did not see.
#[test]
fn a_fork_that_meets_trims_of_its_source_reads_all_from_its_oldest_position_on() {
    check_each(800, |rig| {
        block_on(prepare(&rig));
        let fork = spawn(&rig, async |rig| {
            drop(rig.fork("b/fork", "a").await.expect("forked"));
        });
        let trims = [2, 4].map(|position| spawn(&rig, async move |rig| rig.trim("a", position).await));
        join(fork);
        trims.into_iter().for_each(join);
        block_on(async {
            rig.sweep().await;
            let reader = rig.look("b/fork").await;
            let oldest = reader.incarnation().view().oldest.get() as usize;
            assert_eq!(text_of(&reader).await, "aabbcc"[oldest..]);
            assert_eq!(rig.text("a").await, "cc");
            drop(reader);
            clear(&rig, &["a", "b/fork"]).await;
        });
    });
}

#[test]
fn a_name_that_is_used_again_while_forks_of_its_last_stream_go_is_free_or_held() {
    check_each(300, |rig| {
        block_on(async {
            prepare(&rig).await;
            rig.fork("b/fork", "a").await.expect("forked");
            rig.delete("a").await;
        });
        let delete = spawn(&rig, async |rig| rig.delete("b/fork").await);
        let create = spawn(&rig, async |rig| rig.create("a").await.is_ok());
        join(delete);
        let created = join(create);
        block_on(async {
            assert_eq!(rig.append("a", "new").await.is_ok(), created);
            if created {
                assert_eq!(rig.text("a").await, "new");
            }
            clear(&rig, &["a"]).await;
        });
    });
}
