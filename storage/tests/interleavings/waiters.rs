//! Readers that wait for what comes: subscribe first, then look, and no wake-up is missed.

use shuttle::future::block_on;

use crate::support::ask::{Rig, name, text_of};
use crate::{check_each, join, spawn};

/// Waits, as a long-poll does, until the stream is longer than `tail` or gone.
async fn wait_beyond(rig: &Rig, tail: u64) -> String {
    let reader = rig.look("a").await;
    let mut news = reader.incarnation().subscribe();
    loop {
        let view = *news.borrow_and_update();
        if view.deleted {
            return "gone".to_owned();
        }
        if view.tail.get() > tail {
            return text_of(&reader).await;
        }
        news.changed().await.expect("the reader holds it");
    }
}

#[test]
fn a_waiter_is_woken_by_an_append_whenever_it_came() {
    check_each(400, |rig| {
        block_on(async { drop(rig.create("a").await.expect("created")) });
        let waiters = [(), ()].map(|()| spawn(&rig, async |rig| wait_beyond(rig, 0).await));
        let writer = spawn(&rig, async |rig| rig.append("a", "x").await.expect("appended"));
        let sweeper = spawn(&rig, async |rig| {
            rig.sweep().await;
            rig.sweep().await;
        });
        assert_eq!(waiters.map(join), ["x", "x"]);
        join(writer);
        join(sweeper);
    });
}

#[test]
fn a_waiter_is_woken_by_a_deletion() {
    check_each(400, |rig| {
        block_on(async { drop(rig.create("a").await.expect("created")) });
        let held = block_on(rig.look("a"));
        let waiter = spawn(&rig, async |rig| {
            // It may be gone before anybody could wait.
            if let Ok(reader) = rig.engine.look(&name("a")).await {
                let mut news = reader.incarnation().subscribe();
                while !news.borrow_and_update().deleted {
                    news.changed().await.expect("the reader holds it");
                }
            }
        });
        let deleter = spawn(&rig, async |rig| rig.delete("a").await);
        join(waiter);
        join(deleter);
        assert!(held.incarnation().view().deleted);
    });
}

#[test]
fn a_follower_of_the_feed_sees_every_tail_in_the_end() {
    check_each(400, |rig| {
        block_on(async { drop(rig.create("a").await.expect("created")) });
        let start = rig.engine.changes().now();
        let follower = spawn(&rig, async move |rig| {
            let mut news = rig.engine.changes().subscribe();
            let mut token = start;
            let mut seen = 0;
            while seen < 3 {
                let page = rig.engine.changes().after(token, "", 10).expect("kept");
                token = page.after;
                for change in &page.changes {
                    let described = rig.engine.describe(&change.name, change.id).await.expect("works");
                    seen = described.expect("there").tail.position().get();
                }
                if page.changes.is_empty() {
                    news.changed().await.expect("the feed is there");
                }
            }
        });
        let writer = spawn(&rig, async |rig| {
            for _ in 0..3 {
                rig.append("a", "x").await.expect("appended");
            }
        });
        join(follower);
        join(writer);
    });
}
