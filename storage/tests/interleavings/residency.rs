//! Streams that leave memory while somebody comes for them.

use shuttle::future::block_on;

use crate::support::ask::{Rig, name};
use crate::{check_each, join, spawn};

async fn sweeps(rig: &Rig) {
    for _ in 0..3 {
        rig.sweep().await;
    }
}

#[test]
fn an_append_that_meets_an_eviction_is_there() {
    check_each(300, |rig| {
        block_on(async {
            rig.create("a").await.expect("created");
            rig.append("a", "0").await.expect("appended");
        });
        let writers = ["1", "2"].map(|body| {
            spawn(&rig, async move |rig| {
                rig.append("a", body).await.expect("appended");
                rig.append("a", body).await.expect("appended");
            })
        });
        let sweeper = spawn(&rig, async |rig| sweeps(rig).await);
        writers.into_iter().for_each(join);
        join(sweeper);
        let text = block_on(rig.text("a"));
        assert_eq!(text.len(), 5);
        assert_eq!((text.matches('1').count(), text.matches('2').count()), (2, 2));
    });
}

#[test]
fn all_who_come_at_once_meet_the_same_incarnation() {
    check_each(300, |rig| {
        block_on(async {
            rig.create("a").await.expect("created");
            sweeps(&rig).await;
        });
        let readers = [(), ()].map(|()| {
            spawn(&rig, async |rig| {
                let reader = rig.look("a").await;
                let news = reader.incarnation().subscribe();
                (reader, news)
            })
        });
        let writer = spawn(&rig, async |rig| rig.append("a", "x").await.expect("appended"));
        let sweeper = spawn(&rig, async |rig| sweeps(rig).await);
        let readers = readers.map(join);
        join(writer);
        join(sweeper);
        for (reader, _) in &readers {
            assert_eq!(
                reader.incarnation().view().tail.get(),
                1,
                "each is shown the append"
            );
        }
    });
}

#[test]
fn names_that_are_not_there_are_forgotten_and_those_that_come_are_kept() {
    check_each(300, |rig| {
        let nobody = spawn(&rig, async |rig| drop(rig.engine.look(&name("a")).await));
        let creator = spawn(&rig, async |rig| drop(rig.create("a").await.expect("created")));
        let deleter = spawn(&rig, async |rig| drop(rig.engine.delete(&name("a")).await));
        join(nobody);
        join(creator);
        join(deleter);
        block_on(async {
            let is_there = rig.engine.look(&name("a")).await.is_ok();
            assert_eq!(rig.append("a", "x").await.is_ok(), is_there);
            sweeps(&rig).await;
            assert_eq!(rig.usage().0, u64::from(is_there));
            assert_eq!(rig.engine.look(&name("a")).await.is_ok(), is_there);
        });
    });
}

/// A listing took a stream that was just being loaded for one that was last used in 1970.
#[test]
fn a_listing_shows_a_stream_that_is_just_being_loaded() {
    check_each(300, |rig| {
        block_on(async {
            rig.create_living("a", 1_000).await;
            sweeps(&rig).await;
        });
        let reader = spawn(&rig, async |rig| drop(rig.look("a").await));
        let lister = spawn(&rig, async |rig| {
            rig.engine
                .list("", None, 10)
                .await
                .expect("a listing")
                .streams
                .len()
        });
        join(reader);
        assert_eq!(join(lister), 1);
    });
}

#[test]
fn a_name_that_somebody_looked_up_in_vain_is_created_once() {
    check_each(400, |rig| {
        let nobody = [(), ()].map(|()| spawn(&rig, async |rig| drop(rig.engine.look(&name("a")).await)));
        let creators = [(), ()].map(|()| {
            spawn(&rig, async |rig| {
                let new = rig.create("a").await.expect("created or there").new;
                rig.append("a", "x").await.expect("appended");
                new
            })
        });
        nobody.into_iter().for_each(join);
        let new = creators.map(join);
        assert!(new[0] != new[1], "one of them made it");
        assert_eq!(block_on(rig.text("a")), "xx");
    });
}
