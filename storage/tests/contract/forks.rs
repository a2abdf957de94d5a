//! Forks hold their sources: which streams have any is derived from those that exist.

use tailwater_storage::Backend;
use tailwater_storage::stream::StreamId;

use super::author::{Author, Body, commit, load, text};
use crate::every_backend;

fn has_forks(backend: &dyn Backend, id: StreamId) -> bool {
    backend.has_forks(id).expect("the backend works")
}

/// `source` holds `0123456789`; `fork` branches off at 6 and holds `abcd` behind it.
fn source_and_fork(author: &mut Author, backend: &dyn Backend) -> (StreamId, StreamId) {
    let source = author.stream_of(backend, "source", &["0123", "456789"]);
    let (fork, create) = author.fork(source, "fork", 6);
    commit(backend, &[create, author.append(fork, Body::one("abcd"))]);
    (source, fork)
}

#[test]
fn a_stream_has_forks_as_long_as_one_is_not_released() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (source, fork) = source_and_fork(&mut author, backend);
        let (second, create) = author.fork(source, "second", 2);
        commit(backend, &[create]);
        assert!(has_forks(backend, source) && !has_forks(backend, fork));
        commit(backend, &[author.delete(fork)]);
        assert!(has_forks(backend, source));
        backend.release(fork).expect("works");
        assert!(has_forks(backend, source), "the second one is there");
        commit(backend, &[author.delete(second)]);
        assert!(has_forks(backend, source), "deleted and not released");
        backend.release(second).expect("works");
        assert!(!has_forks(backend, source));
    });
}

#[test]
fn a_fork_at_the_beginning_is_a_fork() {
    every_backend(|backend| {
        let mut author = Author::default();
        let source = author.stream_of(backend, "source", &["x"]);
        let (fork, create) = author.fork(source, "fork", 0);
        commit(backend, &[create]);
        assert!(has_forks(backend, source));
        commit(backend, &[author.delete(fork)]);
        assert_eq!(backend.release(fork).expect("works"), None);
        assert!(!has_forks(backend, source));
    });
}

#[test]
fn a_fork_keeps_only_its_own_bytes_behind_the_fork_point() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (source, fork) = source_and_fork(&mut author, backend);
        assert_eq!(load(backend, "fork").as_ref(), Some(author.state(fork)));
        assert_eq!(text(backend, fork, 6, 10, 100), "abcd");
        assert_eq!(text(backend, source, 0, 6, 100), "012345");
        let extents = backend
            .extents(super::author::request(fork, 6, 10, 100))
            .expect("extents");
        assert_eq!((extents[0].start.get(), extents[0].end.get()), (6, 10));
    });
}

#[test]
fn releasing_a_fork_answers_its_source_only_if_that_is_deleted() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (source, fork) = source_and_fork(&mut author, backend);
        let (second, create) = author.fork(source, "second", 2);
        commit(backend, &[create]);
        commit(backend, &[author.delete(second)]);
        assert_eq!(
            backend.release(second).expect("works"),
            None,
            "the source is alive"
        );
        commit(backend, &[author.delete(source), author.delete(fork)]);
        assert_eq!(backend.release(fork).expect("works"), Some(source));
        assert!(!has_forks(backend, source));
        assert_eq!(backend.release(source).expect("works"), None);
        assert_eq!((backend.usage().streams, backend.usage().bytes), (0, 0));
    });
}

#[test]
fn a_deleted_source_keeps_its_bytes_and_its_name_for_its_forks() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (source, _) = source_and_fork(&mut author, backend);
        commit(backend, &[author.delete(source)]);
        backend.reclaim(source).expect("works");
        assert_eq!(text(backend, source, 0, 6, 100), "012345");
        assert!(load(backend, "source").is_some_and(|state| state.deleted));
    });
}

#[test]
fn a_chain_of_deleted_forks_is_answered_link_by_link() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (source, fork) = source_and_fork(&mut author, backend);
        let (leaf, create) = author.fork(fork, "leaf", 8);
        commit(backend, &[create, author.delete(source), author.delete(fork)]);
        // It branches off within the source's bytes, and is the middle one's fork all the same.
        let (low, create) = author.fork(fork, "low", 3);
        commit(backend, &[create, author.delete(leaf), author.delete(low)]);
        assert_eq!(backend.release(leaf).expect("works"), Some(fork));
        assert!(has_forks(backend, fork) && has_forks(backend, source));
        assert_eq!(backend.release(low).expect("works"), Some(fork));
        assert!(!has_forks(backend, fork));
        assert_eq!(backend.release(fork).expect("works"), Some(source));
        assert_eq!(backend.release(source).expect("works"), None);
        assert_eq!((backend.usage().streams, backend.usage().bytes), (0, 0));
    });
}
