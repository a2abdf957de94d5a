//! Subscriptions and their streams a page at a time: what is read for it, and what is not waited for.

use std::sync::Arc;

use tailwater_storage::stream::subscription::Link;
use tailwater_storage::stream::{OffsetToken, StreamName};
use tailwater_storage::subscriptions::LinksPage;

use super::scene::{Scene, asked, id, over_each, pull, until};
use crate::support::ask::run;
use crate::support::gated::Gated;

/// All pages of a subscription's streams.
async fn pages(scene: &Scene, count_max: usize) -> Vec<(StreamName, Link)> {
    let mut page = LinksPage::first(count_max);
    let mut links = Vec::new();
    loop {
        let described = scene.subscriptions.get(&id("s"), &page).await.expect("there");
        assert!(described.links.len() <= count_max);
        links.extend(described.links);
        if !described.more {
            return links;
        }
        page.after = links.last().map(|(stream, _)| stream.clone());
    }
}

#[test]
fn pages_of_any_length_are_together_all_streams() {
    over_each(|scene| async move {
        for stream in ["jobs/a", "jobs/b", "jobs/c", "orders", "jobs/d"] {
            scene.begin(stream, "before").await;
        }
        scene.made("s", pull(Some("jobs/*"), &["orders", "jobs/b"])).await;
        let all = scene.described("s").await.expect("there");
        assert_eq!((all.links.len(), all.more), (5, false));
        for count_max in 1..7 {
            assert_eq!(
                pages(&scene, count_max).await,
                all.links,
                "in pages of {count_max}"
            );
        }
        let made = scene
            .subscriptions
            .create(asked("s", pull(Some("jobs/*"), &["orders", "jobs/b"])), 2);
        let described = made.await.expect("found").described;
        assert_eq!((described.links.len(), described.more), (2, true));
        // A place between two names will do.
        let behind = LinksPage {
            after: Some(crate::support::ask::name("jobs/bb")),
            count_max: 1,
        };
        let described = scene.subscriptions.get(&id("s"), &behind).await.expect("there");
        assert_eq!(described.links[0].0.as_str(), "jobs/c");
        assert!(described.links[0].1.acked != OffsetToken::START);
    });
}

/// All links were read for each page of them.
#[test]
fn a_page_is_read_alone_however_many_streams_there_are() {
    const STREAMS: usize = 2_000;
    run(async {
        let backend = Gated::inline(1 << 30);
        let scene = Scene::over(Arc::<Gated>::clone(&backend)).await;
        scene.rig.create_json("wakes").await;
        for stream in 0..STREAMS {
            scene.rig.create(&format!("jobs/{stream}")).await.expect("made");
        }
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        let described = scene.described("s").await.expect("there");
        assert_eq!(described.links.len(), STREAMS);
        backend.take_controls_told();
        let mut page = LinksPage::first(10);
        for _ in 0..20 {
            let described = scene.subscriptions.get(&id("s"), &page).await.expect("there");
            assert_eq!(described.links.len(), 10);
            let told = backend.take_controls_told();
            assert!(told <= 11, "{told} keys were read for a page of 10");
            page.after = described.links.last().map(|(stream, _)| stream.clone());
        }
        assert_eq!(scene.subscriptions.list(None, 10).await.0.len(), 1);
        assert_eq!(backend.take_controls_told(), 0, "a listing has no streams");
    });
}

/// A listing waited for each subscription that was being made, and had no more pages if there was one at the end of a page
/// that then never came to be.
#[test]
fn a_listing_does_not_wait_for_a_subscription_that_is_being_made() {
    run(async {
        let backend = Gated::new(1 << 30);
        let scene = Scene::over(Arc::<Gated>::clone(&backend)).await;
        scene.rig.create_json("wakes").await;
        for text in ["a", "c", "e"] {
            scene.made(text, pull(Some("jobs/*"), &[])).await;
        }
        backend.hold();
        let making: Vec<_> = ["b", "d"]
            .into_iter()
            .map(|text| {
                let subscriptions = scene.subscriptions.clone();
                tokio::spawn(async move {
                    let made = subscriptions
                        .create(asked(text, pull(Some("jobs/*"), &[])), 1)
                        .await;
                    made.expect("made");
                })
            })
            .collect();
        until(|| async { (0..2).any(|partition| backend.is_at_gate(partition)) }).await;
        assert_eq!(listed(&scene, 1).await, ["a", "c", "e"]);
        backend.open();
        for made in making {
            made.await.expect("made");
        }
        for count_max in 1..6 {
            assert_eq!(listed(&scene, count_max).await, ["a", "b", "c", "d", "e"]);
        }
        scene.subscriptions.stop();
    });
}

/// All pages of the listing.
async fn listed(scene: &Scene, count_max: usize) -> Vec<String> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let (summaries, more) = scene.subscriptions.list(after.as_ref(), count_max).await;
        ids.extend(summaries.iter().map(|summary| summary.id.to_string()));
        if !more {
            return ids;
        }
        assert_eq!(summaries.len(), count_max);
        after = summaries.last().map(|summary| summary.id.clone());
    }
}
