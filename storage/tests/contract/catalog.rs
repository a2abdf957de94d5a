//! Names, states and listings: what a backend knows of its streams.

use tailwater_storage::Backend;
use tailwater_storage::backend::ListRequest;
use tailwater_storage::stream::{Lifetime, StreamId};

use super::author::{Author, Body, commit, load, name, release_all};
use crate::every_backend;

fn listed(backend: &dyn Backend, prefix: &str, after: Option<&str>, count_max: usize) -> Vec<String> {
    let request = ListRequest {
        prefix,
        after,
        count_max,
    };
    let states = backend.list(&request).expect("the backend works");
    states.iter().map(|state| state.name.to_string()).collect()
}

#[test]
fn an_empty_backend_knows_nothing() {
    every_backend(|backend| {
        assert_eq!(load(backend, "a"), None);
        assert_eq!(listed(backend, "", None, 10), [""; 0]);
        assert_eq!(backend.last_id(), None);
        assert_eq!((backend.usage().streams, backend.usage().bytes), (0, 0));
        assert_eq!(backend.deleted().expect("works"), []);
        assert_eq!(
            backend.due(super::author::millis(u64::MAX), 10).expect("works"),
            []
        );
    });
}

#[test]
fn a_loaded_state_is_the_sum_of_the_streams_transitions() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (id, create) = author.create_living("a", Lifetime::Ttl { seconds: 60 });
        commit(backend, &[create]);
        assert_eq!(load(backend, "a").as_ref(), Some(author.state(id)));
        let batch = [
            author.append(id, Body::many(&["1", "2", "3"])),
            author.trim(id, 2),
            author.touch(id, super::author::millis(500)),
            author.close(id),
        ];
        for record in batch {
            commit(backend, &[record]);
        }
        assert_eq!(load(backend, "a").as_ref(), Some(author.state(id)));
        assert_eq!(author.state(id).messages, 3);
    });
}

#[test]
fn a_deleted_stream_is_loaded_until_it_is_released() {
    every_backend(|backend| {
        let mut author = Author::default();
        let id = author.stream_of(backend, "a", &["x"]);
        commit(backend, &[author.delete(id)]);
        let state = load(backend, "a").expect("not released");
        assert!(state.deleted && state.id == id);
        assert_eq!(backend.deleted().expect("works"), [id]);
        assert_eq!(backend.release(id).expect("works"), None);
        assert_eq!(load(backend, "a"), None);
        assert_eq!(backend.deleted().expect("works"), []);
    });
}

#[test]
fn releasing_an_old_incarnation_leaves_the_name_to_the_new_one() {
    every_backend(|backend| {
        let mut author = Author::default();
        let old = author.stream_of(backend, "a", &["old"]);
        commit(backend, &[author.delete(old)]);
        let new = author.stream_of(backend, "a", &["new"]);
        backend.release(old).expect("works");
        assert_eq!(load(backend, "a").map(|state| state.id), Some(new));
        assert_eq!(listed(backend, "", None, 10), ["a"]);
        assert_eq!(backend.usage().streams, 1);
    });
}

#[test]
fn releasing_twice_does_nothing_the_second_time() {
    every_backend(|backend| {
        let mut author = Author::default();
        let id = author.stream_of(backend, "a", &["x"]);
        commit(backend, &[author.delete(id)]);
        backend.release(id).expect("works");
        let usage = backend.usage();
        assert_eq!(backend.release(id).expect("works"), None);
        assert_eq!(backend.usage(), usage);
    });
}

#[test]
fn a_listing_is_in_order_of_names_and_leaves_out_the_deleted() {
    every_backend(|backend| {
        let mut author = Author::default();
        let ids = ["b", "a/2", "a", "a/10", "ab", "c", "é"].map(|name| author.stream_of(backend, name, &[]));
        commit(backend, &[author.delete(ids[5])]);
        assert_eq!(
            listed(backend, "", None, 100),
            ["a", "a/10", "a/2", "ab", "b", "é"]
        );
        release_all(backend);
        assert_eq!(
            listed(backend, "", None, 100),
            ["a", "a/10", "a/2", "ab", "b", "é"]
        );
    });
}

#[test]
fn a_listing_keeps_to_its_prefix_its_place_and_its_limit() {
    every_backend(|backend| {
        let mut author = Author::default();
        for stream in ["a", "a/1", "a/2", "a/3", "b", "b/1"] {
            author.stream_of(backend, stream, &[]);
        }
        assert_eq!(listed(backend, "a/", None, 100), ["a/1", "a/2", "a/3"]);
        assert_eq!(listed(backend, "a/", None, 2), ["a/1", "a/2"]);
        assert_eq!(listed(backend, "a/", Some("a/2"), 2), ["a/3"]);
        assert_eq!(listed(backend, "a/", Some("a/1x"), 2), ["a/2", "a/3"]);
        assert_eq!(listed(backend, "a/", Some("0"), 1), ["a/1"]);
        assert_eq!(listed(backend, "a/", Some("b"), 100), [""; 0]);
        assert_eq!(listed(backend, "", Some("a/3"), 100), ["b", "b/1"]);
        assert_eq!(listed(backend, "x", None, 100), [""; 0]);
        assert_eq!(listed(backend, "", None, 0), [""; 0]);
    });
}

#[test]
fn a_listing_carries_whole_states() {
    every_backend(|backend| {
        let mut author = Author::default();
        let id = author.stream_of(backend, "a", &["x", "yz"]);
        let request = ListRequest {
            prefix: "",
            after: None,
            count_max: 1,
        };
        assert_eq!(
            backend.list(&request).expect("works"),
            std::slice::from_ref(author.state(id))
        );
    });
}

#[test]
fn the_last_id_stays_when_its_stream_is_gone() {
    every_backend(|backend| {
        let mut author = Author::default();
        author.stream_of(backend, "a", &[]);
        let last = author.stream_of(backend, "b", &[]);
        assert_eq!(backend.last_id(), Some(last));
        commit(backend, &[author.delete(last)]);
        release_all(backend);
        assert_eq!(backend.last_id(), Some(last));
        assert_eq!(last, StreamId::new(2).expect("an id"));
    });
}

#[test]
fn the_ids_of_a_name_stand_in_one_partition_and_those_beside_a_stream_in_that_ones() {
    every_backend(|backend| {
        let id = |at_least, stream, beside| {
            let id = backend.next_id(at_least, &name(stream), beside);
            assert!((at_least..at_least + 256).contains(&id), "{id} for {at_least}");
            StreamId::new(id).expect("an id")
        };
        let first = id(1, "first", None);
        for stream in ["a", "b", "runs/42", "é"] {
            let partition = backend.partition_of(id(1, stream, None));
            assert!(partition < backend.nature().partitions);
            for at_least in [2, 1000, 1_795_000_000_000_000] {
                assert_eq!(backend.partition_of(id(at_least, stream, None)), partition);
                let beside = id(at_least, stream, Some(first));
                assert_eq!(backend.partition_of(beside), backend.partition_of(first));
            }
        }
    });
}
