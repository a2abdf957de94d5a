//! Which streams are to be looked at because their lifetime may be over.

use tailwater_storage::Backend;
use tailwater_storage::stream::Lifetime;

use super::author::{Author, commit, millis, release_all};
use crate::every_backend;

fn due(backend: &dyn Backend, now: u64, count_max: usize) -> Vec<String> {
    let names = backend.due(millis(now), count_max).expect("the backend works");
    let mut names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

#[test]
fn a_stream_is_due_from_the_end_of_its_lifetime_on_until_it_is_deleted() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (id, create) = author.create_living("a", Lifetime::Until { at: millis(5_000) });
        commit(backend, &[create]);
        author.stream_of(backend, "forever", &["x"]);
        assert_eq!(due(backend, 4_999, 10), [""; 0]);
        assert_eq!(due(backend, 5_000, 10), ["a"]);
        assert_eq!(
            due(backend, 5_000, 10),
            ["a"],
            "it is told again until it is gone"
        );
        commit(backend, &[author.delete(id)]);
        assert_eq!(due(backend, 9_000, 10), [""; 0]);
        release_all(backend);
        assert_eq!(due(backend, 9_000, 10), [""; 0]);
    });
}

/// A use may have gone unrecorded, so a load assumes one an eighth of the window later. A backend that said due
/// before that made the engine load the stream, find it alive, record the assumed use and so never end it.
#[test]
fn a_sliding_lifetime_is_due_once_a_load_would_find_it_over() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (id, create) = author.create_living("a", Lifetime::Ttl { seconds: 16 });
        commit(backend, &[create]);
        let state = author.state(id);
        let assumed = state.lifetime.touched_at_load(state.touched_at);
        let end = state.lifetime.deadline(assumed).expect("it ends").as_millis();
        assert_eq!(end, 1 + 16_000 + 2_000);
        assert_eq!(due(backend, end - 1, 10), [""; 0]);
        assert_eq!(due(backend, end, 10), ["a"]);
    });
}

#[test]
fn every_recorded_use_moves_a_sliding_lifetime() {
    every_backend(|backend| {
        let mut author = Author::default();
        let mut ids = Vec::new();
        for stream in ["appended", "touched", "trimmed", "idle"] {
            let (id, create) = author.create_living(stream, Lifetime::Ttl { seconds: 16 });
            commit(
                backend,
                &[create, author.append(id, super::author::Body::one("x"))],
            );
            ids.push(id);
        }
        // All have been looked at before, so that a deadline that was remembered then does not win.
        assert_eq!(due(backend, 17_000, 10), [""; 0]);
        author.skip_to(10_000);
        let batch = [
            author.append(ids[0], super::author::Body::one("y")),
            author.touch(ids[1], millis(10_000)),
            author.trim(ids[2], 1),
        ];
        commit(backend, &batch);
        assert_eq!(due(backend, 20_000, 10), ["idle"]);
        assert_eq!(due(backend, 27_999, 10), ["idle"]);
        assert_eq!(
            due(backend, 28_100, 10),
            ["appended", "idle", "touched", "trimmed"]
        );
    });
}

#[test]
fn at_most_so_many_are_due_at_once_and_none_is_forgotten() {
    every_backend(|backend| {
        let mut author = Author::default();
        let mut ids = Vec::new();
        for number in 0..10 {
            let until = Lifetime::Until {
                at: millis(100 + number),
            };
            let (id, create) = author.create_living(&format!("s{number}"), until);
            commit(backend, &[create]);
            ids.push((format!("s{number}"), id));
        }
        while !ids.is_empty() {
            let names = due(backend, 1_000, 3);
            assert_eq!(names.len(), ids.len().min(3));
            for stream in names {
                let place = ids
                    .iter()
                    .position(|(name, _)| *name == stream)
                    .expect("not deleted yet");
                let (_, id) = ids.remove(place);
                commit(backend, &[author.delete(id)]);
            }
        }
        assert_eq!(due(backend, 1_000, 3), [""; 0]);
    });
}

#[test]
fn a_lifetime_without_end_is_never_due() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (_, create) = author.create_living("a", Lifetime::Ttl { seconds: u64::MAX });
        commit(backend, &[create]);
        assert_eq!(due(backend, u64::MAX - 1, 10), [""; 0]);
    });
}
